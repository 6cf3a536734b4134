"""What a request may take of each limit at most, before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import parse_qs

from proxy.api import Bounds, Demand, Operation, ProxyError, Request, Resource, Services, demand

LOOKED: frozenset[Resource] = frozenset(("images", "tokens", "budget"))  # what can't be counted without a look inside
MOST = 2**53 - 1  # of anything: as far as every store counts exactly
SPOKEN_OF = 256  # models without a price that the log has named


class Weigher:
    """Weighs requests for one instance."""

    def __init__(self, services: Services, name: str, *, refuses: bool) -> None:
        self._services = services
        self._name = name
        self._refuses = refuses  # what has no price
        self._spoken_of: set[str] = set()

    def demand(self, asked: Operation) -> Demand:
        """The most that it may take."""
        return demand(asked, self._services.means)

    def amounts(self, bounds: Bounds, wanted: Demand | None) -> tuple[int, ...]:
        """What it takes of each limit, line by line. Raises ProxyError where a budget applies and there is no price."""
        if wanted is None:
            return (1,) * len(bounds.lines)
        by_resource: dict[Resource, int] = {
            "requests": 1,
            "concurrent": 1,
            "images": min(MOST, wanted.images),
            "tokens": min(MOST, wanted.tokens),
        }
        if "budget" in bounds.resources:
            by_resource["budget"] = self._price(wanted)
        return bounds.amounts(by_resource)

    def _price(self, wanted: Demand) -> int:
        if not wanted.shares:
            return 0
        model = wanted.model or ""
        cost = self._services.prices.most(model, wanted)
        if cost is not None:
            return min(MOST, cost)
        if self._refuses:
            named = f"the model {model[:64]!r}" if model else "a request that names no model"
            raise ProxyError(
                f"A budget applies here, and {named} has no price, or a model that it draws with has none.",
                status=503,
                type="service_unavailable_error",
                code="model_billing_not_configured",
                param="model",
                retryable=False,
            )
        if model not in self._spoken_of and len(self._spoken_of) < SPOKEN_OF:
            self._spoken_of.add(model)
            self._services.log.warning("price_unknown", plugin=self._name, model=model[:64])
        return 0


def names(asked: Operation | None) -> Sequence[str]:
    """All models that a request names. Some routers take a list with commas, and one that is not seen may be any."""
    if asked is None:
        return ()
    found = [part.strip() for model in asked.models for part in (model.name or "").split(",")]
    return tuple(dict.fromkeys(found))


def user_of(asked: Operation | None) -> str:
    """The user that a request speaks for, as a short digest: who that is must not stand in the store."""
    user = None if asked is None else asked.safety_identifier or asked.user
    return _digest(user) if user else ""


def somebody(request: Request) -> str:
    """Likewise, where a caller asks what is left: the user of the query."""
    named = parse_qs(request.target.partition("?")[2]).get("user")
    return _digest(named[0]) if named else ""


def _digest(user: str) -> str:
    return blake2b(user.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
