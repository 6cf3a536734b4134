"""What an image request asks for, read and found good, or refused as OpenAI would."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .. import field, markers, usage
from ..endpoints import models
from ..refusal import Refusal, unknown_model

# Everything that generations knows. `style` and `response_format` belonged to DALL-E: the GPT image models refuse them.
_BOTH = frozenset(
    [
        "prompt",
        "model",
        "n",
        "size",
        "quality",
        "background",
        "output_format",
        "output_compression",
        "moderation",
        "stream",
        "partial_images",
        "complexity",
        "frame_count",
        "frame_duration_ms",
        "svg",
        "safety_identifier",
        "user",
    ]
)
GENERATION = _BOTH
EDIT = _BOTH | {"image", "images", "mask", "markup", "input_fidelity"}
FORMATS = ("png", "webp", "jpeg", "gif", "svg")
_LONGEST_PROMPT = 32_000
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)
_FIXED = ("1024x1024", "1536x1024", "1024x1536")  # all that the models without free sizes draw
_LONGEST_EDGE = 3840
# 3840x2160 either way up, or as many pixels in another shape. OpenAI's lower bound (655,360) is left out: small
# pictures make quick tests.
_MOST_PIXELS = 3840 * 2160
_MILD = frozenset(("violence", "harassment"))  # what `moderation: low` lets through


@dataclass(frozen=True, slots=True)
class Source:
    """A picture that came in: its bytes, and what it was found to be."""

    content: bytes
    digest: bytes  # SHA-256 of it
    width: int
    height: int
    transparent: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for pictures. Two that are equal get the same bytes."""

    prompt: str
    model: str
    n: int
    width: int
    height: int
    quality: str
    transparent: bool
    output_format: str
    compression: int
    frames: int = 1
    frame_ms: int = 200
    sources: tuple[Source, ...] = ()
    mask: Source | None = None
    stream: bool = False
    partials: int = 0
    svg_model: str = ""
    user: str | None = None

    @property
    def size(self) -> str:
        """The effective size, in OpenAI's notation."""
        return f"{self.width}x{self.height}"

    @property
    def background(self) -> str:
        """What it is drawn on, in OpenAI's words."""
        return "transparent" if self.transparent else "opaque"


def read(
    body: field.Body,
    known: frozenset[str],
    sources: tuple[Source, ...] = (),
    mask: Source | None = None,
    *,
    judged: bool = True,
) -> Wanted:
    """Reads the fields, or refuses them; `judged`: the prompt, too, where marker words forbid it."""
    for name in body:
        if name not in known:
            raise field.unknown(name)
    prompt = _prompt(body)
    model = field.text(body, "model") or "gpt-image-2"
    if model not in models.IMAGE:
        raise unknown_model(model)
    n = field.whole(body, "n", 1, 10, default=1)
    width, height = _size(body, model)
    quality = field.choice(body, "quality", ("auto", *usage.qualities(model)), default="auto")
    output_format = field.choice(body, "output_format", FORMATS, default="png")
    compression = field.whole(body, "output_compression", 0, 100, default=100)
    background = field.choice(body, "background", ("transparent", "opaque", "auto"), default="auto")
    moderation = field.choice(body, "moderation", ("low", "auto"), default="auto")
    field.choice(body, "complexity", ("low", "medium", "high"), default="medium")
    stream = field.flag(body, "stream")
    partials = field.whole(body, "partial_images", 0, 3, default=0)
    frames = field.whole(body, "frame_count", 2, 16, default=9)
    frame_ms = field.whole(body, "frame_duration_ms", 10, 60_000, default=200)
    svg_model = _svg(body)
    _agree(body, output_format, compression, background, n, mask)
    _fidelity(body, model)
    if judged:
        judge(prompt, lenient=moderation == "low")
    return Wanted(
        prompt=prompt,
        model=model,
        n=n,
        width=width,
        height=height,
        quality="medium" if quality == "auto" else quality,
        transparent=background == "transparent",
        output_format=output_format,
        compression=compression,
        frames=frames if output_format == "gif" else 1,
        frame_ms=frame_ms,
        sources=sources,
        mask=mask,
        stream=stream,
        partials=partials if stream else 0,
        svg_model=svg_model,
        user=field.text(body, "safety_identifier") or field.text(body, "user"),
    )


