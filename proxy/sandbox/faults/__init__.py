"""What can go wrong with an upstream, by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from . import instead, rewritten, wired
from .fault import Fault

FINE = "ok"  # in a row of faults: a genuine answer

TABLE: tuple[Fault, ...] = (*instead.TABLE, *rewritten.TABLE, *wired.TABLE)
_BY_NAME = {fault.name: fault for fault in TABLE}

__all__ = ["FINE", "TABLE", "Chosen", "Fault", "choose"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A fault with its argument."""

    fault: Fault
    value: Any
    text: str


def choose(text: str, sign: str = "=") -> Chosen:
    """Reads `NAME` or `NAME=ARG`; ValueError says in words what is wrong with it."""
    name, given, arg = text.partition(sign)
    fault = _BY_NAME.get(name)
    if fault is None:
        near = difflib.get_close_matches(name, _BY_NAME, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(_BY_NAME)}"
        raise ValueError(f"there is no fault '{name}'; {hint}")
    if not given:
        return Chosen(fault, None if fault.argument is None else fault.argument.default, name)
    if fault.argument is None:
        raise ValueError(f"the fault '{name}' takes no argument, but got '{arg}'")
    try:
        value = fault.argument.read(arg)
    except ValueError as exc:
        raise ValueError(f"the fault '{name}' takes {fault.argument.words}, not '{arg}'") from exc
    return Chosen(fault, value, f"{name}={arg}")
