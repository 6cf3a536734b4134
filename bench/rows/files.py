"""Kept pictures: nginx sends them, Framegate does, or nginx where Framegate says so."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import replace
from pathlib import Path

from proxy.core.clock import SystemClock
from proxy.images.base import Images, Rules
from proxy.images.threads import Workshop
from proxy.store.sqlite import SQLiteStore

from .. import bodies, nginx
from ..rig import ROOT, Command, free_port, python
from . import Row, Site

SIZES = (1_500_000, 8_000_000)
CONFIG = """\
[server]
listen = "127.0.0.1:{port}"
loop = "{loop}"
[store]
url = "sqlite:{folder}/framegate.db"
[images]
url = "file:{folder}/images"
ttl = "forever"
accel = "{accel}"
[log]
exchanges = false
[upstreams.bench]
base_url = "http://127.0.0.1:{upstream}/v1"
[[routes]]
match = "* /v1/*"
chain = []
"""


def name(size: int) -> str:
    """Under which the picture of that size is kept, here and there."""
    return f"{'ab'[SIZES.index(size)] * 26}.png"


def path(size: int) -> str:
    """Where it is asked for."""
    return f"/files/{name(size)}"


def _by_nginx(site: Site) -> Command:
    folder = site.folder / "files"
    folder.mkdir()
    for size in SIZES:
        (folder / name(size)).write_bytes(bodies.png(size))
    return nginx.files(site.folder, site.port)


def _by_framegate(loop: str) -> Row:
    return Row("framegate" if loop == "asyncio" else f"framegate, {loop}", WHAT[loop], lambda site: _serve(site, loop))


def _serve(site: Site, loop: str = "asyncio", accel: str = "") -> Command:
    asyncio.run(_keep(site.folder))
    config = site.folder / "framegate.toml"
    values = {"port": site.port, "upstream": site.upstream, "folder": site.folder, "loop": loop, "accel": accel}
    config.write_text(CONFIG.format(**values))
    return Command(python("proxy", "serve", "--config", config), Path(ROOT))


def _by_both(site: Site) -> Command:
    behind = replace(site, port=free_port())
    served = _serve(behind, accel="/internal/")
    front = nginx.before(site.folder, site.port, behind.port, site.folder / "images")
    # One process group, and one family: the figures are those of both.
    words = f"cd {ROOT} && {shlex.join(map(str, served.words))} & exec {shlex.join(map(str, front.words))}"
    return Command(("sh", "-c", words), site.folder)


async def _keep(folder: Path) -> None:
    """Put the pictures where the server will look for them, under names that are known."""
    clock = SystemClock()
    store = SQLiteStore(folder / "framegate.db", clock)
    workshop = Workshop()
    try:
        images = Images(Rules(folder / "images", "forever"), store, clock, workshop)
        for size in SIZES:
            async with images.spool() as spool:
                spool.write(bodies.png(size))
                stored = await spool.commit()
            await images.index.refer(stored.sha256, name(size), None)
            await images.index.put(replace(stored, name=name(size)))
    finally:
        await store.aclose()
        await workshop.aclose()


WHAT = {
    "asyncio": "a stored picture, sent by the kernel (sendfile)",
    "uvloop": "the same on uvloop, where a thread reads",
}
NGINX = Row("nginx", "the same files, `sendfile on`, one worker", _by_nginx)
FILES = (
    NGINX,
    _by_framegate("asyncio"),
    _by_framegate("uvloop"),
    Row("accel", "Framegate behind nginx, which sends the files that it names; both together", _by_both),
)
