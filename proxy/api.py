"""The only door for plugins: everything they may import from us."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .model.body import EMPTY, Ahead, Body, Bytes
from .model.errors import (
    BodyConsumed,
    BodyTooLarge,
    ClientLeft,
    ProxyError,
    QueueFull,
    Rejected,
    RequestTimeout,
    UpstreamError,
)
from .model.exchange import Attempt, Client, Exchange, Outcome, Span
from .model.failure import Billed, Failure, FailureClass, Told
from .model.fetch import Fetched, FetchFailed, FetchRefused, Remote
from .model.health import Capability, Health, Standing
from .model.images import ImageStore, ImageStoreError, ImageType, NotAnImage, Spool, Stored, name_in
from .model.limit import NO_LIMITS, Limits
from .model.message import Headers, Request, Response
from .model.plugin import Forward, Plugin
from .model.prices import Demand, PriceBook, Share, Used, nano
from .model.quota import Bound, Bounds, Claimed, Line, Quotas, Resource, Scope
from .model.reading import Picture, Reading, Skimmer, Taker
from .model.services import Callers, Clock, Failures, Log, Services, Upstreams, Vault
from .model.sights import Looked, Sights, Unreadable, View
from .model.slots import ANYBODY, CALLER, CAPABILITY, CHANGED, STOPPED, Caller, Rehosting, Slot, Slots
from .model.socket import Answer, Message, Socket
from .model.store import SEALED, Add, Added, Store, StoreError
from .model.values import Duration, Secret, Several, Size

if TYPE_CHECKING:
    from .openai.demand import Means, demand
    from .openai.endpoint import endpoint
    from .openai.frames import Said, refused, responded, said
    from .openai.given import Given, given, pieces_of, standing
    from .openai.models import narrowed
    from .openai.multipart import Part, parts
    from .openai.operation import Operation, Tool, operation
    from .openai.operation_texts import Image, Text, Unseen
    from .openai.pictures import in_base64, sniff
    from .openai.rewrite import Quoted, with_field, with_strings, without_field
    from .openai.selected import Model, spoken
    from .openai.used import used

__all__ = [
    "ANYBODY",
    "CALLER",
    "CAPABILITY",
    "CHANGED",
    "EMPTY",
    "NO_LIMITS",
    "SEALED",
    "STOPPED",
    "Add",
    "Added",
    "Ahead",
    "Answer",
    "Attempt",
    "Billed",
    "Body",
    "BodyConsumed",
    "BodyTooLarge",
    "Bound",
    "Bounds",
    "Bytes",
    "Caller",
    "Callers",
    "Capability",
    "Claimed",
    "Client",
    "ClientLeft",
    "Clock",
    "Demand",
    "Duration",
    "Exchange",
    "Failure",
    "FailureClass",
    "Failures",
    "FetchFailed",
    "FetchRefused",
    "Fetched",
    "Forward",
    "Given",
    "Headers",
    "Health",
    "Image",
    "ImageStore",
    "ImageStoreError",
    "ImageType",
    "Limits",
    "Line",
    "Log",
    "Looked",
    "Means",
    "Message",
    "Model",
    "NotAnImage",
    "Operation",
    "Outcome",
    "Part",
    "Picture",
    "Plugin",
    "PriceBook",
    "ProxyError",
    "QueueFull",
    "Quotas",
    "Quoted",
    "Reading",
    "Rehosting",
    "Rejected",
    "Remote",
    "Request",
    "RequestTimeout",
    "Resource",
    "Response",
    "Said",
    "Scope",
    "Secret",
    "Services",
    "Several",
    "Share",
    "Sights",
    "Size",
    "Skimmer",
    "Slot",
    "Slots",
    "Socket",
    "Span",
    "Spool",
    "Standing",
    "Store",
    "StoreError",
    "Stored",
    "Taker",
    "Text",
    "Told",
    "Tool",
    "Unreadable",
    "Unseen",
    "UpstreamError",
    "Upstreams",
    "Used",
    "Vault",
    "View",
    "demand",
    "endpoint",
    "given",
    "in_base64",
    "name_in",
    "nano",
    "narrowed",
    "operation",
    "parts",
    "pieces_of",
    "refused",
    "responded",
    "said",
    "sniff",
    "spoken",
    "standing",
    "used",
    "with_field",
    "with_strings",
    "without_field",
]

# What reads and writes is loaded for the first plugin that imports it: a chain that only looks at who calls never does.
HOMES = {
    "demand": "Means demand",
    "endpoint": "endpoint",
    "frames": "Said refused responded said",
    "given": "Given given pieces_of standing",
    "models": "narrowed",
    "multipart": "Part parts",
    "operation": "Operation Tool operation",
    "operation_texts": "Image Text Unseen",
    "pictures": "in_base64 sniff",
    "rewrite": "Quoted with_field with_strings without_field",
    "selected": "Model spoken",
    "used": "used",
}
_HOME = {name: module for module, names in HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # for a checker there are no names but those above

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(f".openai.{_HOME[name]}", __package__), name)
        return found


def __dir__() -> list[str]:
    return __all__
