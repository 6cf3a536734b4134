"""Requests, answers and limits that the tests of quota are made of."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from proxy.api import Caller, Limits
from proxy.testkit import Played, Stage, answer

IMAGE = "POST /v1/images/generations"
CHAT = "POST /v1/chat/completions"
ASK = {"model": "gpt-image-2", "prompt": "tea"}
TALK = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(99)).decode()
PRICES = """
[prices]
"gpt-image-2" = { low = 0.006, medium = 0.053, high = 0.211 }
"gpt-5*" = { input_per_mtok = 1.0, output_per_mtok = 10.0 }
"""


def drawn(count: int = 1, **usage: int) -> Any:
    """An answer with that many pictures."""
    document: dict[str, Any] = {"created": 1, "data": [{"b64_json": PNG} for _ in range(count)]}
    return answer(json=document | ({"usage": usage} if usage else {}))


def said(**usage: int) -> Any:
    """A chat's answer."""
    words = {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
    return answer(json=words | ({"usage": usage} if usage else {}))


def refusal(status: int, code: str | None = None, type: str = "server_error") -> Any:
    """An upstream's error in OpenAI's envelope."""
    return answer(status, json={"error": {"message": "no", "type": type, "param": None, "code": code}})


def limits(**table: Any) -> Limits:
    """`limits(images="20 / 1m", concurrent=5)`."""
    return Limits.read(table)


def ann(group: str | None = None, **table: Any) -> Caller:
    """A caller with limits of their own."""
    return Caller("ann", group, "Ann", limits=limits(**table))


def wait_of(played: Played) -> int:
    """The seconds of its `retry-after`."""
    told = played.headers.get("retry-after")
    assert told is not None and told.isdigit(), played
    return int(told)


async def counted(stage: Stage, query: str = "", facts: Mapping[Any, Any] | None = None) -> dict[str, float]:
    """What counts of each resource, by the caller's own look."""
    played = await stage.play(f"GET /v1/framegate/limits{query}", facts=facts)
    assert played.status == 200, played.body
    return {row["resource"]: row["used"] for row in played.json()["data"]}
