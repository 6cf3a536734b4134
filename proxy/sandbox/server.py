"""The sandbox's routes and its sockets."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.typedefs import Handler

from . import SandboxError
from .answer import Endpoint
from .drawing.studio import Studio
from .endpoints import chat, embeddings, files, images, models, moderations, realtime, responses
from .exchange import SAID, exchange
from .house import HOUSE, House
from .stored import STORED, Stored
from .wire import UNSIGNED, signature

# Chat requests may carry pictures as data URLs; aiohttp's own limit is 1 MiB. Multipart bodies, which endpoints stream,
# may be of any length: sixteen images of 50 MB are allowed.
_LARGEST_BODY = 64 * 2**20


def build(house: House) -> web.Application:
    """The application with all its routes."""
    app = web.Application(middlewares=[exchange], client_max_size=_LARGEST_BODY)
    app.on_response_prepare.append(_sign)
    app[HOUSE] = house
    app[STORED] = Stored()
    app[images.STUDIO] = Studio()
    for part in (models, images, chat, responses, moderations, embeddings, files):
        for method, path, endpoint in part.ROUTES:
            app.router.add_route(method, path, _handler(endpoint))
            if method == "GET":
                app.router.add_route("HEAD", path, _handler(endpoint))
    app.router.add_get("/v1/realtime", realtime.session, allow_head=False)
    app.on_shutdown.append(realtime.close)
    return app


def _handler(endpoint: Endpoint) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        request[SAID] = await endpoint(request)
        return _UNSENT

    return handler


# Stands for the answer that an endpoint left with its request: `exchange` sends that one.
_UNSENT = web.StreamResponse()


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    if not request.get(UNSIGNED):
        response.headers.update(signature(request))


async def start(app: web.Application, host: str, port: int, *, drain: float) -> tuple[web.AppRunner, str]:
    """Listens; gives the runner, to be cleaned up by the caller, and the address as the start of a URL."""
    # Undone here, an encoding would hide what was sent.
    runner = web.AppRunner(app, access_log=None, logger=_wire_log(), shutdown_timeout=drain, auto_decompress=False)
    try:
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
    except OSError as exc:
        await runner.cleanup()
        raise SandboxError(f"the sandbox can't listen on {host}:{port}: {exc.strerror or exc}") from exc
    shown = f"[{host}]" if ":" in host else host
    return runner, f"http://{shown}:{runner.addresses[0][1]}"


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
