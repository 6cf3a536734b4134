"""Pictures that a model will see are there to be judged, each as it stands, and what can't be looked at is named."""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import io
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from PIL import Image

from plugins.moderation.breaker import Crowded
from plugins.moderation.matter import matter
from plugins.moderation.verdict import Matter, Unreadable
from proxy.api import Body, ImageStoreError, Services, StoreError, operation
from proxy.images import sights
from proxy.images.scaler import ANIMATED, BROKEN
from proxy.openai import given
from proxy.openai.given import GONE, LARGEST, NO_SORT, TOO_LONG, TWO_READINGS
from proxy.sandbox.markers import flagged_image, mark
from proxy.testkit import Stage
from tests.images.drawn import encoded, halves
from tests.images.hostile import LIES, SVGS
from tests.openai.asking import Pieces, ask

from .matters import EDIT, RESPOND, of, read, unseen

FORM = "multipart/form-data; boundary=B"
PNG = halves(size=(64, 32))
OURS = "https://pictures.test"
SETTINGS = f'[server]\npublic_url = "{OURS}"\n[images]\nurl = "file:state/images"\n'


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    async with Stage(settings=SETTINGS) as stage:
        yield stage.services


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def noise(size: int) -> bytes:
    """A picture that can't be made small: base64 of it is left where it stands."""
    image = Image.effect_noise((size, size), 90)
    return encoded(mark(image.convert("RGB"), "violence"))


def shown(*urls: str) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"model": "m", "messages": [{"role": "user", "content": parts}]}


def form(*parts: tuple[str, bytes | str]) -> bytes:
    """Fields, and uploads where there are bytes."""
    found = b""
    for name, value in parts:
        head = f'--B\r\nContent-Disposition: form-data; name="{name}"'
        if isinstance(value, bytes):
            found += f'{head}; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'.encode() + value + b"\r\n"
        else:
            found += f"{head}\r\n\r\n{value}\r\n".encode()
    return found + b"--B--\r\n"


async def marks(found: Matter) -> list[tuple[str, tuple[str, ...]]]:
    """What a judge sees in each picture."""
    seen = []
    for sight in found.pictures:
        (view,) = await sight.views()
        seen.append((sight.path, flagged_image(Image.open(io.BytesIO(view.data)))))
    return seen


def cannot(path: str, why: str) -> str:
    return f"{path}: a picture that can't be looked at: {why}"


async def test_pictures_of_every_way_are_seen(services: Services) -> None:
    small, large = encoded(mark(Image.new("RGB", (64, 32)), "sexual")), noise(256)
    assert len(b64(small)) < 4096 < len(b64(large))
    urls = [f"data:image/png;base64,{b64(data)}" for data in (small, large)]
    paths = ["messages[0].content[0].image_url.url", "messages[0].content[1].image_url.url"]
    expected = [(paths[0], ("sexual",)), (paths[1], ("violence",))]
    data = json.dumps(shown(*urls)).encode()
    for body in (data, Pieces(data, 5000), Pieces(data, 70_000, length=False)):
        found = await of(services, body)
        assert await marks(found) == expected and not found.unseen
        assert [sight.digest for sight in found.pictures] == [
            hashlib.blake2b(one, digest_size=32).digest() for one in (small, large)
        ]
    upload = form(("prompt", "x"), ("image[]", small), ("image[]", large), ("mask", small), ("n", "1"))
    for body in (upload, Pieces(upload, 5000)):
        found = await of(services, body, EDIT, FORM)
        assert await marks(found) == [("image[]", ("sexual",)), ("image[]", ("violence",)), ("mask", ("sexual",))]
        assert found.pictures[1].digest == hashlib.blake2b(large, digest_size=32).digest()
    drawn = {"input": [{"type": "image_generation_call", "id": "i", "result": b64(large)}]}
    assert await marks(await of(services, drawn, RESPOND)) == [("input[0].result", ("violence",))]
    edit = {"prompt": "x", "images": [{"image_url": urls[1]}], "mask": {"image_url": urls[0]}}
    found = await of(services, edit, EDIT)
    assert await marks(found) == [("images[0].image_url", ("violence",)), ("mask.image_url", ("sexual",))]
    assert "base64" not in repr(found.pictures) and not found.unseen


async def test_a_picture_can_be_looked_at_again_until_its_request_is_over(services: Services) -> None:
    upload = form(("image", noise(800)))
    request = ask(Pieces(upload, 50_000), EDIT, FORM)
    found = await read(services, request)
    assert len(upload) > 2**20 and request.body.now() is None  # it lies in a file
    assert await marks(found) == await marks(found) == [("image", ("violence",))]
    async with request.body.lent():
        await request.body.aclose()
        assert await marks(found) == [("image", ("violence",))]
    with pytest.raises(Unreadable, match=GONE):
        await found.pictures[0].views()


