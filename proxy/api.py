"""The only door for plugins: everything they may import from us."""

from __future__ import annotations

from .model.body import EMPTY, Body, Bytes
from .model.errors import (
    BodyConsumed,
    BodyTooLarge,
    ClientLeft,
    ProxyError,
    Rejected,
    RequestTimeout,
    UpstreamError,
)
from .model.exchange import Attempt, Client, Exchange, Outcome, Span
from .model.message import Headers, Request, Response
from .model.plugin import Forward, Plugin
from .model.services import Clock, Log, Services, Upstreams
from .model.slots import CALLER, Caller, Slot, Slots
from .model.socket import Message, Socket
from .model.values import Duration, Secret, Size

__all__ = [
    "CALLER",
    "EMPTY",
    "Attempt",
    "Body",
    "BodyConsumed",
    "BodyTooLarge",
    "Bytes",
    "Caller",
    "Client",
    "ClientLeft",
    "Clock",
    "Duration",
    "Exchange",
    "Forward",
    "Headers",
    "Log",
    "Message",
    "Outcome",
    "Plugin",
    "ProxyError",
    "Rejected",
    "Request",
    "RequestTimeout",
    "Response",
    "Secret",
    "Services",
    "Size",
    "Slot",
    "Slots",
    "Socket",
    "Span",
    "UpstreamError",
    "Upstreams",
]
