"""The models that the sandbox claims to have."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ..answer import Answer, Route, told
from ..refusal import Refusal

# Names as in OpenAI's SDK of November 2026; the retired ones (dall-e-*, gpt-image-1) are left out on purpose. The times
# are days of release where a name tells it and made up otherwise; nobody should read meaning into them.
_CREATED = {
    "gpt-image-2.6-sunburst": 1792368000,
    "gpt-image-2.6-flare": 1792368000,
    "gpt-image-2.5-sunburst": 1788825600,
    "gpt-image-2.5-sunburst-2026-09-08": 1788825600,
    "gpt-image-2.5-flare": 1788825600,
    "gpt-image-2.5-flare-2026-09-08": 1788825600,
    "gpt-image-2": 1776729600,
    "gpt-image-2-2026-04-21": 1776729600,
    "gpt-image-1.5": 1765843200,
    "gpt-image-1-mini": 1759708800,
    "chatgpt-image-latest": 1765843200,
    "gpt-5": 1754524800,
    "gpt-5-mini": 1754524800,
    "gpt-5.5": 1776902400,
    "gpt-realtime": 1756339200,
    "omni-moderation-latest": 1731715200,
    "omni-moderation-2024-09-26": 1727308800,
    "text-moderation-latest": 1651363200,
    "text-moderation-stable": 1651363200,
    "text-embedding-3-small": 1705968000,
    "text-embedding-3-large": 1705968000,
    "text-embedding-ada-002": 1670544000,
}
CHAT = frozenset({"gpt-5", "gpt-5-mini", "gpt-5.5"})
REALTIME = frozenset({"gpt-realtime"})
MODERATION = frozenset(name for name in _CREATED if "-moderation-" in name)
EMBEDDING = frozenset(name for name in _CREATED if name.startswith("text-embedding-"))
IMAGE = frozenset(name for name in _CREATED if "-image-" in name)


def free_sizes(model: str) -> bool:
    """Whether it draws any size, and not three alone.

    2.6 is not said to, nor said not to; the tool of the Responses API draws with it, and small ones make quick tests.
    """
    return model.startswith("gpt-image-2")


def marks(model: str) -> bool:
    """Whether it takes a markup overlay."""
    return model.startswith("gpt-image-2.5-")


async def listing(request: web.Request) -> Answer:
    """GET /v1/models."""
    return told({"object": "list", "data": [_model(name) for name in _CREATED]})


async def one(request: web.Request) -> Answer:
    """GET /v1/models/{id}."""
    name = request.match_info["model"]
    if name not in _CREATED:
        raise Refusal(f"The model '{name}' does not exist", param="model", code="model_not_found", status=404)
    return told(_model(name))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED[name], "owned_by": "system"}


ROUTES: tuple[Route, ...] = (("GET", "/v1/models", listing), ("GET", "/v1/models/{model:.+}", one))
