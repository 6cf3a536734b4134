"""Fetching what an upstream's URL leads to: the address that is connected is the one that was judged."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import aiohappyeyeballs
from aiohttp import (
    ClientError,
    ClientHandlerType,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
)
from yarl import URL

from ..core import proxies
from ..model.errors import UpstreamError
from ..model.fetch import FetchFailed, FetchRefused
from ..model.services import Clock, Services
from ..model.values import Secret
from .dial import Address, over, why
from .internals import Dialler, Lent
from .patience import Patience
from .place import Place
from .public import IPAddress, literal, why_not
from .received import Received
from .trust import Trust

REDIRECTS = 3
REDIRECTED = frozenset((301, 302, 303, 307, 308))
AT_ONCE = 32  # fetches of one process
IN_LINE = 256  # that may wait for one of these
ENVIRONMENT = Secret("env")
NAMES = 8  # threads that look names up: of their own, lest slow names of strangers keep our upstreams' waiting
HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "Framegate"}

Judge = Callable[[IPAddress], str | None]
Found = Sequence[aiohappyeyeballs.AddrInfoType]
Resolve = Callable[[str, int], Awaitable[Found]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long one fetch may take, in seconds."""

    connect: float = 5.0  # from looking up the name to the end of TLS's handshake
    first_byte: float = 30.0  # from there to the end of the answer's head
    idle: float = 15.0  # between two pieces, while we ask for one
    total: float = 120.0  # all of it, with redirects and the wait for a place in the line


@dataclass(frozen=True, slots=True)
class Origin:
    """An upstream's own origin, as its table has it."""

    base_url: str
    address: Callable[[], Address]  # made with the first fetch from there, as it reads certificates
    proxy: Secret = ENVIRONMENT  # its setting, which holds for its pictures too

    def is_of(self, place: Place) -> bool:
        """Whether a URL leads to this scheme, host and port."""
        try:
            own = Place.parse(self.base_url)
        except FetchRefused:
            return False
        return (own.scheme, own.host, own.port) == (place.scheme, place.host, place.port)


class Gate:
    """So many at once in a process, whatever generation of the config they belong to."""

    def __init__(self, at_once: int = AT_ONCE, in_line: int = IN_LINE) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._in_line = in_line
        self._waiting = 0

    @asynccontextmanager
    async def place(self, patience: Patience, until: float) -> AsyncIterator[None]:
        """Wait for a place, and hold it. Raises FetchFailed."""
        if self._free.locked() and self._waiting >= self._in_line:
            raise FetchFailed("too many others are waiting to be fetched")
        self._waiting += 1
        try:
            async with patience.until(until):
                await self._free.acquire()
        except TimeoutError:
            raise FetchFailed("others were being fetched for too long", timeout=True) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


