"""The sandbox's routes, its headers, and its socket."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
import uuid
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler

from . import SandboxError, refusal
from .answer import Answer, Endpoint, Events
from .endpoints import chat, images, models
from .stored import STORED, Stored

# Chat requests may carry pictures as data URLs; aiohttp's own limit is 1 MiB.
_LARGEST_BODY = 64 * 2**20
# Open answers get this long once the sandbox is told to stop; nobody's work is lost in it.
_DRAIN = 2.0
_STARTED = web.RequestKey("started", float)

_log = logging.getLogger(__name__)


def build() -> web.Application:
    """The application with all its routes."""
    app = web.Application(middlewares=[_refuse], client_max_size=_LARGEST_BODY)
    app.on_response_prepare.append(_sign)
    app[STORED] = Stored()
    for part in (models, images, chat):
        for method, path, endpoint in part.ROUTES:
            app.router.add_route(method, path, _handler(endpoint))
            if method == "GET":
                app.router.add_route("HEAD", path, _handler(endpoint))
    return app


def _handler(endpoint: Endpoint) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await _send(request, await endpoint(request))

    return handler


async def _send(request: web.Request, said: Answer | Events) -> web.StreamResponse:
    if isinstance(said, Answer):
        return _response(said)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    async for frame in said.frames:
        await response.write(frame)
    await response.write_eof()
    return response


def _response(answer: Answer) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)
    response.headers.update(answer.headers)
    return response


async def listen(app: web.Application, host: str, port: int, ready: Callable[[str], None] | None) -> None:
    """Serves until cancelled."""
    runner = web.AppRunner(app, access_log=None, logger=_wire_log(), shutdown_timeout=_DRAIN)
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as exc:
            raise SandboxError(f"the sandbox can't listen on {host}:{port}: {exc.strerror or exc}") from exc
        if ready is not None:
            shown = f"[{host}]" if ":" in host else host
            ready(f"http://{shown}:{runner.addresses[0][1]}/v1")
        await asyncio.get_running_loop().create_future()  # nothing ever sets it: only cancellation ends the wait
    finally:
        await runner.cleanup()


@web.middleware
async def _refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever goes wrong into OpenAI's envelope."""
    request[_STARTED] = time.perf_counter()
    # Still escaped: decoded, it might not be text that JSON can hold.
    path = request.rel_url.raw_path
    try:
        return await handler(request)
    except refusal.Refusal as exc:
        return _response(refusal.answer(exc))
    except web.HTTPNotFound:
        return _response(refusal.answer(refusal.unknown_url(request.method, path)))
    except web.HTTPMethodNotAllowed as exc:
        response = _response(refusal.answer(refusal.wrong_method(request.method, path)))
        response.headers["Allow"] = exc.headers["Allow"]
        return response
    except web.HTTPRequestEntityTooLarge:
        return _response(refusal.answer(refusal.Refusal("The request body is too large for the sandbox.", status=413)))
    except ConnectionError:
        raise  # the client left in the middle of an answer: aiohttp knows what to do
    except Exception as exc:  # a fault of the sandbox's own must look like one of OpenAI's
        # The frames say where; the exception's own words might quote the request, so they stay out of the log.
        _log.error("%s in the sandbox\n%s", type(exc).__name__, "".join(traceback.format_tb(exc.__traceback__)))
        message = "The server had an error while processing your request. Sorry about that!"
        return _response(refusal.answer(refusal.Refusal(message, type="server_error", status=500)))


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    """Puts on every answer the headers that OpenAI puts on every answer."""
    now = time.perf_counter()
    spent = now - request.get(_STARTED, now)  # a refused Expect header never comes through the middleware
    response.headers["x-request-id"] = f"req_{uuid.uuid4().hex}"
    response.headers["openai-processing-ms"] = str(round(spent * 1000))
    response.headers["openai-version"] = "2020-10-01"


def _wire_log() -> logging.Logger:
    """Aiohttp's complaints about broken requests, without the bytes that it quotes from them."""
    log = logging.getLogger(f"{__name__}.wire")
    log.addFilter(_without_words)
    return log


def _without_words(record: logging.LogRecord) -> bool:
    if record.exc_info and record.exc_info[0] is not None:
        record.msg, record.args = f"{record.getMessage()}: {record.exc_info[0].__name__}", ()
        record.exc_info = record.exc_text = None
    return True
