"""Sockets: each message of a client's is judged before it goes on, in order, whatever the mode and the timing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from proxy.api import (
    Answer,
    Bytes,
    Message,
    ProxyError,
    Response,
    Said,
    Services,
    Unseen,
    refused,
    responded,
    said,
)

from .matter import of_said
from .verdict import Matter

REMEMBERED = 1000  # responses of one socket that may be gone on from
AFTER = "previous_response_id"


def watched(
    response: Response,
    kind: str,
    judge: Callable[[Matter], Awaitable[None]],
    services: Services,
    owner: str | None,
) -> Response:
    """The same socket, on which nothing reaches upstream that `judge` refuses by raising a ProxyError.

    What is refused is dropped; the client hears an error of that sort of socket's, and may go on.
    """
    watch = _Watch(kind, judge, services, owner)
    return response.through(inward=watch.inward, outward=None if kind == "realtime" else watch.outward)


class _Watch:
    """One socket, and the responses that came on it: what they were asked was judged."""

    def __init__(
        self,
        kind: str,
        judge: Callable[[Matter], Awaitable[None]],
        services: Services,
        owner: str | None,
    ) -> None:
        self._kind = kind
        self._judge = judge
        self._services = services
        self._owner = owner
        self._known: OrderedDict[str, None] = OrderedDict()

    async def inward(self, message: Message) -> Message:
        """The message, once it was judged. Raises Answer."""
        told: Said | None = None
        try:
            if message.kind == "binary":
                await self._judge(Matter("input", unseen=(Unseen("", "a binary message"),)))
            elif message.kind == "text":
                told = await said(message.data, self._kind)
                if matter := await self._matter(message, told):
                    await self._judge(matter)
        except ProxyError as error:
            raise Answer(Message("text", refused(error, self._kind, told))) from error
        return message

    async def outward(self, message: Message) -> Message:
        """The upstream's message as it is; which response it begins is kept in mind."""
        if message.kind == "text" and (id := responded(message.data)) is not None:
            self._known[id] = None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return message

    async def _matter(self, message: Message, told: Said) -> Matter:
        if told.after in self._known:
            told = told._replace(unseen=tuple([one for one in told.unseen if one.path != AFTER]))
        return await of_said(Bytes(message.data), told, self._services, self._owner)
