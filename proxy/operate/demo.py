"""`framegate demo`: the whole way of one image request, offline, told as it happens."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tempfile
import urllib.error
import urllib.request
from argparse import Namespace
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson

from ..app import House
from ..core import registry
from ..core.config import load
from ..sandbox import Sandbox, SandboxError
from ..telemetry.log import make
from .ground import Refused

if TYPE_CHECKING:
    from rich.console import Console

MODEL = "gpt-image-2"
PATIENCE = 30.0  # seconds for the picture; it takes less than one
# The built-in plugins that need nothing but the upstream; each that is built joins.
CHAIN = ("keys", "rehost", "failover")
CONFIG = """
[server]
listen = "127.0.0.1:0"
[upstreams.sandbox]
base_url = "{url}"
api_key  = "env:SANDBOX_KEY"
[plugins.keys]
[[routes]]
match = "* /v1/*"
chain = {chain}
"""
STORY = """\
Your app keeps its SDK and its code; only the base URL changes.
Next: [bold]OPENAI_API_KEY=sk-... framegate serve[/], then OpenAI(base_url="http://127.0.0.1:8080/v1").\
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request and what came back; times in seconds."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    line: dict[str, Any]  # the exchange's line in the log
    link: str = ""  # where the picture is, while the house serves
    picture: bytes = b""


def run(options: Namespace) -> int:
    """Tell the story and save the picture; the exit status. Raises Refused with what stands in the way."""
    try:
        from rich.console import Console
    except ImportError as error:
        raise Refused("the demo tells its story with rich: pip install 'framegate[demo]'") from error
    console = Console(highlight=False)
    try:
        asked = asyncio.run(_tell(console, options.prompt))
    except SandboxError as error:
        raise Refused(str(error)) from error
    _save(console, asked, options.save)
    return 0


async def _tell(console: Console, prompt: str) -> Asked:
    from rich.markup import escape

    console.print("\n[bold]framegate demo[/]  one image request from end to end; offline, no key, no bill\n")
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox())
        console.print(f" 1  the [bold]sandbox[/] plays OpenAI    {sandbox.url}")
        house, log = await stack.enter_async_context(_serving(sandbox.url))
        base = f"{house.address}/v1"
        console.print(f" 2  [bold]framegate[/] stands before it  {base}")
        key, record = await (await house.state.keys()).create("demo")
        console.print(f" 3  a key was made              sk-fg-{record.id}-…  (only its hash is kept)")
        console.print(f" 4  an app asks for             a picture by {MODEL}: [italic]{escape(prompt)}[/]\n")
        asked = await _ask(base, key, prompt, log)
        if asked.status != 200:
            raise Refused(f"the answer was {asked.status}: {_complaint(asked.body)}")
        _layers(console, asked)
        return asked


def _save(console: Console, asked: Asked, path: Path) -> None:
    from rich.markup import escape

    path.write_bytes(asked.picture)
    own = float(asked.headers["x-framegate-overhead-ms"])
    console.print(f"\n 5  answered in {asked.seconds * 1000:.0f} ms, of which framegate took {own:.1f}")
    console.print(f" 6  instead of base64 it held    {asked.link}")
    console.print(f" 7  [bold green]the picture[/]: {escape(str(path))}  ({len(asked.picture):,} bytes)\n")
    console.print(STORY + "\n")


@contextlib.asynccontextmanager
async def _serving(url: str) -> AsyncIterator[tuple[House, io.BytesIO]]:
    """Framegate before that upstream, with the chain of the demo; its log goes to memory, its state goes with it."""
    log = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="framegate-demo-") as folder:
        file = Path(folder) / "framegate.toml"
        file.write_text(CONFIG.format(url=url, chain=list(CHAIN)))
        environ = {"SANDBOX_KEY": "sk-the-sandbox-takes-any-key-there-is"}
        house = House(load(file, environ), environ=environ, log=make("json", log))
        await house.start()
        try:
            yield house, log
        finally:
            await house.stop()


async def _ask(base: str, key: str, prompt: str, log: io.BytesIO) -> Asked:
    """Ask as an app would, over a socket, and wait until the exchange has ended."""
    body = orjson.dumps({"model": MODEL, "prompt": prompt, "size": "1024x1024", "response_format": "url"})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{base}/images/generations", body, headers)
    # A proxy from the environment has no business between two sockets of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask() -> tuple[int, dict[str, str], bytes]:
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {}, error.read()

    began = perf_counter()
    status, told, answer = await asyncio.to_thread(ask)
    seconds = perf_counter() - began
    while not (lines := [line for line in log.getvalue().splitlines() if b'"exchange"' in line]):  # noqa: ASYNC110
        await asyncio.sleep(0.001)  # its line comes in the moment after its last byte; the log has no event for it
    asked = Asked(status, told, answer, seconds, orjson.loads(lines[0]))
    if status != 200:
        return asked
    link = orjson.loads(answer)["data"][0]["url"]
    with await asyncio.to_thread(opener.open, link, timeout=PATIENCE) as picture:
        return replace(asked, link=link, picture=picture.read())


def _layers(console: Console, asked: Asked) -> None:
    """What each layer did, from the outside in."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name, justify in (("    layer", "left"), ("what it did", "left"), ("ms", "right")):
        table.add_column(name, justify=justify, header_style="dim")  # type: ignore[arg-type]
    for depth, (layer, (verdict, ms)) in enumerate(reversed(asked.line["spans"].items())):
        table.add_row(f"    {'  ' * depth}[cyan]{layer}[/]", _did(layer, verdict), f"{ms:.2f}")
    console.print(table)


def _did(layer: str, verdict: str) -> str:
    if layer in CHAIN:
        return (registry.find(layer).__doc__ or "").partition("\n")[0]
    return f"Asked with its own key in the place of yours; {verdict} with the picture."


def _complaint(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["error"]["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return os.fsdecode(body[:200])
