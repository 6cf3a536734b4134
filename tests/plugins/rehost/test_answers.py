"""Pictures out of answers, URLs into their place, and every other byte as it came."""

from __future__ import annotations

import base64
import errno
import gzip
import itertools
import os
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest

from plugins.rehost import Rehost
from plugins.rehost.cutting import Cutting
from proxy.api import Picture
from proxy.testkit import Stage, answer
from tests.images.pictures import png

from .answers import ASK, JSON, SHAPES, SSE, b64, back, event

IMAGES = '[images]\nurl = "file:state/images"\n'


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", [1, 7, 10**6])
async def test_but_for_the_pictures_every_byte_stays(shape: str, step: int) -> None:
    headers, document, count = SHAPES[shape]
    pieces = [document[at : at + step] for at in range(0, len(document), step)]
    async with Stage(Rehost(mode="always"), upstream=answer(headers=headers, pieces=pieces), settings=IMAGES) as stage:
        played = await stage.play(ASK, json={"prompt": "a hat"})
        assert played.status == 200
        original, names = await back(played.body, stage.services)
        expected = document.replace(b'"b64\\u005fjson"', b'"b64_json"')
        assert original == expected
        assert len(names) == count


async def test_a_null_beside_a_picture_does_not_overrule_its_url() -> None:
    """Servers built on typed models write every field, whether it is there or not."""
    text = b64().encode()
    member = rb'"(?:url|b64_json)"\s*:\s*"[^"]*"'
    for document, expected in (
        (b'{"data":[{"b64_json":"%b","url":null,"r":null}]}', b'{"data":[{@,"r":null}]}'),
        (b'{"data":[{"url":null,"b64_json":"%b","r":null}]}', b'{"data":[{@,"r":null}]}'),
        (b'{"data":[{"r":1,"url" : null , "x":[2],"b64_json": "%b"}]}', b'{"data":[{"r":1,"x":[2],@}]}'),
        (b'{"data":[{"b64_json":"%b" , "x":[2] , "\\u0075rl":null } ]}', b'{"data":[{@ , "x":[2]  } ]}'),
        (b'{"data":[{"b64_json":"%b"},{"url":null}]}', b'{"data":[{@},{"url":null}]}'),
        (b'{"data":[{"url":null},{"url":null,"b64_json":"%b"}]}', b'{"data":[{"url":null},{@}]}'),
    ):
        document %= text
        for step in (1, 3, 10**6):
            pieces = [document[at : at + step] for at in range(0, len(document), step)]
            upstream = answer(headers=JSON, pieces=pieces)
            async with Stage(Rehost(mode="always"), upstream=upstream, settings=IMAGES) as stage:
                played = await stage.play(ASK, json={"prompt": "a hat"})
                assert re.sub(member, b"@", played.body) == expected
                assert (await back(played.body, stage.services))[1]


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_middle_of_a_picture_goes_straight_to_its_spool(
    stream: bool, coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing stands between what comes and the flow; else each piece flows."""
    straight, told = [], []
    skim, piece = Cutting.skim, Cutting.piece

    def skims(self: Cutting, picture: Picture, data: Sequence[bytes], *more: Any) -> bool:
        straight.append(sum(map(len, data)))
        return skim(self, picture, data, *more)

    async def tells(self: Cutting, picture: Picture, data: bytes) -> None:
        told.append(len(data))
        await piece(self, picture, data)

    monkeypatch.setattr(Cutting, "skim", skims)
    monkeypatch.setattr(Cutting, "piece", tells)
    pictures = [png(30_000, seed=1), png(30_001, seed=2)]
    texts = [base64.b64encode(data).decode() for data in pictures]
    document = orjson.dumps({"data": [{"b64_json": text} for text in texts]})
    if stream:
        document = b"".join([event(type="image_generation.completed", b64_json=text) for text in texts])
    sent = document if coding == "identity" else gzip.compress(document, 1)
    headers = (SSE if stream else JSON) | {"content-encoding": coding}
    pieces = [sent[at : at + 997] for at in range(0, len(sent), 997)]
    async with Stage(Rehost(mode="always"), upstream=answer(headers=headers, pieces=pieces), settings=IMAGES) as stage:
        played = await stage.play(ASK, json={"prompt": "a hat"})
        original, names = await back(played.body, stage.services)
        assert original == document and len(names) == 2
    assert sum(straight) + sum(told) == 60_001
    if coding == "gzip":
        assert not straight
    else:
        assert sum(straight) > 25_000  # of the first: before the second may, the store must have told of that


@pytest.mark.parametrize("seed", range(60))
async def test_what_can_not_be_kept_stays_to_the_letter(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures in all spellings, cut anywhere, on a disk that is full after some bytes and has room again later."""
    rng = random.Random(seed)
    written = {}
    for index in range(rng.randrange(1, 6)):
        data = png(rng.choice((40, 100, 3000, 9000)) + index, seed=index)
        written[data] = spelled(data, rng)
    document = b'{"data":[%b],"usage":{"total_tokens":1}}' % b",".join(
        [b'{"r":%d,"b64_json":"%b"}' % (index, text) for index, text in enumerate(written.values())]
    )
    document += b"\n" * rng.randrange(3)
    cuts = sorted(rng.randrange(len(document)) for _ in range(rng.choice((0, 1, 5, 300))))
    pieces = [document[a:b] for a, b in itertools.pairwise((0, *cuts, len(document))) if a < b]
    room = [rng.randrange(20_000)]

    def write(descriptor: int, data: memoryview, real: Callable[[int, memoryview], int] = os.write) -> int:
        if room[0] <= 0:
            room[0] = rng.randrange(-2000, 20_000)
            raise OSError(errno.ENOSPC, "full")
        count = real(descriptor, data[: room[0]])
        room[0] -= count
        return count

    monkeypatch.setattr("proxy.images.spool.PIECE", 512)
    monkeypatch.setattr("plugins.rehost.place.HELD", 600)
    monkeypatch.setattr("os.write", write)
    rehost = Rehost(mode="always", keep_b64=seed % 5 == 0)
    async with Stage(rehost, upstream=answer(headers=JSON, pieces=pieces), settings=IMAGES) as stage:
        played = await stage.play(ASK, json={"prompt": "a hat"})
        assert played.status == 200
        if rehost.keep_b64:
            assert re.sub(rb',"url":"[^"]*"', b"", played.body) == document
        else:
            assert (await back(played.body, stage.services, written))[0] == document


def spelled(data: bytes, rng: random.Random) -> bytes:
    """The picture in base64 as somebody may write it in JSON."""
    text = base64.b64encode(data)
    how = rng.randrange(6)
    if how == 0:
        text = text.replace(b"/", b"\\/")
    elif how == 1:
        text = b"\\n".join([text[at : at + 76] for at in range(0, len(text), 76)])
    elif how == 2:
        text = text.rstrip(b"=")
    elif how == 3:
        text = b"data:image/png;base64," + text
    elif how == 4 and len(text) > 400:
        text = text[:300] + b"\\u0041*" + text[300:]  # no base64 at all from there on
    return text
