"""One question to an upstream that judges: asked again where that may help, its answer read within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import orjson

from proxy.api import (
    Body,
    BodyTooLarge,
    Headers,
    ProxyError,
    QueueFull,
    Request,
    Response,
    Services,
    UpstreamError,
)

from .breaker import Blameless, Crowded
from .verdict import Unavailable

T = TypeVar("T")

LONGEST = 2**20  # bytes of an answer; thirty-two results of OpenAI's are 60 KB
PAUSE = 0.2  # seconds before it is asked again, where it does not say how long it wants to be left alone
MAY_PASS = ("rate_limit", "failure", "ambiguous")  # failures that may be over in a moment
OURS = ("invalid", "safety")  # that lie in what was asked: nobody may switch a judge off by asking oddly
# No client's header crosses: these are all there are, but for the upstream's own.
HEADERS = Headers.of(content_type="application/json", accept="application/json", accept_encoding="identity")


class _MayPass(Unavailable):
    """What may go better in `pause` seconds."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = PAUSE if pause is None else pause


async def ask(services: Services, upstream: str, target: str, body: Body, *, due: float) -> Any:
    """The document that the upstream answers to a POST of this JSON. Raises Unavailable.

    The question must be readable twice: what failed in a way that may pass is asked again once, where that fits before
    `due`, on the house's clock. Judging is free to repeat.
    """
    request = Request("POST", target, HEADERS, body)
    try:
        return await _once(services, upstream, request, due)
    except _MayPass as error:
        if services.clock.now() + error.pause >= due:
            raise Unavailable(error.why) from None
        pause = error.pause
    await services.clock.sleep(pause)
    try:
        return await _once(services, upstream, request, due)
    except _MayPass as error:
        raise Unavailable(error.why) from None


async def _once(services: Services, upstream: str, request: Request, due: float) -> Any:
    try:
        response = await services.upstreams.call(upstream, request, deadline=due)
        try:
            return await _document(services, upstream, response)
        finally:
            await response.aclose()
    except BodyTooLarge:
        raise Unavailable("its answer is over 1 MiB") from None
    except QueueFull:
        raise Crowded("the line before it is too long") from None
    except UpstreamError as error:
        if error.timeout:
            raise Unavailable("timed out") from None
        raise _MayPass("broke off" if error.sent else "can't be reached") from None
    except ProxyError as error:
        raise Unavailable(f"was not asked: {error.code}") from None


async def _document(services: Services, upstream: str, response: Response) -> Any:
    status = response.status
    if status != 200:
        raise await _refused(services, upstream, response)
    if (response.headers.get("content-encoding") or "identity").lower() != "identity":
        raise Unavailable("its answer is compressed, which nobody asked for")
    data = await response.body.read(LONGEST)
    try:
        return orjson.loads(data)
    except ValueError:
        raise Unavailable("its answer is not JSON") from None


async def _refused(services: Services, upstream: str, response: Response) -> Unavailable:
    """What an answer that is no verdict is."""
    status = response.status
    if status < 400:
        return Unavailable("answered with a redirect" if status >= 300 else f"answered {status}")
    try:
        said = await response.body.read(LONGEST)
    except (BodyTooLarge, UpstreamError):
        said = b""
    failure = services.failures.classify(status, response.headers, said, sent=True, paid=False, upstream=upstream)
    if failure is None:
        return Unavailable(f"answered {status}")
    why = f"answered {status} ({failure.told.code})" if failure.told.code else f"answered {status}"
    if failure.kind in OURS:
        return Blameless(why)
    return _MayPass(why, failure.retry_after) if failure.kind in MAY_PASS else Unavailable(why)


async def together(jobs: Sequence[Callable[[], Awaitable[T]]], *, at_once: int) -> list[T]:
    """What comes of all jobs, in their order, so many at once. The first that fails ends the others."""
    if len(jobs) < 2:
        return [await job() for job in jobs]
    room = asyncio.Semaphore(at_once)

    async def one(job: Callable[[], Awaitable[T]]) -> T:
        async with room:
            return await job()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(job)) for job in jobs]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
