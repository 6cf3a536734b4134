"""What there is to judge of a request, as the plugin finds it."""

from __future__ import annotations

import json
from typing import Any

from plugins.moderation.matter import matter
from plugins.moderation.verdict import Matter
from proxy.api import Body, Request, Services, operation
from tests.openai.asking import ask

CHAT, RESPOND, GENERATE, EDIT = "/v1/chat/completions", "/v1/responses", "/v1/images/generations", "/v1/images/edits"


async def of(
    services: Services, body: Any, target: str = CHAT, kind: str = "application/json", *, owner: str | None = "ann"
) -> Matter:
    """What a body, sent there, brings."""
    body = body if isinstance(body, bytes | Body) else json.dumps(body).encode()
    return await read(services, ask(body, target, kind), owner)


async def read(services: Services, request: Request, owner: str | None = "ann") -> Matter:
    """What a request brings."""
    return await matter(request, await operation(request), services, owner)


def unseen(found: Matter) -> list[str]:
    """What can't be looked at, as it is told."""
    return [str(one) for one in found.unseen]
