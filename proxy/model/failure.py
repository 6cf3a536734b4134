"""What went wrong at an upstream, as one of nine classes, and what each class allows to be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

FailureClass = Literal[
    "rate_limit", "balance", "auth", "failure", "result_missing", "ambiguous", "connect", "safety", "invalid"
]
Again = Literal["never", "once", "after", "last"]
"""The same upstream again: never, once, after `retry_after`, or only when no other is usable."""

Next = Literal["yes", "no", "on_ambiguous", "on_result_missing", "on_safety"]
"""The next upstream: yes, no, or as the operator's setting of that name has it."""

Bench = Literal["none", "retry_after", "balance", "auth", "breaker"]
"""What is to rest: nothing, all for `retry_after`, all for long, that credential, or what a breaker says.

A person should hear of `balance` and `auth`.
"""

Billed = Literal["no", "maybe", "yes"]


class Action(NamedTuple):
    """What a class allows to be done."""

    again: Again
    next: Next
    bench: Bench
    billed: Billed


ACTIONS: Mapping[FailureClass, Action] = {
    "rate_limit": Action("after", "yes", "retry_after", "no"),
    "balance": Action("never", "yes", "balance", "no"),
    "auth": Action("never", "yes", "auth", "no"),
    "failure": Action("last", "yes", "breaker", "no"),
    "result_missing": Action("never", "on_result_missing", "breaker", "maybe"),
    "ambiguous": Action("never", "on_ambiguous", "breaker", "maybe"),
    "connect": Action("once", "yes", "breaker", "no"),
    "safety": Action("never", "on_safety", "none", "no"),
    "invalid": Action("never", "no", "none", "no"),
}
FREE: Mapping[FailureClass, Next] = {"ambiguous": "yes"}  # where the operation is free to repeat


class Told(NamedTuple):
    """What is safe to log of it: no prompt, no key, no account, no address."""

    code: str | None
    type: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, and what may be done about it.

    `retry_after` is in seconds, as the upstream told and where that can be believed. `guess` says that a rest would not
    stand on the upstream's explicit word. `billed` says whether somebody may have to pay for it.
    """

    kind: FailureClass
    again: Again
    next: Next
    bench: Bench
    billed: Billed
    told: Told
    retry_after: float | None = None
    guess: bool = False
    rule: str = ""  # the name of the rule that told the class; empty where none was needed

    @classmethod
    def of(
        cls,
        kind: FailureClass,
        told: Told,
        *,
        paid: bool,
        again: Again | None = None,
        bench: Bench | None = None,
        billed: Billed | None = None,
        retry_after: float | None = None,
        guess: bool = False,
        rule: str = "",
    ) -> Failure:
        """A failure of that class with the actions of its class; what is given here goes before them."""
        action = ACTIONS[kind]
        next = action.next if paid else FREE.get(kind, action.next)
        return cls(
            kind,
            again or action.again,
            next,
            bench or action.bench,
            billed or action.billed,
            told,
            retry_after,
            guess,
            rule,
        )
