"""The classes of failures as plugins are lent them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..model.errors import ProxyError
from ..model.failure import Failure
from ..model.message import Headers
from ..model.services import Clock
from . import failure
from .failure_rule import Rule, Rules


class Judge:
    """`services.failures`: the same questions, under the rules of a config and by a clock."""

    def __init__(self, rules: Iterable[Rule], clock: Clock) -> None:
        self._rules = Rules(rules)
        self._clock = clock

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
        cooldown_max: float = failure.COOLDOWN_MAX,
    ) -> Failure | None:
        """The failure that an answer is, or None when it is none."""
        return failure.classify(
            status,
            headers,
            body,
            sent=sent,
            paid=paid,
            look=look,
            upstream=upstream,
            rules=self._rules,
            now=self._clock.wall(),
            cooldown_max=cooldown_max,
        )

    def of_reading(
        self,
        headers: Headers,
        *,
        paid: bool,
        image: bool,
        verdict: str = "unknown",
        error: Mapping[str, object] | str | None = None,
        finish: Iterable[str] = (),
        refusal: bool = False,
        used: bool = False,
        status: int = 200,
        upstream: str | None = None,
        cooldown_max: float = failure.COOLDOWN_MAX,
    ) -> Failure | None:
        """The failure that was found while a 2xx was read, or None."""
        return failure.of_reading(
            headers,
            paid=paid,
            image=image,
            verdict=verdict,
            error=error,
            finish=finish,
            refusal=refusal,
            used=used,
            status=status,
            upstream=upstream,
            rules=self._rules,
            now=self._clock.wall(),
            cooldown_max=cooldown_max,
        )

    def of_error(self, error: ProxyError, *, paid: bool) -> Failure | None:
        """The failure where nobody answered; None when the error is not the upstream's."""
        return failure.of_error(error, paid=paid)
