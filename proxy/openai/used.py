"""What a request has taken, told when its answer is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model.prices import Demand, Share, Used
from ..model.quota import MOST
from ..model.reading import Reading
from .image_tokens import image_tokens

NOTHING = Used(0, 0, 0)


def used(reading: Reading | None, status: int, demand: Demand) -> Used:
    """What came of it: by the answer's own word, and where that tells nothing, what was held for it.

    A request that failed has used nothing. An answer that broke off before it told its usage is charged as held.
    """
    if status >= 300:
        return NOTHING
    if reading is None or status < 200:  # a socket says what it uses in its messages
        return Used(demand.requests, demand.images, demand.tokens, demand.shares)
    if _failed(reading):
        return NOTHING
    images = reading.pictures if reading.complete else max(reading.pictures, demand.images)
    shares = _shares(reading, images, demand)
    tokens = sum(share.tokens for share in shares) if shares else demand.tokens
    told = any(share.told for share in shares)
    return Used(demand.requests, min(MOST, images), min(MOST, tokens), shares, told)


def _failed(reading: Reading) -> bool:
    """Whether an error is all that a 200 holds."""
    if reading.error is None or reading.usage or reading.pictures or reading.partials:
        return False
    said = reading.said
    return not said or said.get("status") == "failed"


def _shares(reading: Reading, images: int, demand: Demand) -> tuple[Share, ...]:
    usage = reading.usage or {}
    if not demand.shares:
        # What nobody knows, and tells of tokens all the same.
        told = _told(Share(reading.said.get("model")), usage)
        return () if told is None else (told,)
    own, *others = demand.shares
    if own.draws:
        own = _drawn(own, reading, images)
        images = 0
    own = _told(own, usage) or own
    tools = [share for share in others if share.draws]
    if images and not tools:
        if reading.tool_usage or "status" in reading.said:
            tools.append(Share(None, draws=True))  # a tool that could not be seen: of a prompt that is kept upstream
        else:
            own = own._replace(images=images, draws=True)  # a chat whose model draws unasked
    shares = [own]
    for tool in tools:  # which of several drew is not told: it is said of the first
        shares.append(Share(tool.model, draws=True) if len(shares) > 1 else _of_tool(tool, reading, images))
    writer = next((share for share in others if not share.draws), None)
    if (written := _of_writer(writer, reading, own.told)) is not None:
        shares.append(written)
    return tuple(shares)


def _drawn(share: Share, reading: Reading, images: int) -> Share:
    """The estimate for so many pictures as came, of the size and quality that they have."""
    if images != share.images:
        each = -(-share.image_out // share.images) if share.images else image_tokens(share.model, None, None)
        share = share._replace(images=images, image_out=min(MOST, each * images))
    size, quality = [said if said != "auto" else None for said in map(reading.said.get, ("size", "quality"))]
    return share._replace(size=size or share.size, quality=quality or share.quality)


def _of_tool(share: Share, reading: Reading, images: int) -> Share:
    usage = (reading.tool_usage or {}).get("image_gen")
    share = _drawn(share, reading, images)
    if isinstance(usage, Mapping) and (told := _told(share, usage)) is not None:
        return told
    return share if images else Share(share.model, draws=True)  # it was never called


def _of_writer(share: Share | None, reading: Reading, told: bool) -> Share | None:
    """Who wrote an SVG; its usage is told apart."""
    usage = reading.svg_usage
    if not usage:
        return None if told else share
    name = usage.get("model")
    share = share or Share(None)
    if type(name) is str:
        share = share._replace(model=name)
    return _told(share, usage) or share


def _told(share: Share, usage: Mapping[str, Any]) -> Share | None:
    """The share by what a `usage` says, in any of its forms; None when it says no number."""
    come, gone = _number(usage, "input_tokens", "prompt_tokens"), _number(usage, "output_tokens", "completion_tokens")
    total = _number(usage, "total_tokens")
    if come is None and gone is None and total is None:
        return None
    come, gone = come or 0, gone or 0
    # Some count thoughts in the total alone: they are output, and paid as such.
    rest = max(0, (total or 0) - come - gone)
    if come or gone or share.text_out or share.image_out:
        gone = min(MOST, gone + rest)
    else:
        come = rest
    image_in = _part(usage, "input_tokens_details", "prompt_tokens_details")
    if image_in is None:
        image_in = share.image_in
    image_out = _part(usage, "output_tokens_details", "completion_tokens_details")
    if image_out is None:  # the last event of a stream has none
        image_out = 0 if not share.draws else share.image_out if share.text_out else gone
    image_in, image_out = min(come, image_in), min(gone, image_out)
    return share._replace(
        text_in=come - image_in, image_in=image_in, text_out=gone - image_out, image_out=image_out, told=True
    )


def _part(usage: Mapping[str, Any], *names: str) -> int | None:
    """The image tokens of the details."""
    for name in names:
        details = usage.get(name)
        if isinstance(details, Mapping) and (found := _number(details, "image_tokens")) is not None:
            return found
    return None


def _number(usage: Mapping[str, Any], *names: str) -> int | None:
    """The first of them that is a number as it can be counted. What an upstream says is not believed blindly."""
    for name in names:
        value = usage.get(name)
        if type(value) is int and 0 <= value <= MOST:
            return value
    return None
