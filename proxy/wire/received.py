"""The body of a fetched answer: counted, timed, without its coding, and known to be whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Self

from aiohttp import ClientError, ClientResponse

from ..model.coding import INFLATED, Inflater, Undecodable
from ..model.fetch import FetchFailed


class Received:
    """What comes, piece by piece, `limit` bytes at the most. Whatever goes wrong hangs up, and goes wrong for good."""

    def __init__(
        self,
        response: ClientResponse,
        host: str,
        limit: int,
        wait: Callable[[], AbstractAsyncContextManager[None]],
        hang_up: Callable[[], None],
    ) -> None:
        self.media = response.headers.get("Content-Type", "").partition(";")[0].strip().lower() or None
        self.length: int | None = None
        self._content = response.content
        self._host = host
        self._limit = self._left = limit
        self._wait = wait
        self._hang_up = hang_up
        self._inflater: Inflater | None = None
        self._ready: Iterator[bytes] = iter(())  # what the last piece has become
        self._over: FetchFailed | None = None
        self._look(response)

    def _look(self, response: ClientResponse) -> None:
        """What its head says of it. Raises FetchFailed."""
        framing = [one.strip().lower() for one in response.headers.getall("Transfer-Encoding", ())]
        if framing not in ([], ["chunked"]):
            raise self._failed("its framing can't be read")
        length = None if framing else response.content_length
        if length is None and not framing:
            # Its end would be the connection's, and half a picture look like a whole one.
            raise self._failed("it tells no length, so that its end could not be told from a cut")
        if length is not None and length > self._limit:
            raise self._too_large()
        codings = [one.strip().lower() for one in response.headers.getall("Content-Encoding", ())]
        if codings in ([], ["identity"]):
            self.length = length
        elif len(codings) == 1 and codings[0] in INFLATED:
            self._inflater = Inflater(codings[0])
        else:
            raise self._failed("it came in a coding that nobody asked for")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises FetchFailed, or StopAsyncIteration when it was whole."""
        if self._over is not None:
            raise FetchFailed(self._over.why, host=self._host, timeout=self._over.timeout)
        try:
            while True:
                if piece := next(self._ready, b""):
                    return self._counted(piece)
                async with self._wait():
                    raw = await self._content.readany()
                if not raw:
                    if self._inflater is not None:
                        self._inflater.close()
                    raise StopAsyncIteration
                self._ready = iter((raw,)) if self._inflater is None else self._inflater.feed(raw)
        except Undecodable as error:
            failed = self._failed(f"it can't be read: {error}")
        except TimeoutError:
            failed = self._failed("it came too slowly", timeout=True)
        except (ClientError, OSError):
            failed = self._failed("it broke off")
        raise failed

    def close(self) -> None:
        """The block was left."""
        if self._over is None:
            self._failed("what is read was left already")

    def _counted(self, piece: bytes) -> bytes:
        self._left -= len(piece)
        if self._left < 0:
            raise self._too_large()
        return piece

    def _too_large(self) -> FetchFailed:
        return self._failed(f"it is larger than {self._limit} bytes")

    def _failed(self, why: str, *, timeout: bool = False) -> FetchFailed:
        self._over = FetchFailed(why, host=self._host, timeout=timeout)
        self._hang_up()
        return self._over
