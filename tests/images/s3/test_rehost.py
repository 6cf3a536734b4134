"""Base64 becomes URLs whose pictures lie in S3; and stays base64 while S3 is down."""

from __future__ import annotations

import base64
from pathlib import Path

import orjson
import pytest

from plugins.rehost import Rehost
from proxy.images.base import Images
from proxy.testkit import Stage, answer

from ..pictures import png
from ..shelf import content
from .store import Moto, door
from .test_keeping import impatient


async def test_down_slow_and_back(tmp_path: Path, moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.secret_key)
    pictures = [png(400_000, seed=n) for n in range(2)]
    drawn = orjson.dumps({"created": 1, "data": [{"b64_json": base64.b64encode(one).decode()} for one in pictures]})
    upstream = answer(headers={"content-type": "application/json"}, body=drawn)
    async with door(moto) as way:
        settings = f'[images]\nurl = "{moto.url(f"t/{tmp_path.name}", way.port)}"\n'
        async with Stage(Rehost(mode="always"), upstream=upstream, settings=settings) as stage:
            images = stage.services.images
            assert isinstance(images, Images)

            async def ask() -> tuple[bytes, str | None]:
                played = await stage.play("POST /v1/images/generations", json={"prompt": "a"})
                assert played.status == 200 and played.whole
                return played.body, played.headers.get("x-framegate-warning")

            async def rehosted() -> bool:
                told = orjson.loads((await ask())[0])["data"]
                kept = [await content(images, one["url"].rpartition("/")[2]) for one in told]
                return kept == pictures and not any("b64_json" in one for one in told)

            assert await rehosted()
            way.shut(b"PUT")
            with impatient(images):
                assert await ask() == (drawn, "image_store_unavailable")
            await way.down()
            assert await ask() == (drawn, "image_store_unavailable")
            way.go.set()
            await way.up()
            assert await rehosted()
