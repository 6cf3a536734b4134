"""One request from its head to the end of its answer: recorded, let in, spoilt if so told."""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import replace

from aiohttp import web
from aiohttp.typedefs import Handler

from . import refusal
from .answer import Answer, Events, Said
from .asked import Asked, look
from .faults import Chosen, choose
from .faults.fault import Play, does_not_fit
from .heard import Heard
from .house import HOUSE, House
from .limits import Place
from .record import Record
from .wire import EXTRA, STARTED, Played, Wire

SAID = web.RequestKey("said", object)
# A header that names the fault of this very request.
BY_HEADER = "x-sandbox-fault"
# What nobody wanted to read of a body is read for so long.
_LINGER = 10.0

_log = logging.getLogger(__name__)


@web.middleware
async def exchange(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every request comes through here."""
    request[STARTED] = time.perf_counter()
    house = request.app[HOUSE]
    heard = Heard.of(request)
    ledger, now = house.ledger, house.time
    record = ledger.open(now.wall(), now.now(), request.method, request.raw_path, request.raw_headers)
    wire = Wire(request, heard, record, now)
    one = _Exchange(house, request, handler, heard, record, wire)
    try:
        return await one.run()
    except ConnectionError:
        record.left = True
        return Played(request, close=True)  # raised, it would be logged as a fault of ours
    finally:
        record.length, record.sha256, record.whole = heard.length, heard.sha256, heard.whole
        if one.place is not None:
            one.place.leave(drawn=record.billed)
        ledger.close(record, now.now())


class _Exchange:
    """What one request needs while it is answered."""

    def __init__(
        self, house: House, request: web.Request, handler: Handler, heard: Heard, record: Record, wire: Wire
    ) -> None:
        self._house, self._request, self._handler = house, request, handler
        self._heard, self._record, self._wire = heard, record, wire
        self._key = ""
        self._linger = True
        self.place: Place | None = None

    async def run(self) -> web.StreamResponse:
        """From the head to the end."""
        try:
            response = await self._answered()
        except refusal.Refusal as exc:
            self._record.billed = False
            response = await self._wire.send(refusal.answer(exc))
        except web.RequestPayloadError:
            response = await self._wire.send(refusal.answer(refusal.unreadable()))
        except ConnectionError:
            raise
        except Exception as exc:  # a fault of the sandbox's own must look like one of OpenAI's
            # The frames say where; the exception's own words might quote the request, so they stay out of the log.
            _log.error("%s in the sandbox\n%s", type(exc).__name__, "".join(traceback.format_tb(exc.__traceback__)))
            if self._wire.started:
                return self._wire.reset()  # half an answer must not look whole
            response = await self._wire.send(refusal.answer(refusal.server_error()))
        if self._linger and not self._heard.whole:
            await self._heard.drain(_LINGER)
        return response

    async def _answered(self) -> web.StreamResponse:
        self._key = self._house.authorize(self._request)
        chosen = self._early()
        if chosen is not None and chosen.fault.early:
            self._linger = False  # aiohttp reads the rest, and nobody counts it
            return await self._play(chosen, None)
        asked = await self._look()
        if chosen is None:
            chosen = self._late(asked)
        if chosen is not None and not chosen.fault.billed:
            await self._heard.finish()  # only an early refusal comes while the client still sends
            return await self._play(chosen, None)
        if chosen is not None and "Upgrade" in self._request.headers:
            raise does_not_fit("a socket has no answer to spoil")
        said = await self._genuine(asked)
        if isinstance(said, web.StreamResponse):  # a socket, and over by now
            self._record.status = said.status
            return said
        return await (self._wire.send(said) if chosen is None else self._play(chosen, said))

    def _early(self) -> Chosen | None:
        """The fault that is known from the head alone."""
        named = self._request.headers.get(BY_HEADER)
        if named is not None:
            return _choose(named, "=")
        return self._house.script.early(self._request.method, self._request.path)

    async def _look(self) -> Asked:
        house = self._house
        thoroughly = house.latency.on or house.limits.counts_images or house.script.asks_for_models
        return await look(self._request, self._heard, self._record.kind, thoroughly=thoroughly)

    def _late(self, asked: Asked) -> Chosen | None:
        if asked.fault is None:
            return self._house.script.take(self._request.method, self._request.path, asked.model)
        chosen = _choose(asked.fault, ":")
        if chosen.fault.early:
            raise does_not_fit("it comes before the body is read, and the model's name stands in the body")
        return chosen

    async def _play(self, chosen: Chosen, said: Said | None) -> web.StreamResponse:
        self._record.fault = chosen.text
        play = Play(self._wire, chosen.value, self._request, self._record.kind, self._house.time.wall(), said)
        played = await chosen.fault.how(play)
        return await self._wire.send(played) if isinstance(played, Answer | Events) else played

    async def _genuine(self, asked: Asked) -> Said | web.StreamResponse:
        """The endpoint's own answer, in its time, within the limits."""
        house, request, since = self._house, self._request, self._house.time.now()
        if house.limits.on:
            self.place = house.limits.enter(self._key, asked.pictures, asked.model)
            request[EXTRA] = self.place.headers
        said = await self._asked_endpoint()
        if isinstance(said, web.StreamResponse):
            return said
        self._record.billed = said.billed
        return await house.latency.delay(said, asked, self._record.kind, self._heard, since)

    async def _asked_endpoint(self) -> Said | web.StreamResponse:
        request = self._request
        # Still escaped: decoded, it might not be text that JSON can hold.
        method, path = request.method, request.rel_url.raw_path
        try:
            response = await self._handler(request)
        except refusal.Refusal as exc:
            return refusal.answer(exc)
        except web.HTTPNotFound:
            return refusal.answer(refusal.unknown_url(method, path))
        except web.HTTPMethodNotAllowed as exc:
            return replace(refusal.answer(refusal.wrong_method(method, path)), headers={"Allow": exc.headers["Allow"]})
        except web.HTTPRequestEntityTooLarge:
            return refusal.answer(refusal.too_large())
        said = request.get(SAID)
        return said if isinstance(said, Answer | Events) else response


def _choose(text: str, sign: str) -> Chosen:
    try:
        return choose(text, sign)
    except ValueError as exc:
        raise refusal.Refusal(f"{str(exc)[0].upper()}{str(exc)[1:]}.", code="sandbox_fault") from exc
