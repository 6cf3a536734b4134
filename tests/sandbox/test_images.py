"""Pictures made, edited and streamed, by the official SDK with strict answers; and what a plain client is refused."""

from __future__ import annotations

import base64
import io
import tomllib
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from PIL import Image, ImageChops

from proxy.sandbox import Sandbox, markers, usage
from proxy.sandbox.drawing import picture

Part = tuple[str, bytes, str]


def png(colour: str = "red", size: tuple[int, int] = (64, 64), mode: str = "RGB", form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, form)
    return out.getvalue()


def part(content: bytes, name: str = "a.png") -> Part:
    return (name, content, "image/png")


def opened(b64: str | None) -> Image.Image:
    assert b64 is not None
    return Image.open(io.BytesIO(base64.b64decode(b64, validate=True)))


def hole(size: tuple[int, int] = (64, 64)) -> bytes:
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (16, 16, 48, 48))
    out = io.BytesIO()
    mask.save(out, "PNG")
    return out.getvalue()


@pytest.fixture
async def client() -> AsyncIterator[AsyncOpenAI]:
    async with Sandbox() as sandbox:
        async with AsyncOpenAI(
            base_url=sandbox.url, api_key="sk-any", max_retries=0, _strict_response_validation=True
        ) as client:
            yield client


# --- Formats


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "gif"])
async def test_draws_every_bitmap_of_the_size_asked_for(client: AsyncOpenAI, form: Any) -> None:
    answer = await client.images.generate(model="gpt-image-2", prompt="a heron", size="256x128", output_format=form)
    assert answer.data is not None
    drawn = opened(answer.data[0].b64_json)
    assert (drawn.format, drawn.size) == (form.upper(), (256, 128))
    assert answer.output_format == form and answer.size == "256x128"


async def test_a_gif_has_the_frames_and_the_time_asked_for(client: AsyncOpenAI) -> None:
    more = {"frame_count": 4, "frame_duration_ms": 120}
    answer = await client.images.generate(
        model="gpt-image-2", prompt="a heron", size="128x128", output_format="gif", extra_body=more
    )
    assert answer.data is not None
    film = opened(answer.data[0].b64_json)
    assert (film.n_frames, film.info["duration"]) == (4, 120)  # type: ignore[attr-defined]
    first = film.convert("RGB")
    film.seek(3)
    assert ImageChops.difference(first, film.convert("RGB")).getbbox() is not None, "something moves"


async def test_an_svg_is_a_document_that_holds_the_prompt_as_text(client: AsyncOpenAI) -> None:
    prompt = "</text><script>alert(1)</script> & \x00 tea"
    answer = await client.images.generate(model="gpt-image-2", prompt=prompt, size="256x128", output_format="svg")
    assert answer.data is not None and answer.data[0].b64_json is not None
    root = ElementTree.fromstring(base64.b64decode(answer.data[0].b64_json))
    assert (root.tag, root.get("width"), root.get("height")) == ("{http://www.w3.org/2000/svg}svg", "256", "128")
    assert not [one for one in root.iter() if "script" in one.tag]
    assert "alert(1)" in "".join(root.itertext())
    assert answer.svg_usage is not None and answer.svg_usage.output_tokens > 0


async def test_the_same_request_gets_the_same_bytes_and_another_index_another_picture(client: AsyncOpenAI) -> None:
    one, two = [await client.images.generate(model="gpt-image-2", prompt="tea", size="64x64", n=2) for _ in range(2)]
    assert one.data is not None and two.data is not None
    assert [image.b64_json for image in one.data] == [image.b64_json for image in two.data]
    assert one.data[0].b64_json != one.data[1].b64_json


async def test_high_quality_weighs_what_a_photograph_does(client: AsyncOpenAI) -> None:
    weights = {}
    for quality in ("low", "auto", "high"):
        answer = await client.images.generate(model="gpt-image-2", prompt="tea", quality=quality)  # type: ignore[call-overload]
        weights[quality] = len(base64.b64decode(answer.data[0].b64_json))
    assert max(weights["low"], weights["auto"]) < 100_000 and 1_000_000 < weights["high"] < 4_000_000


# --- Streams


