"""The whole house with moderation in its chain: one sandbox is the upstream, another one judges."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from proxy.api import Clock
from proxy.sandbox import Sandbox
from proxy.sandbox.record import Record
from proxy.testkit import Answer, RawClient
from proxy.testkit.house import Served, serve

ANN = "sk-ann-0123456789abcdef0123456789abcdef"
JSON = "application/json"
GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
CHAT, RESPOND = "/v1/chat/completions", "/v1/responses"
CONFIG = """
[upstreams.openai]
base_url = "{url}"
api_key = "env:UPSTREAM"
{upstreams}
[keys.ann]
secret = "env:ANN"
endpoints = ["*"]
[plugins.moderation]
{settings}
{more}
[[routes]]
match = "* /v1/*"
chain = {chain}
upstream = "openai"
[[routes]]
match = "* /openai/*"
prefix = "/openai"
chain = {chain}
upstream = "openai"
[[routes]]
match = "* /other/prefix/v1/*"
prefix = "/other/prefix/v1"
chain = {chain}
upstream = "openai"
"""
JUDGE = """
[upstreams.judge]
base_url = "{judge}"
api_key = "env:JUDGE"
"""


@dataclass(slots=True)
class Moderating:
    """The house, its upstream, and who judges."""

    served: Served
    upstream: Sandbox
    judge: Sandbox

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"{self.served.url}/v1"

    async def ask(
        self,
        target: str,
        body: bytes | dict[str, Any],
        kind: str | None = JSON,
        *headers: str,
        method: str = "POST",
        chunked: bool = False,
    ) -> Answer:
        """What comes back for these very bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {target} HTTP/1.1", "Host: a", f"Authorization: Bearer {ANN}", *headers]
        lines += [f"Content-Type: {kind}"] if kind else []
        if chunked:
            pieces = [data[at : at + 5] for at in range(0, len(data), 5)]
            data = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            lines.append("Transfer-Encoding: chunked")
        elif data or method == "POST":
            lines.append(f"Content-Length: {len(data)}")
        async with RawClient(self.served.port) as client:
            return await client.ask("\r\n".join([*lines, "", ""]).encode() + data)

    async def left(self, since: int = 0) -> list[Record]:
        """What has left the house for the upstream, complete."""
        await self.upstream.idle()
        return list(self.upstream.records)[since:]


def error(answer: Answer) -> dict[str, Any]:
    """The error that it is."""
    found: dict[str, Any] = json.loads(answer.body)["error"]
    return found


def blocked(answer: Answer, *categories: str, stage: str = "input") -> bool:
    """Whether it is the refusal of a judged request, to the letter. Raises AssertionError with what it is instead."""
    assert answer.status == 400, (answer.line, answer.body[:400])
    said = error(answer)
    assert (said["type"], said["code"]) == ("image_generation_user_error", "content_policy_violation"), said
    details = {"moderation_stage": stage, "categories": list(categories or ("violence",))}
    assert said["moderation_details"] == details, said
    return True


@asynccontextmanager
async def moderating(
    settings: str = "",
    *,
    more: str = "",
    upstreams: str | None = None,
    chain: Sequence[str] = ("keys", "moderation"),
    clock: Clock | None = None,
    genuine: bool = False,
    url: str | None = None,
) -> AsyncIterator[Moderating]:
    """Serve it. What is asked of the upstream is answered with a word, unless a `genuine` answer matters.

    With a `url` the upstream is that one, and the sandbox has nothing to do.
    """
    async with Sandbox() as upstream, Sandbox(keys=["sk-judge"]) as judge:
        if not genuine:
            upstream.fault("error-200", times=None)
        config = CONFIG.format(
            url=url or upstream.url,
            upstreams=(JUDGE if upstreams is None else upstreams).format(judge=judge.url),
            settings=settings if "upstream" in settings or "rules" in settings else f'upstream = "judge"\n{settings}',
            more=more,
            chain=json.dumps(list(chain)),
        )
        environ = {"ANN": ANN, "UPSTREAM": "sk-upstream", "JUDGE": "sk-judge"}
        async with serve(config, environ=environ, clock=clock) as served:
            yield Moderating(served, upstream, judge)