def judge(prompt: str, *, lenient: bool = False) -> None:
    """Refuses a prompt that marker words forbid."""
    found = [name for name in markers.flagged(prompt) if not (lenient and name in _MILD)]
    if found:
        raise blocked(found)


def blocked(categories: list[str]) -> Refusal:
    """What OpenAI's safety system says of what came in."""
    return Refusal(
        "Your request was rejected by the safety system. If you believe this is an error, contact support.",
        code="moderation_blocked",
        type="image_generation_user_error",
        more={"moderation_details": {"moderation_stage": "input", "categories": categories}},
    )


def _prompt(body: field.Body) -> str:
    prompt = field.text(body, "prompt")
    if prompt is None:
        raise field.missing("prompt")
    if not prompt:
        message = "empty string. Expected a string with minimum length 1, but got an empty string instead."
        raise Refusal(f"Invalid 'prompt': {message}", param="prompt", code="empty_string")
    if len(prompt) > _LONGEST_PROMPT:
        message = (
            f"Expected a string with maximum length {_LONGEST_PROMPT}, but got one with length {len(prompt)} instead."
        )
        raise Refusal(f"Invalid 'prompt': string too long. {message}", param="prompt", code="string_above_max_length")
    return prompt


def _size(body: field.Body, model: str) -> tuple[int, int]:
    size = field.text(body, "size", "auto") or ""
    if size == "auto":
        return 1024, 1024
    if not models.free_sizes(model) and size not in _FIXED:
        supported = ", ".join(f"'{one}'" for one in (*_FIXED, "auto"))
        raise Refusal(
            f"Invalid value: '{size}'. Supported values are: {supported}.", param="size", code="invalid_value"
        )
    found = _SIZE.fullmatch(size)
    if not found:
        message = f"Invalid value: '{size}'. Supported values are: 'auto' and WIDTHxHEIGHT, as in '1536x1024'."
        raise Refusal(message, param="size", code="invalid_value")
    width, height = int(found[1]), int(found[2])
    if width % 16 or height % 16:
        wrong = "width and height must both be divisible by 16"
    elif max(width, height) > 3 * min(width, height):
        wrong = "the aspect ratio must be between 1:3 and 3:1"
    elif max(width, height) > _LONGEST_EDGE or width * height > _MOST_PIXELS:
        wrong = "the maximum supported resolution is 3840x2160"
    else:
        return width, height
    raise Refusal(f"Invalid size '{size}': {wrong}.", param="size", code="invalid_value")


def _svg(body: field.Body) -> str:
    svg = body.get("svg")
    if svg is None:
        return "gpt-5-mini"
    if not isinstance(svg, dict):
        raise field.wrong_type("svg", "an object", svg)
    return field.text(svg, "model") or "gpt-5-mini"


def _fidelity(body: field.Body, model: str) -> None:
    fidelity = body.get("input_fidelity")
    if fidelity is None:
        return
    if model.startswith("gpt-image-2"):
        message = f"input_fidelity is not supported for {model}."
        raise Refusal(message, param="input_fidelity", code="unsupported_parameter")
    field.choice(body, "input_fidelity", ("low",) if model.endswith("-mini") else ("high", "low"), default="low")


def _agree(
    body: field.Body, output_format: str, compression: int, background: str, n: int, mask: Source | None
) -> None:
    """Refuses what is right by itself but not together."""

    def refuse(name: str, message: str, code: str = "invalid_value") -> None:
        raise Refusal(message, param=name, code=code)

    for name, needs in (("frame_count", "gif"), ("frame_duration_ms", "gif"), ("svg", "svg")):
        if body.get(name) is not None and output_format != needs:
            refuse(name, f"'{name}' is only supported with output_format={needs}.")
    if output_format in ("gif", "svg"):
        for name in ("stream", "partial_images", "output_compression"):
            if body.get(name):
                refuse(name, f"'{name}' is not supported with output_format={output_format}.")
        if mask is not None and output_format == "gif":
            refuse("mask", "'mask' is not supported with output_format=gif.")
        if output_format == "svg" and n > 1:
            refuse("n", "Only n=1 is supported with output_format=svg.")
    if output_format == "png" and compression < 100:
        message = "Compression less than 100 is not supported for PNG output format"
        refuse("output_compression", message, "invalid_png_output_compression")
    if background == "transparent" and output_format not in ("png", "webp"):
        refuse("background", f"Transparent background is not supported for {output_format.upper()} output format")
