"""Outputs over sockets: the sandbox behind, pixels before the judge, OpenAI's SDK in front."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import openai
import pytest
from PIL import Image

from plugins.moderation.outputs import Outputs
from plugins.moderation.verdict import Matter, View
from proxy.api import Exchange, Forward, Request, Response, Services, operation
from proxy.sandbox import Sandbox
from proxy.testkit import Served, serve

from ...plugins_for_tests import told
from .watching import refusal

CONFIG = """
[upstreams.openai]
base_url = "{url}"
api_key = "env:UPSTREAM"
[images]
url = "file:{folder}"
[plugins.outputs]
use = "tests.plugins_for_tests:Reads"
word = "{word}"
[plugins.rehost]
mode = "always"
[[routes]]
match = "* /v1/*"
chain = ["outputs", "rehost", "failover"]
[server]
listen = "127.0.0.1:0"
public_url = "http://pictures.test"
"""


class Pixels:
    """Looks at pictures with Pillow, and refuses the one whose turn a test has named."""

    def __init__(self, refused: int) -> None:
        self.refused = refused
        self.sizes: list[tuple[int, int]] = []
        self.services: Services

    async def __call__(self, matter: Matter) -> None:
        assert not matter.unseen, matter.unseen
        (view,) = await matter.pictures[0].views()
        with Image.open(io.BytesIO(view.data)) as picture:
            picture.load()
            self.sizes.append(picture.size)
        if len(self.sizes) == self.refused:
            raise refusal()

    async def look(self, picture: bytes | IO[bytes]) -> Sequence[View]:
        return [View("png", picture if isinstance(picture, bytes) else picture.read())]

    async def running(self, services: Services) -> AsyncIterator[None]:
        self.services = services
        yield

    async def layer(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        kind = (await operation(request)).kind
        exchange.inspect(Outputs(exchange, self, self.look, self.services.remote, kind))
        return await forward(request)


@asynccontextmanager
async def served(pixels: Pixels, folder: Path) -> AsyncIterator[tuple[Served, Sandbox, openai.AsyncOpenAI]]:
    config = CONFIG.replace("{word}", told(pixels.layer, pixels.running)).replace("{folder}", str(folder))
    async with (
        Sandbox() as sandbox,
        serve(config.replace("{url}", sandbox.url), environ={"UPSTREAM": "sk-up"}) as house,
        openai.AsyncOpenAI(api_key="sk-x", base_url=f"{house.url}/v1", max_retries=0) as client,
    ):
        yield house, sandbox, client


def stored(folder: Path) -> list[str]:
    return [one.name for one in folder.rglob("*") if one.is_file() and one.stat().st_size > 0]


@pytest.mark.parametrize("refused", [0, 3])
async def test_four_pictures_and_one_that_is_refused(refused: int, tmp_path: Path) -> None:
    pixels = Pixels(refused)
    async with served(pixels, tmp_path) as (house, sandbox, client):
        ask = client.images.generate(model="gpt-image-2", prompt="a fox", n=4, size="1024x1024")
        if refused:
            with pytest.raises(openai.BadRequestError) as error:
                await ask
            assert error.value.code == "content_policy_violation" and error.value.type == "image_generation_user_error"
        else:
            pictures = (await ask).data
            assert pictures is not None and all("/files/" in (one.url or "") for one in pictures)
        await sandbox.idle()
        assert len(sandbox.records) == 1 and len(pixels.sizes) == 4
        assert len(stored(tmp_path)) == (0 if refused else 4)
        (line,) = await house.ended(1)
        assert line["attempts"] == ["openai=200"] and line.get("error") == (
            "content_policy_violation" if refused else None
        )


@pytest.mark.parametrize("refused", [0, 1])
async def test_a_stream_with_partial_pictures(refused: int, tmp_path: Path) -> None:
    pixels = Pixels(refused)
    async with served(pixels, tmp_path) as (_, sandbox, client):
        events: list[str] = []

        async def ask() -> None:
            stream = await client.images.generate(
                model="gpt-image-2", prompt="a fox", size="1024x1024", stream=True, partial_images=2
            )
            events.extend([one.type.rpartition(".")[2] async for one in stream])

        if refused:
            with pytest.raises(openai.APIError) as error:
                await ask()
            assert events == [] and error.value.code == "content_policy_violation"
        else:
            await ask()
            assert events == ["partial_image", "partial_image", "completed"]
        await sandbox.idle()
        assert len(sandbox.records) == 1 and (refused or len(pixels.sizes) == 3)


@pytest.mark.parametrize("refused", [0, 1])
async def test_a_response_that_draws(refused: int, tmp_path: Path) -> None:
    pixels = Pixels(refused)
    async with served(pixels, tmp_path) as (_, sandbox, client):
        stream = await client.responses.create(
            model="gpt-5", input="draw a fox", stream=True, tools=[{"type": "image_generation", "partial_images": 1}]
        )
        if refused:
            with pytest.raises(openai.APIError, match="refused"):
                async for one in stream:
                    assert "partial_image" not in one.type
        else:
            kinds = [one.type async for one in stream]
            assert kinds[-1] == "response.completed"
        await sandbox.idle()
        # The final one comes in two events, and is judged once.
        assert refused or len(pixels.sizes) == 2
