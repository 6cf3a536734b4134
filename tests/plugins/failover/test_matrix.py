"""Every fault of the sandbox times six ways of asking, by both official SDKs with their own retries on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from proxy.sandbox import faults

from .cases import Asked, Matrix, matrix, name
from .speaking import ask
from .table import COLUMNS, PAID, TABLE, TEXT, Expected

NODE = Path(__file__).parent.parent.parent / "node"
AT_ONCE = 16
CASES = [(operation, fault) for fault in TABLE for operation in COLUMNS]
Speak = Callable[[Matrix], Awaitable[Sequence[str]]]


def test_no_fault_is_left_out() -> None:
    assert {fault.partition("=")[0] for fault in TABLE} == {fault.name for fault in faults.TABLE}


async def _python(cases: Matrix) -> Sequence[str]:
    gate = asyncio.Semaphore(AT_ONCE)

    async with AsyncOpenAI(base_url=cases.served.url, api_key="sk-mine", timeout=20) as client:

        async def one(operation: str, fault: str) -> str:
            async with gate:
                return await ask(client, cases.url(name(operation, fault)), operation)

        return await asyncio.gather(*[one(*case) for case in CASES])


async def _node(cases: Matrix, node: str) -> Sequence[str]:
    ran = await asyncio.create_subprocess_exec(
        node, "failover.mjs", cwd=NODE, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    lines = "".join(f"{cases.url(name(operation, fault))} {operation}\n" for operation, fault in CASES)
    said, _ = await ran.communicate(lines.encode())
    assert ran.returncode == 0
    return said.decode().splitlines()


def _complaint(sdk: str, operation: str, fault: str, said: str, asked: Asked) -> str | None:
    """What is not as the table has it, in words."""
    expected = TABLE[fault][COLUMNS[operation]]
    if sdk == "node" and fault == "text-plain-json":
        expected = expected._replace(said=TEXT.get(operation, expected.said))
    times = asked.received  # an answer that breaks off makes an SDK ask anew: a request of its own
    found = Expected(said, asked.first_billed, asked.second, asked.maybe)
    wanted = Expected(expected.said, expected.billed * times, expected.second * times, expected.maybe * times)
    if times != 1 and expected.said != "cut":
        return f"{operation} {fault}: {times} requests were received"
    if found != wanted or asked.first != times or asked.second_billed != asked.second:
        return f"{operation} {fault}: {found}, {asked}; not {wanted}"
    if operation in PAID and asked.first_billed + asked.second_billed - asked.maybe > times:
        return f"{operation} {fault}: billed more than once a request, {asked}"
    return None


async def _judged(sdk: str, said: Sequence[str], cases: Matrix) -> list[str]:
    assert len(said) == len(CASES)
    found = [
        _complaint(sdk, operation, fault, word, await cases.asked(name(operation, fault)))
        for (operation, fault), word in zip(CASES, said, strict=True)
    ]
    return [complaint for complaint in found if complaint is not None]


@pytest.mark.parametrize("sdk", ["python", "node"])
async def test_what_the_client_sees_and_what_is_billed(
    sdk: str, needs: Callable[[str], str], installed: Callable[[str], None]
) -> None:
    if sdk == "node":
        node = needs("node")
        installed(needs("npm"))
    async with matrix() as cases:
        said = await (_python(cases) if sdk == "python" else _node(cases, node))
        complaints = await _judged(sdk, said, cases)
        assert not complaints, "\n".join(complaints)
