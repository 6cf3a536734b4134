"""The plugin author's view of `proxy.api`, checked by mypy --strict and run by nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal, assert_type

from proxy.api import (
    CALLER,
    SEALED,
    Answer,
    Body,
    Caller,
    Demand,
    Duration,
    Exchange,
    Failure,
    FailureClass,
    Fetched,
    FetchFailed,
    FetchRefused,
    Forward,
    Given,
    Headers,
    Image,
    Means,
    Message,
    Model,
    Operation,
    Outcome,
    Picture,
    Plugin,
    PriceBook,
    Reading,
    Rejected,
    Remote,
    Request,
    Response,
    Said,
    Secret,
    Services,
    Sights,
    Size,
    Slot,
    Text,
    Unreadable,
    Used,
    Vault,
    View,
    demand,
    given,
    name_in,
    operation,
    parts,
    pieces_of,
    refused,
    responded,
    said,
    spoken,
    standing,
    used,
    with_field,
    without_field,
)

SEEN: Slot[int] = Slot("seen")


class Everything(Plugin):
    """Uses every part of the door once."""

    word: str
    token: Secret
    pause: Duration = 2.0
    limit: Size = 2**20
    mode: Literal["block", "flag"] = "block"
    names: tuple[str, ...] = ()

    fills = (SEEN,)
    needs = (CALLER,)
    inside = ("keys",)
    reads = frozenset({"usage"})

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        services.log.info("opened", at=services.clock.now())
        self.upstreams = services.upstreams
        self.remote: Remote = services.remote
        self.sights: Sights = services.sights
        assert_type(self.sights.there, bool)
        self.vault: Vault = services.vault
        digest = await services.vault.digester("receipts")
        assert_type(digest(b"a prompt"), bytes)
        sealed = await services.vault.seal("receipts/1", "a prompt")
        await services.store.put(SEALED, "receipts/1", sealed, ttl=60.0)
        assert_type(await services.vault.open("receipts/1", sealed), str)
        failure = services.failures.classify(429, Headers(), b"", sent=True, paid=False)
        assert_type(failure, Failure | None)
        if failure is not None and failure.next == "yes":
            assert_type(failure.kind, FailureClass)
            assert_type(failure.retry_after, float | None)
        yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        assert_type(exchange[CALLER], Caller)
        assert_type(exchange.get(SEEN), int | None)
        exchange[SEEN] = 1
        if self.word in request.path:
            raise Rejected("Not that word.", code="permission_denied", status=403, param="word")
        exchange.on_finish(self.ended)
        exchange.keep_going()
        kept = request.body.keep(memory=64 * 1024, limit=self.limit)
        assert_type(kept, Body)
        assert_type(await kept.read(self.limit), bytes)
        asked = await operation(request, prefix="/v1")
        assert_type(asked, Operation)
        assert_type(asked.model, str | None)
        assert_type(asked.models, tuple[Model, ...])
        assert_type(self.upstreams.serves("other", asked), Literal[True] | str)
        assert_type(spoken(b"{}")[1], list[Model])
        assert_type(asked.prompts, tuple[Text, ...])
        assert_type(asked.images, tuple[Image, ...])
        if asked.kind == "generate" and asked.capability == "image" and not asked.unseen:
            request = await without_field(await with_field(request, "tools[0].model", "m"), ("tools", 0, "size"))
        async for part in parts(request.body, request.headers.get("content-type")):
            assert_type(part.filename, str | None)
            assert_type(await part.body.read(1), bytes)
        response = await forward(request.with_body(kept).with_headers(x_seen="yes").to("other"))
        response.facts[SEEN] = 2
        reading = response.reading
        assert_type(reading, Reading | None)
        if reading is not None and await reading.verdict() == "image" and reading.error is None:
            reading.images(Takes())
        assert_type(name_in("https://a.test/files/x.png"), str | None)
        if asked.images:
            known = await given(standing(request.body), asked.images[0])
            assert_type(known, Given)
            assert_type(known.bad, str | None)
            assert_type(await self.sights.views(pieces_of(standing(request.body), asked.images[0])), Sequence[View])
        return response.through(self.upper, inward=self.asked, outward=self.said)

    async def upper(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            yield piece.upper()

    async def fetched(self, url: str) -> bytes:
        try:
            async with self.remote.open(url, upstream="other", limit=self.limit) as fetched:
                assert_type(fetched, Fetched)
                assert_type(fetched.media, str | None)
                assert_type(fetched.length, int | None)
                assert_type(await anext(fetched), bytes)
                return b"".join([piece async for piece in fetched])
        except FetchFailed as error:
            assert_type(error.answered, int | None)
        except FetchRefused as error:
            assert_type(error.host, str)
        return b""

    async def asked(self, message: Message) -> Message:
        try:
            told = await said(message.data, "realtime")
            assert_type(told, Said)
            assert_type(told.unseen[0].spoken, bool)
        except Rejected as error:
            raise Answer(Message("text", refused(error, "realtime"))) from error
        except Unreadable as error:
            assert_type(error.why, str)
        assert_type(responded(message.data), str | None)
        return message

    async def said(self, message: Message) -> Message | None:
        return None if message.kind == "ping" else message

    async def ended(self, outcome: Outcome) -> None:
        assert_type(outcome.delivered, int)


async def counted(request: Request, response: Response, means: Means, book: PriceBook) -> int | None:
    """What a request may take and cost, and what it has."""
    most = demand(await operation(request), means)
    assert_type(most, Demand)
    assert_type(book.most(most.model or "", most), int | None)
    came = used(response.reading, response.status, most)
    assert_type(came, Used)
    assert_type(came.shares[0].tokens, int)
    means.learn(most, came)
    return book.cost(most.model or "", came)


class Takes:
    """Takes the pictures of an answer."""

    def wants(self, picture: Picture) -> bool:
        return picture.form == "base64" and picture.kind != "partial"

    async def begun(self, picture: Picture) -> None:
        assert_type(picture.start, int)
        assert_type(picture.event, int)

    async def piece(self, picture: Picture, data: bytes) -> None:
        assert_type(picture.url, str | None)

    async def ended(self, picture: Picture) -> None:
        assert_type(picture.canonical, bool | None)

    async def settled(self, picture: Picture) -> None:
        assert_type(picture.bad, str | None)


class Sometimes(Plugin):
    """Reads where a setting says so."""

    deep: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        return ("images", "usage") if self.deep else ("usage",)


class Judges(Plugin):
    """Holds answers, and looks at them where they come in."""

    reads = ("images",)

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        exchange.inspect(self.inspected)
        response = await exchange.hold(forward, request, until=self.judged(request))
        assert_type(response, Response)
        return response

    async def judged(self, request: Request) -> None:
        raise Rejected("No.")

    async def inspected(self, response: Response) -> Response:
        if response.reading is not None:
            assert_type(response.reading.whole, int)
        if response.attempt is not None:
            response.attempt.withheld = True
        return response


assert_type(Everything(word="x", token=Secret("y")).pause, float)
