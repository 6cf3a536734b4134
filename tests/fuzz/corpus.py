"""What fuzzing begins with: the recorded requests, and answers of every shape."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from ..openai import answers
from ..openai.asking import RECORDED
from .targets import FORM, WAYS


def seeds(target: str) -> Iterator[bytes]:
    """The inputs to begin with."""
    if target == "scanner":
        for seed in range(300):
            rng = answers.Dice(seed)
            data = answers.stream(rng) if seed % 2 else answers.document(rng)
            if len(data) < 2000:
                yield bytes((seed % 2, *rng.randbytes(3))) + data
        return
    for line in RECORDED.read_bytes().splitlines():
        request = orjson.loads(line)
        kind, body = request["type"] or "", request["body"].encode("latin-1")
        is_form = kind.startswith("multipart/")
        if is_form:  # every seed under the one boundary
            body = body.replace(kind.partition("boundary=")[2].strip('"').encode(), b"B")
        if target == "multipart":
            if is_form:
                yield b"\x07" + body
        elif target == "rewrite":
            yield b"\0\0\0" + body
        else:
            like = [at for at, (_, one) in enumerate(WAYS) if (one == FORM) == is_form]
            same = [at for at in like if WAYS[at][0] == request["target"]]
            way = same[0] if same else like[-1]
            yield bytes((way, 2)) + body
            yield bytes((way + 128, 2)) + body
