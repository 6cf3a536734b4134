"""Who is measured: each row is a proxy, how it is started, and what its callers send."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..rig import Command

CALLERS_OWN = {"Authorization": "Bearer sk-callers-own-0123456789abcdef"}


@dataclass(frozen=True)
class Site:
    """Where a proxy is to stand."""

    folder: Path  # its own, empty
    port: int
    upstream: int  # the port of what answers


@dataclass(frozen=True)
class Row:
    """One proxy. Without a command it is nobody: the load goes straight to the upstream."""

    name: str
    what: str
    command: Callable[[Site], Command] | None
    headers: Mapping[str, str] = field(default_factory=lambda: CALLERS_OWN)
    patience: float = 15.0  # seconds it may take to start
    slow: bool = False  # asked a fixed number of times: what wrk leaves unanswered at its end would count too much
    rewrites: bool = False  # it builds answers anew: what they say is compared, not their bytes
    spread: bool = False  # it may run on every core, of which the load then takes its share


DIRECT = Row("direct", "no proxy: the rig's own floor", None)
