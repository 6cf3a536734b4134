"""What the house lends every plugin while it runs, as protocols."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from .errors import ProxyError
from .failure import Failure
from .fetch import Remote
from .health import Health
from .images import ImageStore
from .message import Headers, Request, Response
from .prices import Expected, PriceBook
from .quota import Quotas
from .sights import Sights
from .slots import Caller
from .store import Store


class Clock(Protocol):
    """Time that tests can turn."""

    def now(self) -> float:
        """Seconds on a clock that never steps back."""

    def wall(self) -> float:
        """Seconds since 1970, UTC."""

    def sleep(self, seconds: float, /) -> Awaitable[Any]:
        """Wait until that many seconds have passed."""


class Log(Protocol):
    """Structured events: a short past-tense phrase and details as keys. Never a secret, a prompt or base64."""

    def info(self, event: str, **details: Any) -> Any:
        """What somebody may want to know."""

    def warning(self, event: str, **details: Any) -> Any:
        """What a person should look at."""

    def error(self, event: str, **details: Any) -> Any:
        """What a person must act on."""


class Asks(Protocol):
    """What of an operation decides who can serve it."""

    @property
    def capability(self) -> str:
        """What it takes: image, text, audio, embeddings or other."""

    @property
    def models(self) -> Sequence[Any]:
        """The models that it names, each with a `name`."""


class Upstreams(Protocol):
    """The door to every upstream by name."""

    @property
    def health(self) -> Health:
        """Who may be asked, and from when on again."""

    @property
    def usual(self) -> tuple[str, ...]:
        """Those that are asked where none is named, in the config's order."""

    def names(self) -> tuple[str, ...]:
        """All upstreams, in the config's order."""

    def choosy(self, name: str, /) -> bool:
        """Whether there is anything that it does not serve, by its setting `only`."""

    def serves(self, name: str, asked: Asks, /) -> Literal[True] | str:
        """Whether that upstream serves what is asked, by its setting `only`; else why not, in a word."""

    def call(self, name: str, request: Request, /, *, deadline: float = ...) -> Awaitable[Response]:
        """Ask that upstream through its own inner chain; raises UpstreamError when nobody answered.

        In its queue nobody waits who would still wait at the `deadline`, on the house's clock.
        """


class Spawn(Protocol):
    """Start work that the app owns and drains at stop."""

    def __call__(self, work: Coroutine[Any, Any, Any], *, name: str) -> None:
        """Start it; a crash is logged under that name."""


class Callers(Protocol):
    """The directory of those who may call."""

    async def open(self) -> None:
        """See that it can answer: raises what stands in the way, at start rather than at the first request."""

    async def find(self, key: str) -> Caller:
        """Whose key it is; raises Rejected when it is nobody's, StoreError when that can't be told."""


class Failures(Protocol):
    """Tells the classes of failures apart, by the operator's rules and ours. It never raises, whatever comes."""

    def classify(
        self,
        status: int,
        headers: Headers,
        body: bytes | Mapping[str, object],
        *,
        sent: bool,
        paid: bool,
        look: bool = False,
        upstream: str | None = None,
        cooldown_max: float = ...,
    ) -> Failure | None:
        """The failure that an answer is, or None when it is none.

        `body` is its beginning (64 KiB are plenty), or what was read of it: an event, a task. `sent`: has the whole
        request gone out? `paid`: may it cost again to ask again? A 2xx is looked into only with `look`, or when a
        document is given. A Retry-After over `cooldown_max` seconds is not believed.
        """

    def of_reading(
        self,
        headers: Headers,
        *,
        paid: bool,
        image: bool,
        verdict: str = ...,
        error: Mapping[str, object] | str | None = None,
        finish: Iterable[str] = (),
        refusal: bool = False,
        used: bool = False,
        status: int = 200,
        upstream: str | None = None,
        cooldown_max: float = ...,
    ) -> Failure | None:
        """The failure that was found while a 2xx was read, or None.

        `image`: was a picture asked for? `verdict` says whether one came: "image", "error", "none" or "unknown".
        `error` is the one that was seen, `finish` why it ended, `used` whether it told of usage, which is paid for.
        """

    def of_error(self, error: ProxyError, *, paid: bool) -> Failure | None:
        """The failure where nobody answered, or the answer was cut; None when the error is not the upstream's."""


class Vault(Protocol):
    """Seals what must not lie in the store in clear, and knows things again without keeping them.

    Nothing of it is opened before it is asked. It raises StoreError where the store can't be asked, or was written
    under another master key. What plugins seal lies apart from the house's own secrets, which this can't open.
    """

    async def digester(self, purpose: str, /) -> Callable[[bytes], bytes]:
        """A keyed hash of 16 bytes for that purpose, the same in all processes that share the store.

        Without the master key nobody can try out what a hash may be of; two purposes' hashes can't be compared.
        """

    async def seal(self, name: str, text: str, /) -> bytes:
        """The text sealed under its name. Raises ValueError for a name of more than one line.

        Put into the store's space SEALED under that same name, it is sealed anew when the master key changes. What lies
        anywhere else is not, and can be opened only as long as the old master key is given too.
        """

    async def open(self, name: str, sealed: bytes, /) -> str:
        """The text; raises StoreError where it was sealed under another name, or another master key."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the house lends every plugin while it runs."""

    upstreams: Upstreams
    store: Store
    quotas: Quotas
    prices: PriceBook
    means: Expected
    images: ImageStore
    sights: Sights
    remote: Remote
    callers: Callers
    failures: Failures
    vault: Vault
    clock: Clock
    log: Log
    spawn: Spawn
