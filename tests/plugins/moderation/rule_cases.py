"""Rules and texts that the tests of local rules are made of."""

from __future__ import annotations

from plugins.moderation.rule import read
from plugins.moderation.rule_patterns import Patience
from plugins.moderation.rule_set import RuleSet
from proxy.api import Text

# Any text of x alone has it try every way to part them. (The simpler ones are seen through by the library.)
SLOW = r"(x+x+)+y"
HARD = "x" * 2000


def rule_set(toml: str) -> RuleSet:
    """`rule_set('words = ["acme"]')`: one rule of the category "bad", or a whole file."""
    if "[[rule]]" not in toml:
        toml = f'[[rule]]\ncategory = "bad"\n{toml}'
    return RuleSet(read(toml.encode(), "rules.toml"))


def said(*texts: str, role: str = "user") -> tuple[Text, ...]:
    """Texts of a request."""
    return tuple(Text(f"messages[{i}].content", text, role) for i, text in enumerate(texts))


def broken(rules: RuleSet, *texts: str, role: str = "user") -> set[str]:
    """The categories that these texts are found in."""
    checked = rules.check(said(*texts, role=role), Patience())
    assert checked.late is None
    return set(checked.scores.flagged)