@pytest.mark.parametrize("partials", [0, 1, 3])
async def test_a_stream_shows_the_picture_coming(client: AsyncOpenAI, partials: int) -> None:
    stream = await client.images.generate(
        model="gpt-image-2", prompt="tea", size="128x128", stream=True, partial_images=partials
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == ["image_generation.partial_image"] * partials + [
        "image_generation.completed"
    ]
    shown = [opened(event.b64_json).convert("RGB") for event in events]
    assert {image.size for image in shown} == {(128, 128)}
    assert len({image.tobytes() for image in shown}) == partials + 1
    last = events[-1]
    assert last.type == "image_generation.completed"
    assert last.usage.output_tokens == usage.image_tokens("gpt-image-2", "medium", 128, 128) + 100 * partials
    assert [event.partial_image_index for event in events[:-1]] == list(range(partials))  # type: ignore[union-attr]


async def test_an_edit_streams_under_its_own_names(client: AsyncOpenAI) -> None:
    stream = await client.images.edit(
        model="gpt-image-2", image=part(png()), prompt="tea", size="64x64", stream=True, partial_images=1
    )
    assert [event.type async for event in stream] == ["image_edit.partial_image", "image_edit.completed"]


# --- Edits


async def test_an_edit_shows_what_came_in_and_where_the_mask_is_open(client: AsyncOpenAI) -> None:
    size: Any = "512x512"

    async def edit(**more: Any) -> Image.Image:
        answer = await client.images.edit(model="gpt-image-2", prompt="tea", size=size, **more)
        assert answer.data is not None
        return opened(answer.data[0].b64_json).convert("RGB")

    plain = await edit(image=part(png("red", (256, 256))))
    assert plain.getpixel((256, 160)) == (255, 0, 0), "the picture that came in hangs there"
    masked = await edit(image=part(png("red", (256, 256))), mask=part(hole((256, 256))))
    changed = ImageChops.difference(plain, masked).getbbox()
    assert changed is not None
    left, top, right, bottom = changed
    assert right - left < 512 / 2 and bottom - top < 512 / 2, "the mask's area and nothing else"
    two = await edit(image=[part(png("red", (256, 256))), part(png("#00ff00", (256, 256)), "b.png")])
    assert (0, 255, 0) in {two.getpixel((x, y)) for x in range(0, 512, 4) for y in range(0, 512, 4)}


@pytest.mark.parametrize("count", [1, 2, 16])
async def test_takes_one_file_or_up_to_sixteen(client: AsyncOpenAI, count: int) -> None:
    inputs: Any = part(png()) if count == 1 else [part(png(size=(32, 32)), f"{number}.png") for number in range(count)]
    answer = await client.images.edit(model="gpt-image-2", image=inputs, prompt="tea", size="64x64")
    side = 64 if count == 1 else 32
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == count * usage.input_tokens(side, side)


async def test_a_large_upload_is_taken(client: AsyncOpenAI) -> None:
    heavy = io.BytesIO()
    Image.effect_noise((3000, 3000), 100).convert("RGB").save(heavy, "PNG", compress_level=0)
    inputs: Any = [part(heavy.getvalue(), f"{number}.png") for number in range(3)]
    answer = await client.images.edit(model="gpt-image-2", image=inputs, prompt="tea", size="64x64")
    assert len(heavy.getvalue()) > 25_000_000 and answer.data is not None


async def edited(body: Any) -> tuple[int, dict[str, Any]]:
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        kind = {"json": body} if isinstance(body, dict) else {"data": body}
        async with session.post(f"{sandbox.url}/images/edits", **kind) as response:
            return response.status, await response.json()


def url(content: bytes) -> dict[str, str]:
    return {"image_url": "data:image/png;base64," + base64.b64encode(content).decode()}


async def test_an_edit_may_be_json() -> None:
    body = {"model": "gpt-image-2", "prompt": "tea", "size": "64x64", "images": [url(png())], "mask": url(hole())}
    status, answer = await edited(body)
    assert status == 200 and opened(answer["data"][0]["b64_json"]).size == (64, 64)


JSON_REFUSED = {
    "no picture": ({"images": None}, 400, "missing_required_parameter"),
    "no list": ({"images": "x"}, 400, "invalid_type"),
    "none in the list": ({"images": []}, 400, "missing_required_parameter"),
    "too many": ({"images": [url(png())] * 17}, 400, "array_above_max_length"),
    "both ways at once": ({"images": [{**url(png()), "file_id": "file-1"}]}, 400, "invalid_value"),
    "no such file": ({"images": [{"file_id": "file-nobody"}]}, 404, "file_not_found"),
    "somewhere else": ({"images": [{"image_url": "https://example.com/a.png"}]}, 400, "failed_to_download_image"),
    "a loopback address": ({"images": [{"image_url": "http://127.0.0.1:1/"}]}, 400, "failed_to_download_image"),
    "no base64": ({"images": [{"image_url": "data:image/png;base64,***"}]}, 400, "invalid_base64"),
    "no picture in it": ({"images": [url(b"hello")]}, 400, "invalid_image_file"),
    "a cut picture": ({"images": [url(png(size=(300, 300))[:200])]}, 400, "invalid_image_file"),
    "a gif": ({"images": [url(png(form="GIF"))]}, 400, "invalid_image_file"),
    "a mask of another size": ({"mask": url(hole((80, 80)))}, 400, "invalid_mask_size"),
    "a mask without transparency": ({"mask": url(png())}, 400, "invalid_mask"),
    "fidelity": ({"input_fidelity": "high"}, 400, "unsupported_parameter"),
    "markup, old model": ({"markup": url(hole())}, 400, "unsupported_parameter"),
    "markup and mask": (
        {"model": "gpt-image-2.5-flare", "markup": url(hole()), "mask": url(hole())},
        400,
        "invalid_value",
    ),
    "unknown": ({"colour": "red"}, 400, "unknown_parameter"),
    "response_format": ({"response_format": "url"}, 400, "unknown_parameter"),
    "forbidden": ({"prompt": "flag:hate"}, 400, "moderation_blocked"),
}


@pytest.mark.parametrize(("change", "status", "code"), JSON_REFUSED.values(), ids=JSON_REFUSED.keys())
async def test_refuses_an_edit(change: dict[str, Any], status: int, code: str) -> None:
    body = {"model": "gpt-image-2", "prompt": "tea", "size": "64x64", "images": [url(png())], **change}
    got, answer = await edited({name: value for name, value in body.items() if value is not None})
    assert (got, answer["error"]["code"]) == (status, code), answer


async def test_a_marked_picture_is_refused_with_its_categories() -> None:
    out = io.BytesIO()
    markers.mark(Image.new("RGB", (128, 128), "white"), "violence").save(out, "PNG")
    status, answer = await edited({"model": "gpt-image-2", "prompt": "tea", "images": [url(out.getvalue())]})
    assert status == 400 and answer["error"]["type"] == "image_generation_user_error"
    assert answer["error"]["moderation_details"] == {"moderation_stage": "input", "categories": ["violence"]}


async def test_low_moderation_lets_the_milder_words_through(client: AsyncOpenAI) -> None:
    asked: dict[str, Any] = {"model": "gpt-image-2", "prompt": "flag:violence", "size": "64x64"}
    with pytest.raises(openai.BadRequestError, match="safety system"):
        await client.images.generate(**asked)
    assert (await client.images.generate(**asked, moderation="low")).data


async def test_a_form_that_is_none_is_refused() -> None:
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
            async with session.post(
                f"{sandbox.url}/images/edits", data=b"--y\r\nnonsense", headers={"Content-Type": kind}
            ) as response:
                assert response.status == 400, await response.text()


async def test_brackets_are_nested_fields() -> None:
    form = aiohttp.FormData()
    for name, value in (("prompt", "tea"), ("output_format", "svg"), ("svg[model]", "gpt-5"), ("size", "64x64")):
        form.add_field(name, value)
    form.add_field("image[]", png(), filename="a.png")
    status, answer = await edited(form)
    assert status == 200 and answer["svg_usage"]["model"] == "gpt-5"


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_variations_have_gone(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no longer supported"):
        await client.images.create_variation(image=part(png()))


# --- What it costs


def rows() -> list[tuple[str, str, str, int]]:
    book = tomllib.loads(files("proxy.prices").joinpath("seed.toml").read_text())
    tables = {"gpt-image-2": "gpt-image-2", "gpt-image-2.5": "gpt-image-2.5-flare", "gpt-image-1.5": "gpt-image-1.5"}
    return [
        (model, size, quality, tokens)
        for table, model in tables.items()
        for size, qualities in book["tokens"][table].items()
        for quality, tokens in qualities.items()
    ]


@pytest.mark.parametrize(("model", "size", "quality", "tokens"), rows())
def test_every_row_of_the_price_book_is_what_a_picture_costs(model: str, size: str, quality: str, tokens: int) -> None:
    width, height = map(int, size.split("x"))
    assert usage.image_tokens(model, quality, width, height) == tokens


async def test_usage_counts_text_pictures_in_and_pictures_out(client: AsyncOpenAI) -> None:
    answer = await client.images.edit(
        model="gpt-image-2",
        image=part(png()),
        mask=part(hole()),
        prompt="a cup of tea",
        size="1024x1536",
        quality="low",
    )
    spent = answer.usage
    assert spent is not None and spent.output_tokens == 158
    assert spent.input_tokens_details.text_tokens == 3
    assert spent.input_tokens_details.image_tokens == 2 * usage.input_tokens(64, 64)
    assert spent.total_tokens == spent.input_tokens + spent.output_tokens


def test_a_mark_is_found_in_a_drawn_picture() -> None:
    drawn = picture.draw("tea", "", 256, 256)
    assert markers.flagged_image(drawn) == ()
    assert markers.flagged_image(markers.mark(drawn, "sexual")) == ("sexual",)
