"""What tests stand on: the whole house over real sockets, an obedient upstream, a client of raw bytes."""

from __future__ import annotations

from .client import Answer, RawClient
from .clock import TurnedClock
from .house import Served, serve
from .upstream import Call, Received, ScriptedUpstream

__all__ = ["Answer", "Call", "RawClient", "Received", "ScriptedUpstream", "Served", "TurnedClock", "serve"]
