"""A pytest plugin: the kit as fixtures, wherever Framegate is installed; nothing is loaded before it is used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

try:
    from pytest_asyncio import fixture as asyncio_fixture
except ImportError:  # the fixtures below that need it say so when a test asks for them
    asyncio_fixture = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from .clock import TurnedClock
    from .house import Served
    from .stage import Stage


@pytest.fixture
def framegate_clock() -> TurnedClock:
    """A clock that the test turns; the stages of `framegate_stage` go by it."""
    from .clock import TurnedClock

    return TurnedClock()


async def _stage(framegate_clock: TurnedClock) -> AsyncIterator[Callable[..., Awaitable[Stage]]]:
    """`stage = await framegate_stage(Gate(word="x"), upstream=...)`: stages that close, and judge, after the test."""
    from .stage import Stage

    async with AsyncExitStack() as stack:

        async def opened(*plugins: Any, **settings: Any) -> Stage:
            return await stack.enter_async_context(Stage(*plugins, **{"clock": framegate_clock, **settings}))

        yield opened


async def _serve() -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """`served = await framegate_serve(config)`: the whole house over sockets, from a config, until the test is over."""
    from .house import serve

    async with AsyncExitStack() as stack:

        async def opened(config: str, **settings: Any) -> Served:
            return await stack.enter_async_context(serve(config, **settings))

        yield opened


async def _sandbox() -> AsyncIterator[Any]:
    """An upstream shaped like OpenAI, offline; `framegate_sandbox.url` is a config's base_url."""
    from ..sandbox import Sandbox

    async with Sandbox() as sandbox:
        yield sandbox


def _lacking(name: str) -> Any:
    @pytest.fixture(name=name)
    def lacking() -> None:
        """Says what is lacking."""
        pytest.fail(f"{name} needs pytest-asyncio: pip install 'framegate[test]'", pytrace=False)

    return lacking


def _fixture(name: str, made: Any) -> Any:
    return _lacking(name) if asyncio_fixture is None else asyncio_fixture(name=name)(made)


framegate_stage = _fixture("framegate_stage", _stage)
framegate_serve = _fixture("framegate_serve", _serve)
framegate_sandbox = _fixture("framegate_sandbox", _sandbox)
