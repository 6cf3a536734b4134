"""What is judged and what comes of it: the words that the parts of this plugin share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from proxy.api import Text, Unseen
from proxy.api import Unreadable as Unreadable
from proxy.api import View as View

Stage = Literal["input", "output"]
Decision = Literal["passed", "flagged", "blocked", "allowed", "unseen", "unchecked", "provider"]
"""What was done: "flagged" went on although it was found wanting, "allowed" because a person had allowed it, "unseen"
although not all of it could be looked at, "unchecked" although no backend answered; "provider" was refused upstream."""


class Unavailable(Exception):
    """A backend gave no verdict: it is down, late, at its limit, or can't be understood. `why` in a few words."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Sight(Protocol):
    """A picture that is to be judged. It stays where it is until a judge wants to see it."""

    @property
    def path(self) -> str:
        """Where it stands: `messages[0].content[1].image_url.url`."""

    @property
    def digest(self) -> bytes:
        """A digest of the picture's bytes as they came: the same picture has the same."""

    async def views(self) -> Sequence[View]:
        """What there is to be seen of it, mostly one view. Raises Unreadable."""


@dataclass(frozen=True, slots=True, repr=False)
class Matter:
    """All that is to be judged of one request, or of one answer. What a person wrote is not for logs: no repr."""

    stage: Stage
    texts: tuple[Text, ...] = ()  # each message, prompt or other field whole, its parts run together
    pictures: tuple[Sight, ...] = ()
    unseen: tuple[Unseen, ...] = ()  # what will be read upstream and can't be looked at here

    def __bool__(self) -> bool:
        return bool(self.texts or self.pictures or self.unseen)


@dataclass(frozen=True, slots=True)
class About:
    """Whose it is, for backends that judge by it. Never a secret."""

    id: str  # the exchange
    caller: str | None = None  # the public id of their key
    group: str | None = None
    kind: str = ""  # generate, edit, chat, ...
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """What one backend says: of each category the highest score of all, from 0 to 1, and those that it flags itself."""

    scores: Mapping[str, float] = field(default_factory=dict)
    flagged: frozenset[str] = frozenset()


class Backend(Protocol):
    """One that judges."""

    @property
    def name(self) -> str:
        """For log and audit: "rules", "openai", "judge"."""

    @property
    def sees(self) -> bool:
        """Whether it looks at pictures."""

    @property
    def personal(self) -> bool:
        """Whether it matters to it who asks, for what and of which model: the same words may pass for another."""

    async def judge(self, matter: Matter, about: About) -> Scores:
        """Judge all of it. Raises Unavailable, and Unreadable for a picture that nobody can see."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What all backends together say."""

    categories: tuple[str, ...] = ()  # that are over their thresholds, in alphabetical order; none: it may pass
    scores: Mapping[str, float] = field(default_factory=dict)
    backends: tuple[str, ...] = ()  # who has judged
    failed: tuple[str, ...] = ()  # who should have, and gave no verdict: "openai: timed out"
    unseen: tuple[Unseen, ...] = ()  # what nobody could look at

    def beside(self, unseen: tuple[Unseen, ...]) -> Verdict:
        """The same, with what was known not to be seen before anybody was asked."""
        return replace(self, unseen=(*unseen, *self.unseen))
