"""`python -m bench.overspend`: many callers at once on a small budget, over several processes on one store.

Prints how many cents were spent over the budget, and how many requests were refused that would have fitted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

ROOT = Path(__file__).parent.parent
PRICE = 53_000_000  # nano-USD for a picture
BUDGET = 1_000_000_000  # and for the key, in a day
KEY = "sk-of-two-hundred-callers-and-one-budget"
BUSY = 0.2  # seconds that a picture takes, so that all that are let in are under way at one time
ASK = {"model": "gpt-image-2", "prompt": "an oak", "quality": "medium"}
PICTURE = b'{"created":1,"data":[{"b64_json":"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"}]}'
CONFIG = """
[server]
listen = "127.0.0.1:0"
workers = {processes}
[store]
url = "{store}"
{prefix}
[upstreams.oak]
base_url = "http://127.0.0.1:{port}/v1"
[keys.callers]
secret = "env:CALLERS_KEY"
limits = {{ budget = "1 USD / day" }}
[prices]
"gpt-image-2" = {{ low = 0.006, medium = 0.053, high = 0.211 }}
[[routes]]
match = "* /v1/*"
chain = ["keys", "quota"]
"""


@dataclass(frozen=True)
class Found:
    """What came of one round."""

    statuses: dict[int, int]
    drawn: int  # pictures that the upstream was asked for

    @property
    def cents_over(self) -> float:
        """How much more was spent than the budget holds."""
        return max(0, self.drawn * PRICE - BUDGET) / 10_000_000

    @property
    def refused_in_vain(self) -> int:
        """How many were refused that would have fitted."""
        return min(self.statuses.get(429, 0), max(0, BUDGET // PRICE - self.drawn))


class Oak:
    """An upstream that draws the same picture for everybody, slowly, and counts."""

    def __init__(self) -> None:
        self.drawn = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
                self.drawn += 1
                await asyncio.sleep(BUSY)
                head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                writer.write(head % len(PICTURE) + PICTURE)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def served(store: str, processes: int, upstream: int, folder: Path) -> AsyncIterator[int]:
    """Serve, with that many processes on that store; the port."""
    path = folder / "framegate.toml"
    # What stands in a Redis already is left alone, a former round's too.
    prefix = "" if store.startswith("sqlite:") else f'prefix = "overspend-{secrets.token_hex(4)}"'
    path.write_text(CONFIG.format(processes=processes, store=store, port=upstream, prefix=prefix))
    master = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve", "--config", path),
        cwd=ROOT,
        env={**os.environ, "CALLERS_KEY": KEY, "FRAMEGATE_MASTER_KEY": master},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert running.stderr is not None
    heard: list[bytes] = []
    drain: asyncio.Task[bytes] | None = None
    try:
        while raw := await running.stderr.readline():
            heard.append(raw)
            line = json.loads(raw) if raw.startswith(b"{") else {}
            if line.get("event") == "serving":
                drain = asyncio.create_task(running.stderr.read())
                yield int(line["address"].rpartition(":")[2])
                return
        raise RuntimeError(f"framegate did not start: {b''.join(heard).decode()}")
    finally:
        if running.returncode is None:
            running.terminate()
        if drain is not None:
            await drain
        await running.wait()


async def run(store: str = "", *, processes: int = 3, callers: int = 200) -> Found:
    """One round: all callers ask at once. `store`: a URL; without one an SQLite file of the round's own."""
    oak = Oak()
    server = await asyncio.start_server(oak.answer, "127.0.0.1", 0, backlog=1024)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with tempfile.TemporaryDirectory(prefix="framegate-overspend-") as scratch:
            url = store or f"sqlite:{scratch}/framegate.db"
            async with served(url, processes, port, Path(scratch)) as house:
                statuses = await _ask(f"http://127.0.0.1:{house}/v1/images/generations", callers)
    return Found(statuses, oak.drawn)


async def _ask(url: str, callers: int) -> dict[int, int]:
    headers = {"Authorization": f"Bearer {KEY}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def one() -> int:
            async with session.post(url, json=ASK) as answer:
                await answer.read()
                return answer.status

        return dict(sorted(Counter(await asyncio.gather(*[one() for _ in range(callers)])).items()))


def main(argv: Sequence[str] | None = None) -> int:
    """Run some rounds and print them; exit status 1 where one cent was overspent, or one refused in vain."""
    parser = argparse.ArgumentParser(prog="python -m bench.overspend", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--redis", metavar="URL", help="the store (default: an SQLite file)")
    parser.add_argument("--processes", type=int, default=3, help="on one store (default: %(default)s)")
    parser.add_argument("--callers", type=int, default=200, help="at once (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    options = parser.parse_args(argv)
    store = options.redis or ""
    print(f"{options.callers} callers, {options.processes} processes on one {'Redis' if store else 'SQLite'}, ", end="")
    print("a budget of $1, pictures at $0.053")
    bad = False
    for number in range(options.rounds):
        found = asyncio.run(run(store, processes=options.processes, callers=options.callers))
        told = ", ".join(f"{count} x {status}" for status, count in found.statuses.items())
        print(f"round {number + 1}: {told}; {found.drawn} pictures drawn; cents over: {found.cents_over:g}; ", end="")
        print(f"refused that would have fitted: {found.refused_in_vain}", flush=True)
        bad = bad or found.cents_over > 0 or found.refused_in_vain > 0 or set(found.statuses) - {200, 429} != set()
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
