"""What docs/moderation-rules.md says is so."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from .rule_cases import broken, rule_set

PAGE = (Path(__file__).parents[3] / "docs" / "moderation-rules.md").read_text()
RULES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[1]


def examples(table: str) -> list[str]:
    """The examples in the first column of a table."""
    rows = PAGE.split(f"| {table} | why |\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    written = [found for row in rows for found in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
    return [html.unescape(text.replace("<br>", "\n").replace("&shy;", "\u00ad")) for text in written]


@pytest.mark.parametrize("text", examples("found"), ids=ascii)
def test_finds_what_the_page_says(text: str) -> None:
    assert len(broken(rule_set(RULES), text)) == 1


@pytest.mark.parametrize("text", examples("passes"), ids=ascii)
def test_lets_pass_what_the_page_says(text: str) -> None:
    assert broken(rule_set(RULES), text) == set()


def test_other_words_of_the_page() -> None:
    rules = rule_set(RULES)
    assert len(rules.rules) == 3
    assert broken(rules, "Project-X7") == {"secret-projects"}
    assert broken(rules, "a bomb", role="assistant") == set()
    assert broken(rules, "acme street, acme") == {"competitors"}
    assert broken(rule_set("words = ['\ud3ed\ud0c4*']"), "\ud3ed\ud0c4\uc744") == {"bad"}