class Fetcher:
    """Fetches from upstreams' own origins, and from public addresses over https; from nowhere else.

    `judge` says what is wrong with an address, `resolve` looks a name up: seams for tests, which can't reach the
    open internet. No config leads to them.
    """

    def __init__(
        self,
        origins: Mapping[str, Origin],
        environ: Mapping[str, str],
        clock: Clock,
        *,
        gate: Gate | None = None,
        trust: Trust | None = None,
        limits: Limits | None = None,
        judge: Judge = why_not,
        resolve: Resolve | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.patience = Patience(clock.now)
        self.now = clock.now
        self.judge = judge
        self._origins = origins
        self._environ = environ
        self._gate = gate or Gate()
        self._trust = trust or Trust()
        self._resolve = resolve or self._look_up
        self._addresses: dict[str, Address] = {}
        self._pool: ThreadPoolExecutor | None = None
        self.hops: set[Hop] = set()

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Hang up at the end."""
        try:
            yield
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Hang up everywhere."""
        self.patience.close()
        for hop in tuple(self.hops):
            hop.abort()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    @asynccontextmanager
    async def open(self, url: str, *, upstream: str | None, limit: int) -> AsyncIterator[Received]:
        """Fetch it, `limit` bytes at the most."""
        until = self.now() + self.limits.total
        place = Place.parse(url)
        async with self._gate.place(self.patience, until):
            hop, response = await self._follow(place, upstream, until)
            try:
                wait = partial(self.patience.within, self.limits.idle, until)
                received = Received(response, hop.place.name, limit, wait, hop.abort)
                try:
                    yield received
                finally:
                    received.close()
            finally:
                await hop.aclose()

    async def _follow(self, place: Place, upstream: str | None, until: float) -> tuple[Hop, ClientResponse]:
        """Go where the URL leads, each place judged whole."""
        origin = None if upstream is None else self._origins.get(upstream)
        own = origin is not None
        for _ in range(REDIRECTS + 1):
            # Who was led away from the upstream's own origin is not led back to it: strangers don't choose it.
            own = own and origin is not None and origin.is_of(place)
            if own:
                assert upstream is not None and origin is not None
                address = self._addresses.get(upstream)
                if address is None:
                    address = self._addresses[upstream] = origin.address()
                hop = Hop(self, place, address)
            else:
                place.judge(self.judge)
                self._direct(place, origin)
                hop = Hop(self, place, None)
            self.hops.add(hop)
            try:
                response = await hop.ask(until)
                if response.status not in REDIRECTED:
                    if response.status != 200:
                        failed = f"it was answered with status {response.status}"
                        raise FetchFailed(failed, host=place.name, answered=response.status)
                    return hop, response
                told = response.headers.getall("Location", [])
                if len(told) != 1:
                    raise FetchFailed("it is redirected nowhere", host=place.name, answered=response.status)
                place = place.to(told[0])
            except BaseException:
                await hop.aclose()
                raise
            await hop.aclose()
        raise FetchFailed(f"it is redirected more than {REDIRECTS} times", host=place.name)

    def _direct(self, place: Place, origin: Origin | None) -> None:
        """See that no HTTP proxy stands in between: it would look the name up itself, and nobody judge the address."""
        setting = origin.proxy if origin is not None else ENVIRONMENT
        try:
            proxy = proxies.find(setting, place.origin, self._environ)
        except ValueError:
            raise FetchRefused("the proxy on the way can't be used", host=place.name) from None
        if proxy is not None:
            said = "the way there leads through an HTTP proxy, behind which its address can't be judged"
            raise FetchRefused(said, host=place.name)

    # --- what the hops ask for

    async def addresses(self, place: Place) -> Found:
        """Where that name is, all of it judged: one address that is not public speaks against the name."""
        try:
            found = await self._resolve(place.name, place.port)
        except (OSError, UnicodeError):
            raise FetchFailed("its host has no address", host=place.name) from None
        for info in found:
            address = literal(info[4][0])
            word = "nameless" if address is None else self.judge(address)
            if word:
                raise FetchRefused(f"its host has a {word} address, which is not public", host=place.name)
        if not found:
            raise FetchFailed("its host has no address", host=place.name)
        return found

    async def context(self) -> ssl.SSLContext:
        """How strangers' certificates are verified: as those of upstreams without a file of their own."""
        await self._trust.read([None])
        return self._trust.context()

    def left(self, hop: Hop) -> None:
        """A hop is over."""
        self.hops.discard(hop)

    async def _look_up(self, name: str, port: int) -> Found:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(NAMES, "framegate-names")
        ask = partial(socket.getaddrinfo, name, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._pool, ask)
        return [(family, kind, proto, "", address) for family, kind, proto, _, address in found]


class Hop:
    """One connection for one question: it dials where aiohttp's client would, and nothing of it is used again."""

    def __init__(self, fetcher: Fetcher, place: Place, address: Address | None) -> None:
        self.place = place
        self.lent: set[object] = set()
        self._fetcher = fetcher
        self._address = address  # the upstream's own; None: somebody's on the open internet
        self._transport: asyncio.BaseTransport | None = None
        self._session: ClientSession | None = None
        self._response: ClientResponse | None = None

    async def ask(self, until: float) -> ClientResponse:
        """The answer's head. Raises FetchRefused or FetchFailed, which hold nothing of the client's own words."""
        limits, patience = self._fetcher.limits, self._fetcher.patience
        session = self._session = ClientSession(
            connector=Dialler(self),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None),
            auto_decompress=False,
            headers=HEADERS,
            trust_env=False,
            middlewares=(_once,),
        )
        try:
            async with patience.within(limits.connect + limits.first_byte, until):
                self._response = await session.get(URL(self.place.url, encoded=True), allow_redirects=False)
        except TimeoutError:
            raise FetchFailed("no answer in time", host=self.place.name, timeout=True) from None
        return self._response

    async def lend(self, make: Callable[[], Lent]) -> Lent:
        """A connection for aiohttp's client."""
        limits, patience = self._fetcher.limits, self._fetcher.patience
        try:
            async with patience.within(limits.connect, float("inf")):
                made = await (self._to_public(make) if self._address is None else self._to_own(self._address, make))
        except OSError as error:
            timeout = isinstance(error, TimeoutError)
            raise FetchFailed(why(error), host=self.place.name, timeout=timeout) from None
        self._transport = made.transport
        return made

    async def _to_own(self, address: Address, make: Callable[[], Lent]) -> Lent:
        try:
            return await address.connect(make, timeout=self._fetcher.limits.connect, now=self._fetcher.now)
        except UpstreamError as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise FetchFailed("no connection through the proxy", host=self.place.name) from None

    async def _to_public(self, make: Callable[[], Lent]) -> Lent:
        loop = asyncio.get_running_loop()
        place = self.place
        found = await self._fetcher.addresses(place)
        context = await self._fetcher.context()
        # By number: nobody looks the name up a second time, so there is no moment in which it could change.
        sock = await aiohappyeyeballs.start_connection(found, happy_eyeballs_delay=0.25, loop=loop)
        try:
            peer = literal(sock.getpeername()[0])
            if peer is None or peer not in {literal(info[4][0]) for info in found}:
                raise FetchRefused("the connection leads elsewhere than it was to", host=place.name)
            return await over(sock, make, context, place.name)
        except BaseException:
            sock.close()
            raise

    def returned(self, one: object) -> None:
        """The connection is no more."""
        self.lent.discard(one)

    def abort(self) -> None:
        """Hang up at once; there is nobody to take leave of."""
        if self._transport is not None:
            self._transport.abort()  # type: ignore[attr-defined]

    async def aclose(self) -> None:
        """Hang up, and leave nothing open."""
        self.abort()
        self._fetcher.left(self)
        if self._response is not None:
            self._response.close()
        if self._session is not None:
            await self._session.close()


async def _once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Translate here, behind which aiohttp's client would ask again where a connection broke: it is a GET.

    Without their cause: some of its errors tell the whole URL, signature and all.
    """
    try:
        return await handler(request)
    except ClientResponseError:
        said = "its answer is not HTTP"
    except (ClientError, OSError):
        said = "the connection broke before it was answered"
    raise FetchFailed(said, host=request.url.raw_host or "")
