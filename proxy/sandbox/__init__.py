"""An OpenAI-shaped upstream that runs offline: real pictures and short answers, no network, no key, no bill."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

__all__ = ["SandboxError", "application", "serve"]


class SandboxError(Exception):
    """The sandbox can't run here; its text tells the operator what to do."""


def application() -> web.Application:
    """The sandbox as an aiohttp application."""
    # Nothing is imported before it is needed: the command line looks at this module on every start.
    try:
        import PIL.Image  # noqa: F401 - only to learn whether it is there
    except ImportError as exc:
        raise SandboxError("the sandbox draws its pictures with Pillow: pip install 'framegate[images]'") from exc
    from .server import build

    return build()


async def serve(host: str, port: int, *, ready: Callable[[str], None] | None = None) -> None:
    """Serves the sandbox until cancelled; `ready` is told the base URL, with the real port where 0 was asked for."""
    app = application()
    from .server import listen

    await listen(app, host, port, ready)
