"""Framegate, with the chains and settings that are measured."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from pathlib import Path

from ..rig import ROOT, Command, python
from . import Row, Site

# The chain that an image route has by default. A plugin that joins it joins here, and its rows appear.
IMAGE_CHAIN: tuple[str, ...] = ("keys", "quota", "moderation", "rehost", "failover")
PLAIN = ("keys",)  # while the image chain equals this, it has no row of its own

KEY = f"sk-bench-{secrets.token_hex(20)}"
MASTER = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
UPSTREAM_KEY = f"sk-upstream-{secrets.token_hex(20)}"
CONFIG = """\
[server]
listen = "127.0.0.1:{port}"
loop = "{loop}"
workers = {workers}
[upstreams.bench]
base_url = "http://127.0.0.1:{upstream}/v1"
{translated}
[keys.bench]
secret = "env:BENCH_KEY"
[log]
exchanges = {exchanges}
{tables}
[[routes]]
match = "* /v1/*"
chain = {chain}
"""


def row(
    name: str,
    what: str,
    chain: Sequence[str],
    *,
    exchanges: bool = False,
    loop: str = "asyncio",
    translated: bool = True,
    tables: str = "",
    workers: int = 1,
    spread: bool = False,
) -> Row:
    """A row of Framegate with that chain; `translated`: the upstream has a key of its own."""

    def command(site: Site) -> Command:
        config = site.folder / "framegate.toml"
        config.write_text(
            CONFIG.format(
                port=site.port,
                upstream=site.upstream,
                loop=loop,
                workers=workers,
                translated='api_key = "env:BENCH_UPSTREAM_KEY"' if translated else "",
                exchanges=str(exchanges).lower(),
                chain=list(chain),
                tables=tables,
            )
        )
        environ = {
            "BENCH_KEY": KEY,
            "BENCH_UPSTREAM_KEY": UPSTREAM_KEY,
            "FRAMEGATE_MASTER_KEY": MASTER,  # a Redis among the settings of a plugin needs one
            "XDG_STATE_HOME": str(site.folder),
        }
        return Command(python("proxy", "serve", "--config", config), Path(ROOT), environ)

    return Row(name, what, command, {"Authorization": f"Bearer {KEY}"}, spread=spread)


# As many as nobody can ask for: what is measured is the counting.
QUOTA = '[plugins.quota]\nlimits = { requests = "100M / 1m", concurrent = 100000 }\n'
# Asked once: what is measured is a verdict that is known.
MODERATION = '[plugins.moderation]\nupstream = "bench"\n'
LOOK = '[plugins.look]\nuse = "bench.look:Look"\n'

EMPTY = row("empty", "Framegate, `chain = []`, the caller's own key", (), translated=False)
KEYS = row("keys", "Framegate, callers known by their keys, the upstream's put in", PLAIN)
LOOKED = row("looked", "as keys, with a plugin that looks at each piece of the answer", ("keys", "look"), tables=LOOK)
FRAMEGATE = (
    EMPTY,
    row("empty, log", "the same with a log line each", (), translated=False, exchanges=True),
    KEYS,
    row("keys, log", "the same with a log line each", PLAIN, exchanges=True),
    LOOKED,
    row("empty, uvloop", "on uvloop, an extra", (), translated=False, loop="uvloop"),
    row("keys, uvloop", "on uvloop, an extra", PLAIN, loop="uvloop"),
    row("looked, uvloop", "on uvloop, an extra", ("keys", "look"), loop="uvloop", tables=LOOK),
    row("images", f"the default image chain: {', '.join(IMAGE_CHAIN)}", IMAGE_CHAIN, tables=QUOTA + MODERATION),
    row("images, log", "the same with a log line each", IMAGE_CHAIN, exchanges=True, tables=QUOTA + MODERATION),
)

WORKERS = tuple(
    row(f"keys, {count} worker{'s'[: count - 1]}", "as keys, on both cores", PLAIN, workers=count, spread=True)
    for count in (1, 2)
)


def with_and_without(plugin: str, settings: str) -> tuple[Row, Row]:
    """Two rows that differ by one plugin: an installed one's name, or `module:Class`."""
    table = f'[plugins.measured]\nuse = "{plugin}"\n{settings}\n'
    before = () if plugin == "keys" else PLAIN
    without = row("without", f"chain = {list(before)}", before)
    return without, row("with", f"chain = {[*before, plugin]}", (*before, "measured"), tables=table)
