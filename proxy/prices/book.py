"""The price book of the config's `[prices]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..model.prices import Demand, Price, Share, Used, price_of
from ..model.quota import MOST

NAMES, LONGEST = 1024, 256  # names, and characters of one, that are remembered


class ConfigBook:
    """Prices by model, as the config gives them."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = prices
        self._known: dict[str, Price | None] = {}  # by name, as requests have them: no more than so many

    def price(self, model: str) -> Price | None:
        """The price of that model."""
        if model in self._known:
            return self._known[model]
        found = price_of(self._prices, model)
        if len(self._known) < NAMES and len(model) <= LONGEST:
            self._known[model] = found
        return found

    def most(self, model: str, demand: Demand, /) -> int | None:
        """The most that it may cost; where a model has both sorts of price, by the dearer."""
        return self._sum(model, demand.shares, _most)

    def cost(self, model: str, used: Used, /) -> int | None:
        """What it has cost: by tokens where usage was told and tokens have a price, else by the pictures that came."""
        return self._sum(model, used.shares, _cost)

    def _sum(self, model: str, shares: Sequence[Share], priced: Callable[[Price, Share], int | None]) -> int | None:
        total = 0
        for at, share in enumerate(shares):
            if not share.tokens and not share.images:
                continue
            price = self.price((share.model or "") if at else model)
            cost = priced(price, share) if price is not None else None
            if cost is None:
                return None
            total += cost
        return min(MOST, total)


def _most(price: Price, share: Share) -> int | None:
    pictures = _pictures(price, share)
    tokens = price.tokens(share) if price.by_tokens else None
    if pictures is None or tokens is None:
        return tokens if pictures is None else pictures
    return max(pictures, tokens)


def _cost(price: Price, share: Share) -> int | None:
    pictures = _pictures(price, share)
    tokens = price.tokens(share) if price.by_tokens else None
    if tokens is not None and (share.told or pictures is None):
        return tokens
    return pictures


def _pictures(price: Price, share: Share) -> int | None:
    """Its pictures by the piece; None where nobody asked for any: then such a price says nothing of what it costs."""
    each = price.image(share.size, share.quality) if share.draws else None
    return None if each is None else each * share.images
