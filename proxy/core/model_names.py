"""What an upstream calls the models that clients ask for, and which it serves; of the request, only names change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from ..model.body import Bytes
from ..model.errors import BodyTooLarge, ProxyError, Rejected
from ..model.exchange import Exchange
from ..model.message import Headers, Request, Response
from ..model.plugin import Forward
from ..model.services import Asks
from ..model.socket import Message
from ..openai.endpoint import endpoint
from ..openai.operation import LIMIT, Operation, operation
from ..openai.operation_path import FOREIGN
from ..openai.quality import mapped
from ..openai.rewrite import with_field, with_parameter
from ..openai.selected import Model, spoken
from .tables import KIND

JSON = Headers.of(content_type="application/json")
# What each change is told as, in a header and in the log; there are no more than a handful.
Changes = list[str]


class ModelNames:
    """One upstream's names for models, and what it serves at all."""

    def __init__(self, renames: Mapping[str, str], only: Sequence[str] = ()) -> None:
        self._renames = {old: new for old, new in renames.items() if old != new}
        self._globs = tuple([one for one in only if not one.startswith(KIND)])
        self._kinds = frozenset([one.removeprefix(KIND) for one in only if one.startswith(KIND)])

    @property
    def choosy(self) -> bool:
        """Whether there is anything that it does not serve."""
        return bool(self._globs or self._kinds)

    def serves(self, asked: Asks) -> Literal[True] | str:
        """Whether it serves what is asked; else why not, in a word. A request that names no model is not refused."""
        if asked.capability in self._kinds or not (self._globs or self._kinds):
            return True
        if not self._globs:
            return "kind_not_served"
        return True if self._foreign(asked) is None else "model_not_served"

    def _foreign(self, asked: Asks) -> str | None:
        """The first model that is asked for and not served."""
        names = [model.name for model in asked.models if model.name]
        return next((name for name in names if not any(fnmatchcase(name, glob) for glob in self._globs)), None)

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        """Refuse what is not served here, say names as the upstream knows them, and ask."""
        socket = request.method == "GET" and (request.headers.get("Upgrade") or "").lower() == "websocket"
        sort = endpoint(request.method, request.target, socket=socket)
        if sort != "inference" or not (socket or request.method == "POST"):
            return await forward(request)  # names no model, or objects that may name any: as they are
        asked = await _asked(exchange, request)
        if (why := self.serves(asked)) is not True:
            if request.attempt is not None:
                request.attempt.error = why
            name = self._foreign(asked)
            what = "requests of this kind" if name is None or why == "kind_not_served" else f"the model {_short(name)}"
            raise Rejected(
                f"The upstream of this request does not serve {what}.",
                status=404,
                code="model_not_available",
                param="model",
            )
        if self._renames:
            request, changes = await self._renamed(request, asked.models)
            if changes and request.attempt is not None:
                request.attempt.changed = tuple(changes)
        response = await forward(request)
        return response.through(inward=self._said) if response.socket is not None and self._renames else response

    async def _renamed(self, request: Request, models: Sequence[Model]) -> tuple[Request, Changes]:
        """The request in the upstream's words, and what has changed."""
        changes: Changes = []
        for model in models:
            new = self._renames.get(model.name or "")
            if new is None or model.place == "path":
                continue
            if model.place == "query":
                request = with_parameter(request, str(model.steps[0]), new)
            elif str(model.steps[-1]).endswith("[]"):  # a list in a form: one of several parts of that name
                continue
            else:
                request = await with_field(request, model.steps, new)
            changes.append(f"{model.path}: {model.name} -> {new}")
            word = mapped(model.quality, model.name or "", new) if model.quality else None
            if word is not None:
                steps = (*model.steps[:-1], "quality")
                request = await with_field(request, steps, word)
                changes.append(f"{Model(steps, word).path}: {model.quality} -> {word}")
        return request, changes

    async def _said(self, message: Message) -> Message:
        """A message on a socket in the upstream's words; what can't be read is the upstream's to refuse."""
        if message.kind != "text" or not (b"odel" in message.data or b"\\u" in message.data):
            return message
        try:
            _, models = spoken(message.data)
        except Rejected:
            return message
        request, changes = await self._renamed(Request("POST", "/", JSON, Bytes(message.data)), models)
        return Message("text", await request.body.read(LIMIT)) if changes else message


async def _asked(exchange: Exchange, request: Request) -> Operation:
    """What the request asks, as who stands outside may have asked already."""
    try:
        asked = await operation(request.with_target(exchange.prefix + request.target), prefix=exchange.prefix)
        if asked.kind not in FOREIGN and request.method == "POST" and any(not one.path for one in asked.unseen):
            raise BodyTooLarge(LIMIT)  # all else that can't be read is refused by then
    except ProxyError as error:
        if request.attempt is not None:
            request.attempt.error = error.code
        raise
    return asked


def _short(name: str) -> str:
    return repr(name if len(name) <= 64 else name[:64] + "...")