BAD = [
    ("breaks", lambda text: f"data:image/png;base64,{text[:40]}\n{text[40:]}", TWO_READINGS),
    ("without padding", lambda text: f"data:image/png;base64,{text.rstrip('=')}", TWO_READINGS),
    ("URL-safe", lambda text: "data:image/png;base64," + text.replace("+", "-").replace("/", "_"), TWO_READINGS),
    (
        "bits that nobody reads",
        lambda text: f"data:image/png;base64,{text[:-3]}{chr(ord(text[-3]) + 1)}==",
        TWO_READINGS,
    ),
    ("other signs", lambda text: f"data:image/png;base64,{text[:50]}%2B{text[53:]}", "it is not base64"),
    ("not ASCII", lambda text: f"data:image/png;base64,{text}é", "it is not base64"),
    ("a lone sign", lambda text: f"data:image/png;base64,{text.rstrip('=')[:-2]}AAA", None),
    ("a charset", lambda text: f"data:image/png;charset=utf-16;base64,{text}", "another kind"),
    ("two heads", lambda text: f"data:image/png;base64;base64,{text}", "another kind"),
    ("of no type", lambda text: f"data:text/html;base64,{text}", "another kind"),
    ("no base64", lambda text: f"data:image/png,{text}", "another kind"),
    ("an SVG", lambda text: f"data:image/svg+xml;base64,{b64(SVGS['script'])}", NO_SORT),
    ("a document", lambda text: f"data:image/png;base64,{b64(LIES['a document'])}", NO_SORT),
    ("a path", lambda text: "/files/aaaaaaaaaaaaaaaaaaaaaaaaaa.png", None),
    ("nothing", lambda text: "data:image/png;base64,", NO_SORT),
]


