from __future__ import annotations

import sys

import pytest

from plugins.moderation.rule import Phrase, read


def complaints(toml: str) -> list[str]:
    """What is said of a file."""
    with pytest.raises(ValueError, match=r"rules\.toml") as raised:
        read(toml.encode(), "rules.toml")
    return str(raised.value).split("\n")


def test_reads_the_rules_of_a_file() -> None:
    first, second = read(
        rb"""
        [[rule]]
        category = "competitors"
        words    = ["Acme", "Acme  Corp", "acm*"]
        roles    = "user"
        unless   = "Acme Street"
        score    = 0.5

        [[rule]]
        category = "self-harm/intent"
        patterns = ['\bproject[ -]?x\b']
        """,
        "rules.toml",
    )
    assert first.place == "rule 1 of rules.toml" and second.place == "rule 2 of rules.toml"
    assert first.phrases == (Phrase(("acme",)), Phrase(("acme", "corp")), Phrase(("acm",), True))
    assert (first.roles, first.unless, first.score) == (frozenset({"user"}), (Phrase(("acme", "street")),), 0.5)
    assert (second.category, second.score, second.patterns[0].pattern) == (
        "self-harm/intent",
        1.0,
        r"\bproject[ -]?x\b",
    )
    assert read(b"", "rules.toml") == ()


def test_tells_all_that_is_wrong_each_with_its_place() -> None:
    told = complaints(r"""
        rules = 1
        [[rule]]
        category = "a"
        [[rule]]
        category = "b"
        word = ["x"]
        words = ["fine"]
        [[rule]]
        words = ["fine"]
        patterns = ['ok', 'a(b']
        roles = ["usr"]
        score = 2
    """)
    assert told == [
        "rules.toml: no such key 'rules'; did you mean 'rule'?",
        "rule 1 of rules.toml: it finds nothing; give it words or patterns",
        "rule 2 of rules.toml: no such key 'word'; did you mean 'words'?",
        'rule 3 of rules.toml: category is missing; it is what the client hears, as in "competitors"',
        "rule 3 of rules.toml: patterns: 'a(b' is no regular expression: missing ) at position 3",
        "rule 3 of rules.toml: roles: no such role 'usr'; did you mean 'user'?",
        "rule 3 of rules.toml: score 2 must be a number over 0, 1 at the most",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("words = [1]", "words must be a text, or a list of texts"),
        ("words = []", "it finds nothing; give it words or patterns"),
        ("words = ['!!']", "words: '!!' holds no letter and no digit; write it as a pattern"),
        ("words = ['c++']", "words: 'c++' ends with a sign, and words are letters and digits; write it as a pattern"),
        (
            "words = ['.net']",
            "words: '.net' begins with a sign, and words are letters and digits; write it as a pattern",
        ),
        ("words = ['a*b']", "words: 'a*b' has a '*' within; it may stand at the end"),
        ("words = ['*']", "words: '*' holds no letter and no digit; write it as a pattern"),
        ("words = ['a*']", "words: 'a*' would find too much; a beginning has 2 letters at least"),
        ("words = ['b c*']", "words: 'b c*' would find too much; a beginning has 2 letters at least"),
        ("words = ['" + "a " * 33 + "']", f"words: '{'a ' * 33}' has 33 words; 32 are looked at, at the most"),
        ("words = ['ok']\nunless = ['?']", "unless: '?' holds no letter and no digit; write it as a pattern"),
        ("words = ['ok']\nroles = []", "roles is empty, so that it is for nobody; leave it out to have it for all"),
        ("words = ['ok']\nscore = 0", "score 0 must be a number over 0, 1 at the most"),
        ("words = ['ok']\nscore = nan", "score nan must be a number over 0, 1 at the most"),
        ("words = ['ok']\nscore = true", "score True must be a number over 0, 1 at the most"),
        ("words = ['ok']\nscore = 'high'", "score 'high' must be a number over 0, 1 at the most"),
        ("patterns = ['a*']", "patterns: 'a*' finds nothing at all, too, and so it is true of every text"),
        ("patterns = ['']", "patterns: '' finds nothing at all, too, and so it is true of every text"),
        ("patterns = ['(?<=a']", "patterns: '(?<=a' is no regular expression: missing ) at position 5"),
    ],
)
def test_says_what_is_wrong_with_a_rule(line: str, told: str) -> None:
    assert complaints(f'[[rule]]\ncategory = "bad"\n{line}') == [f"rule 1 of rules.toml: {told}"]


@pytest.mark.parametrize("category", ['""', '"a b"', '"<b>"', '"a\\n"', '"' + "a" * 65 + '"', "1", "[]"])
def test_a_category_is_a_plain_word(category: str) -> None:
    (told,) = complaints(f'[[rule]]\ncategory = {category}\nwords = "x"')
    assert told.endswith("must be letters, digits and _ . / -, 64 at the most")


def test_what_is_no_list_of_rules_is_told() -> None:
    assert complaints("rule = 1") == ["rules.toml: rules are written as [[rule]] tables"]
    assert complaints("rule = [1]") == ["rules.toml: rules are written as [[rule]] tables"]
    assert complaints("[[rule") == ["rules.toml can't be read: " + complaints("[[rule")[0].partition(": ")[2]]
    with pytest.raises(ValueError, match=r"rules.toml can't be read: 'utf-8' codec"):
        read(b"\xff", "rules.toml")


def test_words_need_no_package_and_patterns_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "regex", None)
    assert len(read(b'[[rule]]\ncategory = "bad"\nwords = "x"', "rules.toml")) == 1
    assert complaints('[[rule]]\ncategory = "bad"\npatterns = "x"') == [
        "rule 1 of rules.toml: patterns need the package regex: pip install 'framegate[moderation]'"
    ]
