"""What requests take of limits and cost: in requests, pictures, tokens and nano-USD, never in floats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from .quota import MOST

NANO = 10**9  # of them are a USD


def nano(usd: Decimal) -> int:
    """The amount in nano-USD, a fraction of one rounded up."""
    return int((usd * NANO).to_integral_value(ROUND_CEILING))


class Share(NamedTuple):
    """What one model is paid for in one request."""

    model: str | None  # None: it is not named
    text_in: int = 0  # tokens
    image_in: int = 0
    text_out: int = 0
    image_out: int = 0
    images: int = 0  # pictures that it draws
    draws: bool = False  # was it asked for pictures?
    size: str | None = None
    quality: str | None = None
    told: bool = False  # the tokens are the answer's own word, not an estimate

    @property
    def tokens(self) -> int:
        """All of its tokens."""
        return min(MOST, self.text_in + self.image_in + self.text_out + self.image_out)


class Demand(NamedTuple):
    """The most that a request may take, as far as it can be told before it is sent."""

    requests: int
    images: int
    tokens: int
    shares: tuple[Share, ...] = ()  # the request's own model first; where there are none, it costs nothing
    choices: int = 1  # answers that are asked for
    guessed: bool = False  # no maximum was asked for, so the output is a guess

    @property
    def model(self) -> str | None:
        """The model that the request names."""
        return self.shares[0].model if self.shares else None


class Used(NamedTuple):
    """What a request has taken."""

    requests: int
    images: int
    tokens: int
    shares: tuple[Share, ...] = ()
    told: bool = False  # the answer told its usage


class Expected(Protocol):
    """How many tokens each model writes where nobody sets a maximum."""

    def of(self, model: str | None, /) -> int:
        """What is to be expected of that model."""

    def learn(self, demand: Demand, used: Used, /) -> None:
        """Heed what came of a request."""


class PriceBook(Protocol):
    """What requests cost, in nano-USD. `model` is the name under which the request's own model is looked up."""

    def most(self, model: str, demand: Demand, /) -> int | None:
        """The most that it may cost; None when some of it has no price."""

    def cost(self, model: str, used: Used, /) -> int | None:
        """What it has cost; None when some of it has no price."""


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs. What is not given is None, or not there."""

    images: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Nano-USD for a picture, by size and by quality, of which there is one at least; "" is any without its own."""
    text_in: int | None = None  # nano-USD for a million tokens, like those below
    image_in: int | None = None
    text_out: int | None = None
    image_out: int | None = None

    @property
    def by_tokens(self) -> bool:
        """Whether tokens have a price."""
        return any(one is not None for one in (self.text_in, self.image_in, self.text_out, self.image_out))

    def image(self, size: str | None, quality: str | None) -> int | None:
        """One picture: the dearest that those words may turn out to mean."""
        rows: Iterable[Mapping[str, int]] = self.images.values()
        if size and size != "auto":
            row = self.images.get(size) or self.images.get("")
            rows = rows if row is None else (row,)
        return max([_of_quality(row, quality) for row in rows], default=None)

    def tokens(self, share: Share) -> int | None:
        """All tokens of a share, rounded up to a nano-USD; None when some of them have no price."""
        _, text_in, image_in, text_out, image_out, *_ = share
        total = 0
        for count, price in (
            (text_in, self.text_in),
            (image_in, self.text_in if self.image_in is None else self.image_in),
            (text_out, self.text_out),
            (image_out, self.text_out if self.image_out is None else self.image_out),
        ):
            if count:
                if price is None:
                    return None
                total += count * price
        return -(-total // 1_000_000)


def price_of(prices: Mapping[str, Price], model: str) -> Price | None:
    """The price of a model by its name: under that very name, else by the longest glob that matches."""
    exact = prices.get(model)
    if exact is not None:
        return exact
    globs = [glob for glob in prices if fnmatchcase(model, glob)]
    return prices[max(globs, key=len)] if globs else None


def _of_quality(row: Mapping[str, int], quality: str | None) -> int:
    found = row.get(quality, row.get("")) if quality and quality != "auto" else None
    return max(row.values()) if found is None else found
