"""An OpenAI-shaped upstream that runs offline: real pictures and short answers, no network, no key, no bill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self, Unpack

    from aiohttp import web

    from .clock import Clock
    from .house import House
    from .record import Counters, Record

__all__ = ["Sandbox", "SandboxError", "application", "serve"]

# Open answers get this long once the sandbox is told to stop; nobody's work is lost in it.
_DRAIN = 2.0
_DRAIN_OF_A_TEST = 0.1


class SandboxError(Exception):
    """The sandbox can't run here; its text tells the operator what to do."""


class Settings(TypedDict, total=False):
    """What can be set; docs/sandbox.md says what each does."""

    keys: Sequence[str]
    rpm: int | None
    ipm: int | None
    concurrent: int | None
    latency: float | Literal["real"] | None
    clock: Clock | None
    kept: int


class Sandbox:
    """A sandbox for the length of an `async with`, on a port of its own, with its control port."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        control: tuple[str, int] = ("127.0.0.1", 0),
        **settings: Unpack[Settings],
    ) -> None:
        self._address = host, port
        self._control = control
        self._house = _house(settings)
        self._runners: list[web.AppRunner] = []
        self.url = ""  # the base URL, with /v1, once it listens
        self.control_url = ""

    async def __aenter__(self) -> Self:
        from . import control, server

        try:
            for app, address in (
                (server.build(self._house), self._address),
                (control.build(self._house), self._control),
            ):
                runner, url = await server.start(app, *address, drain=_DRAIN_OF_A_TEST)
                self._runners.append(runner)
                self.url, self.control_url = self.url or f"{url}/v1", url
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        self.url = self.control_url = ""
        while self._runners:
            await self._runners.pop().cleanup()

    @property
    def records(self) -> list[Record]:
        """The requests so far, oldest first, those in flight included."""
        return list(self._house.ledger.records)

    @property
    def counters(self) -> Counters:
        """The sums of them."""
        return self._house.ledger.counters

    def fault(
        self,
        name: str | Sequence[str],
        *,
        times: int | None = 1,
        match: str | None = None,
        model: str | None = None,
    ) -> None:
        """Lets the next requests that match meet a fault, or a row of them, one each ("ok": a genuine answer)."""
        self._house.script.tell([name] if isinstance(name, str) else name, times=times, match=match, model=model)

    def clear(self) -> None:
        """Forgets the faults told and the requests seen."""
        self._house.script.clear()
        self._house.ledger.clear()

    async def idle(self) -> None:
        """Waits until no request is in flight, so that every record is complete."""
        await self._house.ledger.idle()


def application(**settings: Unpack[Settings]) -> web.Application:
    """The sandbox as an aiohttp application."""
    house = _house(settings)
    from .server import build

    return build(house)


async def serve(
    host: str,
    port: int,
    *,
    ready: Callable[[str], None] | None = None,
    control: tuple[str, int] | None = None,
    control_ready: Callable[[str], None] | None = None,
    **settings: Unpack[Settings],
) -> None:
    """Serves the sandbox until cancelled; `ready` is told the base URL, with the real port where 0 was asked for."""
    house = _house(settings)
    import asyncio

    from . import control as controls
    from . import server

    runners = []
    try:
        runner, url = await server.start(server.build(house), host, port, drain=_DRAIN)
        runners.append(runner)
        told = [(ready, f"{url}/v1")]
        if control is not None:
            runner, url = await server.start(controls.build(house), *control, drain=_DRAIN)
            runners.append(runner)
            told.append((control_ready, url))
        for tell, text in told:
            if tell is not None:
                tell(text)
        await asyncio.get_running_loop().create_future()  # nothing ever sets it: only cancellation ends the wait
    finally:
        for runner in runners:
            await runner.cleanup()


def _house(settings: Settings) -> House:
    # Nothing is imported before it is needed: the command line looks at this module on every start.
    try:
        import PIL.Image  # noqa: F401 - only to learn whether it is there
    except ImportError as exc:
        raise SandboxError("the sandbox draws its pictures with Pillow: pip install 'framegate[images]'") from exc
    from .house import House

    return House(**settings)
