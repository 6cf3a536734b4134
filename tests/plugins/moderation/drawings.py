"""Pictures in answers, as the tests of outputs have upstreams draw them."""

from __future__ import annotations

import asyncio
import base64

import orjson

from proxy.testkit import Stage
from tests.images.pictures import png
from tests.plugins.rehost.answers import event

from .watching import WRONG

QUESTION = {"model": "gpt-image-2", "prompt": "tea"}
TALK = "POST /v1/responses"
IMAGES = '[images]\nurl = "file:state/images"\n'


def picture(seed: int = 0, size: int = 100) -> bytes:
    return png(size, seed=seed)


def wrong(seed: int = 0, size: int = 100) -> bytes:
    return png(size, seed=seed) + WRONG


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def drawn(*datas: bytes) -> bytes:
    return orjson.dumps({"created": 1, "data": [{"b64_json": text(data)} for data in datas], "usage": {"a": 1}})


def partial(data: bytes, number: int = 0) -> bytes:
    return event(type="image_generation.partial_image", partial_image_index=number, b64_json=text(data))


def completed(data: bytes) -> bytes:
    return event(type="image_generation.completed", b64_json=text(data), usage={"total_tokens": 7})


def kept(stage: Stage) -> list[str]:
    folder = stage._folder / "state" / "images"
    return [one.name for one in folder.rglob("*") if one.is_file() and one.stat().st_size > 0]


def cut(document: bytes, step: int) -> list[bytes]:
    return [document[at : at + step] for at in range(0, len(document), step)]


async def rounds(count: int = 30) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
