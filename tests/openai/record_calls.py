"""Calls of the official SDK, and what each asks, as somebody reads it who knows the API."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import openai

PNG = b"\x89PNG\r\n\x1a\n\0\xff--not a boundary\r\n\r\n--\r\n"
URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
PROMPT = 'A "fox", ünder\nthe moon 🦊 \\ back/slash'
Client = openai.OpenAI | openai.AzureOpenAI
Case = tuple[str, Callable[[Client], Any], dict[str, Any]]


def text(path: str, said: str, role: str = "user") -> list[str]:
    return [path, said, role]


def drawn(kind: str, **more: Any) -> dict[str, Any]:
    """What is expected of a drawing."""
    return {"kind": kind, "capability": "image", "paid": True, "texts": [text("prompt", PROMPT)], **more}


def said(kind: str, texts: list[list[str]], **more: Any) -> dict[str, Any]:
    return {"kind": kind, "capability": "text", "texts": texts, **more}


def upload(path: str, media: str = "image/png", name: str = "a.png") -> list[Any]:
    return [path, "upload", name, media, PNG.decode("latin-1")]


def inline(path: str, url: str = URL) -> list[Any]:
    media = url[5 : url.index(";")]
    return [path, "inline", url, media]


REMOTE = "https://example.com/cat.png"
ELSEWHERE = "a picture elsewhere, fetched by the upstream"
STORED = "a file, kept upstream"

GENERATE: list[dict[str, Any]] = [
    {},
    {"model": "gpt-image-2"},
    {"model": "gpt-image-2.6-sunburst", "n": 4, "size": "2048x1152", "quality": "xhigh"},
    {"model": "gpt-image-1.5", "background": "transparent", "output_format": "webp", "output_compression": 80},
    {"model": "gpt-image-2", "stream": True, "partial_images": 2},
    {"model": "gpt-image-2", "stream": False},
    {"model": "gpt-image-2", "n": None, "size": None},
    {"model": "gpt-image-2", "user": "u-1", "safety_identifier": "s-1"},
    {"model": "gpt-image-2", "moderation": "low", "quality": "high"},
    {"model": "dall-e-3", "response_format": "url", "size": "1792x1024", "quality": "hd"},
    {"model": "dall-e-2", "response_format": "b64_json", "n": 10, "size": "256x256"},
    {"model": "gpt-image-2.5-flare", "output_format": "gif", "extra_body": {"frame_count": 9, "complexity": "low"}},
    {
        "model": "gpt-image-2.5-flare",
        "output_format": "svg",
        "extra_body": {"svg": {"model": "gpt-5", "reasoning": {}}},
    },
    {"model": "gpt-image-2", "size": "auto", "quality": "auto", "background": "auto"},
    {"model": "gpt-image-2", "extra_query": {"trace": "a b"}},
    {"model": "chatgpt-image-latest", "n": 1},
    {"model": "gpt-image-2-2026-04-21", "size": "3840x2160", "quality": "medium"},
    {"model": "gpt-image-1-mini", "quality": "low", "output_format": "png", "user": "ünder"},
    {"model": "gpt-image-2.5-sunburst", "quality": "max", "n": 8, "stream": True},
    {"model": "ft:gpt-image:acme::1", "safety_identifier": "s-3"},
    {"model": "gpt-image-2", "output_format": "jpeg", "output_compression": 0, "background": "opaque"},
]
EDIT: list[dict[str, Any]] = [
    {"model": "gpt-image-2"},
    {"model": "gpt-image-2", "n": 2, "size": "1024x1536", "quality": "low"},
    {"model": "gpt-image-1.5", "input_fidelity": "high", "background": "opaque"},
    {"model": "gpt-image-2", "stream": True, "partial_images": 0},
    {"model": "gpt-image-2", "stream": False, "user": "u-2"},
    {"model": "gpt-image-2.5-sunburst", "output_format": "jpeg", "output_compression": 5},
    {"model": "gpt-image-2.5-sunburst", "extra_body": {"safety_identifier": "s-2"}},
    {"model": "dall-e-2", "response_format": "url"},
    {"model": "gpt-image-2.6-flare", "extra_body": {"svg": {"model": "gpt-5"}}},
]
KEPT = ("model", "n", "size", "quality", "background", "output_format", "response_format", "stream", "user")


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """Those of the fields that a request's reader tells, as they were given."""
    found = {key: fields[key] for key in (*KEPT, "safety_identifier") if fields.get(key) is not None}
    if isinstance(found.get("response_format"), dict):
        del found["response_format"]
    return found | {key: value for key, value in fields.get("extra_body", {}).items() if key == "safety_identifier"}


