"""Pictures made to order, and kept for a while: the same request gets the same bytes, at once the second time.

A PNG of quality `high` or better weighs what a photograph would, about 3 MB at 1024x1024; lower ones weigh tens of
kilobytes, so that tests that want small answers get them.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections import OrderedDict
from dataclasses import replace

from PIL import Image

from . import picture, vector
from .wanted import Source, Wanted

_MOST = 64 * 2**20  # characters of base64 that are kept
Key = tuple[Wanted, tuple[bytes, ...], int]
_HEAVY = frozenset(("high", "xhigh", "max"))


class Studio:
    """Draws off the loop; one for a running sandbox."""

    def __init__(self) -> None:
        self._made: OrderedDict[Key, tuple[str, ...]] = OrderedDict()
        self._weight = 0

    async def pictures(self, wanted: Wanted, index: int) -> tuple[str, ...]:
        """The picture of that number in base64, after as many earlier states of it as are wanted."""
        came_in = wanted.sources if wanted.mask is None else (*wanted.sources, wanted.mask)
        key = (replace(wanted, user=None, sources=(), mask=None), tuple(one.digest for one in came_in), index)
        made = self._made.get(key)
        if made is None:
            made = await asyncio.to_thread(draw, wanted, index)
            self._keep(key, made)
        else:
            self._made.move_to_end(key)
        return made

    def _keep(self, key: Key, made: tuple[str, ...]) -> None:
        if key not in self._made:  # another request may have drawn it meanwhile
            self._made[key] = made
            self._weight += sum(map(len, made))
        while self._weight > _MOST:
            _, old = self._made.popitem(last=False)
            self._weight -= sum(map(len, old))


def opened(source: Source) -> Image.Image:
    """A picture that came in, decoded."""
    image = Image.open(io.BytesIO(source.content))
    image.load()
    return image


def draw(wanted: Wanted, index: int) -> tuple[str, ...]:
    """The picture of that number in base64, after its earlier states; for a thread."""
    caption = f"{wanted.model} · {wanted.size} · {wanted.quality}"
    if wanted.n > 1:
        caption += f" · {index + 1} of {wanted.n}"
    if wanted.output_format == "svg":
        told = vector.document(wanted.prompt, caption, wanted.width, wanted.height, transparent=wanted.transparent)
        return (_base64(told.encode("utf-8", "replace")),)
    if wanted.sources:
        mask = None if wanted.mask is None else opened(wanted.mask)
        inputs = [opened(source) for source in wanted.sources]
        image = picture.edit(wanted.prompt, caption, inputs, mask, wanted.width, wanted.height, index=index)
    else:
        image = picture.draw(
            wanted.prompt, caption, wanted.width, wanted.height, transparent=wanted.transparent, index=index
        )
        if wanted.mask is not None:
            marked = picture.lit(image, opened(wanted.mask), picture.hue_of(wanted.prompt, index))
            image = marked if wanted.transparent else marked.convert("RGB")
    if wanted.output_format == "gif":
        return (_base64(_film(image, wanted, index)),)
    states = [picture.partial(image, stage) for stage in range(wanted.partials)]
    heavy = wanted.quality in _HEAVY
    return tuple(
        _base64(picture.encode(state, wanted.output_format, wanted.compression, heavy=heavy))
        for state in (*states, image)
    )


def _film(image: Image.Image, wanted: Wanted, index: int) -> bytes:
    first, *rest = picture.frames(image, wanted.frames, wanted.prompt, index)
    out = io.BytesIO()
    first.save(out, "GIF", save_all=True, append_images=rest, duration=wanted.frame_ms, loop=0)
    return out.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
