"""Every fault of the sandbox times six ways of asking: one house, in which each case has two upstreams of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proxy.sandbox import Sandbox
from proxy.testkit.house import Served, serve

from .table import COLUMNS, TABLE


@dataclass(frozen=True, slots=True)
class Asked:
    """What the upstreams of one case saw."""

    received: int  # requests that Framegate received
    first: int  # calls of the faulty upstream
    first_billed: int
    second: int  # calls of the good one
    second_billed: int
    maybe: int  # failed calls that the house itself has down as billed, perhaps or surely


@dataclass(slots=True)
class Matrix:
    """The house with the cases in it."""

    served: Served
    faulty: Sandbox
    good: Sandbox
    cases: Sequence[str]

    def url(self, case: str) -> str:
        """The base URL of a case."""
        return f"{self.served.url}/{case}/v1"

    async def asked(self, case: str) -> Asked:
        """What became of a case that is over."""
        await self.faulty.idle()
        await self.good.idle()
        while self.served.house.engine.live:
            await asyncio.sleep(0.005)
        lines = [line for line in self.served.exchanges() if line["path"].startswith(f"/{case}/")]
        first, second = (
            [one for one in sandbox.records if one.header("x-case") == case] for sandbox in (self.faulty, self.good)
        )
        calls = [call for line in lines for call in line.get("calls", ()) if "class" in call]
        maybe = sum(call["billed"] != "no" for call in calls)
        billed = [sum(one.billed for one in records) for records in (first, second)]
        return Asked(len(lines), len(first), billed[0], len(second), billed[1], maybe)


def name(operation: str, fault: str) -> str:
    """A case's name, fit for a path."""
    return f"{operation}-{''.join(letter for letter in fault if letter.isalnum())}"


@asynccontextmanager
async def matrix() -> AsyncIterator[Matrix]:
    """Serve all cases side by side; each has a breaker of its own, because each has upstreams of its own."""
    async with Sandbox() as faulty, Sandbox() as good:
        lines = ['[server]\nlisten = "127.0.0.1:0"\n']
        cases = []
        for operation in COLUMNS:
            for fault in TABLE:
                case = name(operation, fault)
                cases.append(case)
                lines.append(
                    f'[upstreams."{case}.a"]\nbase_url = "{faulty.url}"\napi_key = "env:KEY_A"\n'
                    'idle_timeout = "1500ms"\n'
                    f'headers = {{ "x-sandbox-fault" = "{fault}", "x-case" = "{case}" }}\n'
                    f'[upstreams."{case}.b"]\nbase_url = "{good.url}"\napi_key = "env:KEY_B"\n'
                    f'headers = {{ "x-case" = "{case}" }}\n'
                    f'[plugins."{case}"]\nuse = "failover"\nto = ["{case}.a", "{case}.b"]\n'
                    f'[[routes]]\nmatch = "* /{case}/v1/*"\nprefix = "/{case}/v1"\nchain = ["{case}"]\n'
                )
        environ = {"KEY_A": "sk-upstream-a-secret-0123456789", "KEY_B": "sk-upstream-b-secret-0123456789"}
        async with serve("".join(lines), environ=environ) as served:
            yield Matrix(served, faulty, good, cases)