def images() -> list[Case]:
    cases: list[Case] = []
    for fields in GENERATE:
        cases.append(
            ("generate", lambda c, f=fields: c.images.generate(prompt=PROMPT, **f), drawn("generate", **given(fields)))
        )
    for fields in EDIT:
        one = drawn("edit", **given(fields), images=[upload("image")])
        cases.append(("edit one", lambda c, f=fields: c.images.edit(image=picture(), prompt=PROMPT, **f), one))
        two = drawn("edit", **given(fields), images=[upload("image[]"), upload("image[]"), upload("mask")])
        cases.append(
            (
                "edit two",
                lambda c, f=fields: c.images.edit(image=[picture(), picture()], mask=picture(), prompt=PROMPT, **f),
                two,
            )
        )
    for more in ({}, {"model": "dall-e-2", "n": 3}, {"response_format": "url", "size": "512x512", "user": "u"}):
        expected = {"kind": "variation", "capability": "image", "paid": True, **more, "images": [upload("image")]}
        cases.append(("variation", lambda c, m=more: c.images.create_variation(image=picture(), **m), expected))
    bare = drawn("edit", images=[upload("image", "application/octet-stream", "upload")])
    cases.append(("edit bytes", lambda c: c.images.edit(image=PNG, prompt=PROMPT), bare))
    handle = drawn("edit", images=[upload("image", "image/webp", "b.webp")])
    cases.append(("edit file", lambda c: c.images.edit(image=named("b.webp"), prompt=PROMPT), handle))
    return cases


def picture() -> Any:
    return ("a.png", PNG, "image/png")


def named(name: str) -> Any:
    file = io.BytesIO(PNG)
    file.name = name
    return file


def others() -> list[Case]:
    wav = ("a.wav", PNG, "audio/wav")
    heard = {"kind": "audio", "capability": "audio", "paid": True, "unseen": [["file", "an uploaded file"]]}
    embedding = {"kind": "embedding", "capability": "embeddings", "model": "e"}
    moderation = {"kind": "moderation", "capability": "other"}
    both = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": URL}}]
    return [
        (
            "embed",
            lambda c: c.embeddings.create(model="e", input=PROMPT),
            {**embedding, "texts": [text("input", PROMPT)]},
        ),
        (
            "embed several",
            lambda c: c.embeddings.create(model="e", input=["a", "b"]),
            {**embedding, "texts": [text("input[0]", "a"), text("input[1]", "b")]},
        ),
        (
            "embed tokens",
            lambda c: c.embeddings.create(model="e", input=[1, 2, 3]),
            {**embedding, "unseen": [["input", "tokens in the place of a text"]]},
        ),
        ("moderate", lambda c: c.moderations.create(input=PROMPT), {**moderation, "texts": [text("input", PROMPT)]}),
        (
            "moderate both",
            lambda c: c.moderations.create(model="omni-moderation-latest", input=both),
            {
                **moderation,
                "model": "omni-moderation-latest",
                "texts": [text("input[0].text", "a")],
                "images": [inline("input[1].image_url.url")],
            },
        ),
        (
            "complete",
            lambda c: c.completions.create(model="m", prompt=[PROMPT, "b"], n=2, suffix="end", stop=["x"]),
            {
                "kind": "completion",
                "capability": "text",
                "model": "m",
                "n": 2,
                "texts": [text("prompt[0]", PROMPT), text("prompt[1]", "b"), text("suffix", "end")],
            },
        ),
        (
            "speak",
            lambda c: c.audio.speech.create(model="tts", voice="alloy", input=PROMPT, instructions="Softly."),
            {
                "kind": "audio",
                "capability": "audio",
                "paid": True,
                "model": "tts",
                "texts": [text("input", PROMPT), text("instructions", "Softly.", "system")],
            },
        ),
        (
            "transcribe",
            lambda c: c.audio.transcriptions.create(model="whisper-1", file=wav, prompt=PROMPT, stream=True),
            {**heard, "model": "whisper-1", "stream": True, "texts": [text("prompt", PROMPT)]},
        ),
        (
            "transcribe words",
            lambda c: c.audio.transcriptions.create(
                model="whisper-1",
                file=wav,
                timestamp_granularities=["word", "segment"],
                response_format="verbose_json",
                language="en",
            ),
            {**heard, "model": "whisper-1", "response_format": "verbose_json"},
        ),
        (
            "translate",
            lambda c: c.audio.translations.create(model="whisper-1", file=wav),
            {**heard, "model": "whisper-1"},
        ),
        (
            "upload",
            lambda c: c.files.create(file=("a.jsonl", b"{}", "application/jsonl"), purpose="batch"),
            {"kind": "files", "paid": True, "unseen": [["file", "an uploaded file"]]},
        ),
        ("list files", lambda c: c.files.list(limit=3), {"kind": "files"}),
        ("retrieve", lambda c: c.responses.retrieve("resp_a/b c"), {"kind": "other"}),
        ("delete", lambda c: c.models.delete("ft:gpt-5:x"), {"kind": "other", "paid": True}),
        ("models", lambda c: c.models.list(), {"kind": "other"}),
        (
            "batch",
            lambda c: c.batches.create(
                completion_window="24h", endpoint="/v1/images/generations", input_file_id="file-3"
            ),
            {
                "kind": "other",
                "paid": True,
                "texts": [text("completion_window", "24h"), text("endpoint", "/v1/images/generations")],
                "unseen": [["input_file_id", STORED]],
            },
        ),
        (
            "video",
            lambda c: c.post("/videos", body={"model": "sora-2", "prompt": PROMPT, "seconds": "4"}, cast_to=object),
            {"kind": "other", "paid": True, "model": "sora-2", "texts": [text("prompt", PROMPT)]},
        ),
    ]