@pytest.mark.parametrize(("how", "why"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_what_can_be_read_in_two_ways_is_unseen(services: Services, how: Any, why: str | None) -> None:
    small = encoded(Image.new("RGB", (64, 33), "red"))
    while not b64(small).endswith("=="):
        small += b"\0"  # behind its end, where nobody looks
    for data in (small, small + bytes(4095)):  # short, and left where it stands
        url = how(b64(data))
        found = await of(services, shown(url))
        assert not found.pictures and len(found.unseen) == 1
        assert found.unseen[0].path.startswith("messages[0].content[0].image_url")
        if why is not None:
            assert why in found.unseen[0].what or "base64 in the place" in found.unseen[0].what
        assert b64(data)[:20] not in str(found.unseen)


async def test_a_head_in_other_letters_is_read_as_it_stands(services: Services) -> None:
    for data in (PNG, noise(128)):
        for head in ("data:image/png;base64,", "DATA:IMAGE/PNG;BASE64,", "data:image/jpeg;base64,", "data:;base64,"):
            found = await of(services, shown(head + b64(data)))
            assert len(found.pictures) == 1 and not found.unseen, (head, unseen(found))


async def test_where_nobody_can_look_at_the_moment_it_is_not_the_pictures_fault(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = await kept(services)
    found = await of(services, shown(f"data:image/png;base64,{b64(PNG)}", ours))
    monkeypatch.setattr(sights, "WAITING", 0)
    for sight in found.pictures:
        with pytest.raises(Crowded, match="Too many pictures"):
            await sight.views()

    async def broken(*given: Any) -> None:
        raise ImageStoreError("The disk is gone.")

    monkeypatch.setattr(services.images, "body", broken)
    with pytest.raises(Crowded, match="The disk is gone"):
        await found.pictures[1].views()


async def test_uploads_that_are_no_pictures_are_unseen(services: Services) -> None:
    body = form(("image[]", SVGS["script"]), ("image[]", b""), ("image[]", b"not a picture"), ("image[]", PNG))
    found = await of(services, body, EDIT, FORM)
    assert len(found.pictures) == 1 and unseen(found) == [cannot("image[]", NO_SORT)] * 3


async def test_animations_and_broken_ones_are_unreadable(services: Services) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    moving = encoded(frames[0], "gif", save_all=True, append_images=frames[1:], duration=50)
    found = await of(services, form(("image[]", moving), ("image[]", PNG[:100])), EDIT, FORM)
    for sight, why in zip(found.pictures, (ANIMATED, BROKEN), strict=True):
        with pytest.raises(Unreadable) as unreadable:
            await sight.views()
        assert unreadable.value.why == why


async def test_one_that_is_too_large_is_unseen(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "LARGEST", 3000)
    exact, large = PNG + bytes(3000 - len(PNG)), PNG + bytes(3001 - len(PNG))
    found = await of(services, form(("image[]", large), ("image[]", exact)), EDIT, FORM)
    assert unseen(found) == [cannot("image[]", TOO_LONG)] and len(found.pictures) == 1
    long = PNG + bytes(4000)
    found = await of(services, shown(*[f"data:image/png;base64,{b64(data)}" for data in (large, long, exact)]))
    paths = [f"messages[0].content[{at}].image_url.url" for at in range(2)]
    assert unseen(found) == [cannot(path, TOO_LONG) for path in paths] and len(found.pictures) == 1


# --- pictures of ours


async def kept(services: Services, data: bytes = PNG, owner: str | None = "ann") -> str:
    async with services.images.spool(owner=owner) as spool:
        spool.write(data)
        return (await spool.commit()).url


async def test_a_picture_of_ours_is_looked_at(services: Services) -> None:
    url = await kept(services, encoded(mark(Image.new("RGB", (64, 32)), "violence")))
    assert url.startswith(f"{OURS}/files/")
    found = await of(services, shown(url, "https://a.test/b.png", f"{url}?x=1"))
    assert await marks(found) == [(f"messages[0].content[{at}].image_url.url", ("violence",)) for at in (0, 2)]
    assert unseen(found) == ["messages[0].content[1].image_url.url: a picture elsewhere, fetched by the upstream"]
    assert found.pictures[0].digest == found.pictures[1].digest and len(found.pictures[0].digest) == 32
    nobodys = await kept(services, owner=None)
    assert len((await of(services, shown(nobodys), owner=None)).pictures) == 1
    await services.images.delete(url.rpartition("/")[2])
    with pytest.raises(Unreadable, match="not there any more"):
        await found.pictures[0].views()


async def test_several_under_one_name_are_told_apart(services: Services) -> None:
    url = await kept(services)
    body = form(("image[]", "https://a.test/b.png"), ("image[]", url), ("image[]", "https://a.test/c.png"))
    found = await of(services, body, EDIT, FORM)
    assert len(found.pictures) == 1
    assert unseen(found) == ["image[]: a picture elsewhere, fetched by the upstream"] * 2


async def test_what_only_looks_like_ours_is_unseen(services: Services) -> None:
    url, name = await kept(services), ""
    name = url.rpartition("/")[2]
    other, svg = await kept(services, owner="bob"), await kept(services, SVGS["script"])
    for liar in (
        other,
        svg,
        url.replace("https", "http"),
        url.replace(".test", ".test:444"),
        url.replace("pictures.", "pictures.evil."),
        url.replace("https://", "https://pictures.test@evil.test/"),
        f"https://evil.test/files/{name}",
        f"{OURS}/v1/files/{name}",
        f"{OURS}/files/{'a' * 26}.png",
        f"{url}?w=256",
        f"{url}?x&%77=256",
        f"{url}#x",
        f"{url}/",
        url.replace("/files/", "/files/../files/"),
    ):
        found = await of(services, shown(liar))
        assert not found.pictures and len(found.unseen) == 1, liar
    assert not (await of(services, shown(url), owner=None)).pictures


async def test_while_the_store_is_down_nobody_knows_whose_it_is(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await kept(services)

    async def down(*given: Any) -> None:
        raise StoreError("The store is down.")

    monkeypatch.setattr(services.images, "find", down)
    assert len((await of(services, shown(url))).unseen) == 1


# --- many and large


def uploads(count: int, size: int) -> Iterator[bytes]:
    """A form with so many large pictures, piece by piece."""
    for at in range(count):
        head = f'--B\r\nContent-Disposition: form-data; name="image[]"; filename="{at}"\r\n\r\n'
        yield head.encode() + PNG
        left = size - len(PNG)
        while left > 0:
            yield bytes(min(2**18, left))
            left -= 2**18
        yield b"\r\n"
    yield b"--B--\r\n"


class Coming(Body):
    """A body that is made as it is read, once."""

    def __init__(self, pieces: Iterator[bytes], length: int) -> None:
        self._pieces = pieces
        self.length = length

    def now(self) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


async def many(services: Services, count: int, size: int) -> None:
    """They are summed and looked at in little memory, while others have their turns."""
    length = sum(map(len, uploads(count, size)))
    request = ask(Coming(uploads(count, size), length), EDIT, FORM)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    asked = await operation(request)
    gc.collect()
    tracemalloc.start()
    other = asyncio.create_task(others())
    try:
        found = await matter(request, asked, services, None)
        assert len(found.pictures) == count and not found.unseen
        assert len({sight.digest for sight in found.pictures}) == 1
        assert turns >= count * size // given.STEP
        looked = await asyncio.gather(*[sight.views() for sight in found.pictures])
        assert all(len(views) == 1 for views in looked)
        # Python's memory: a picture before each decoder is in its file, but for the piece that is on its way there.
        assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
    finally:
        tracemalloc.stop()
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        await request.body.aclose()


async def test_many_uploads_take_little_memory_and_keep_nobody_waiting(services: Services) -> None:
    await many(services, 5, 3 * 2**20)


@pytest.mark.long
async def test_800_megabytes_take_little_memory_and_keep_nobody_waiting(services: Services) -> None:
    await many(services, 16, LARGEST)
