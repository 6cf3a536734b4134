from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.moderation.rule_patterns import Patience

from .rule_cases import HARD, SLOW, broken, rule_set, said

BOMB = rule_set(
    'words = ["bomb", "acme corp", "kill*", "big bad wol*", "\u70b8\u5f39", "\u0432\u043e\u0434\u043a\u0430"]'
)


@pytest.mark.parametrize(
    "text",
    [
        "How to build a BOMB?",
        "bomb",
        "(bomb)",
        "the-bomb/squad",
        "a_bomb_b",
        "b\u043emb",
        "b\u200bomb",
        "b.o.m.b",
        "b o m b",
        "a b - o\n m  b now",
        "B 0 M B",
        "\U0001f1e7\U0001f1f4\U0001f1f2\U0001f1e7",
        "|bomb|",
        "acme corp",
        "Acme\nCorp.",
        "acme,  corp",
        "acme-corp's",
        "ACME\u00a0CORP",
        "a c m e c o r p",
        "killers",
        "he kills",
        "kill",
        "K.I.L.L.E.R",
        "big bad wolves",
        "\u6211\u8981\u70b8\u5f39\uff01",
        "\u70b8 \u5f39",
        "\u0412\u043e\u0434\u043a\u0430!",
        "\u0412\u041e\u0414\u041a\u0410",
        "".join(chr(0xE0000 + ord(char)) for char in "bomb"),
    ],
)
def test_finds_words_whatever_they_wear(text: str) -> None:
    assert broken(BOMB, text) == {"bad"}


@pytest.mark.parametrize(
    "text",
    [
        "bombastic",
        "bombs",
        "sebomb",
        "acme incorporated corp",
        "acmecorp",
        "corp acme",
        "skill",
        "bo mb",
        "big bad wool",
        "bad wolf",
        "\u70b8\u9e21\u5f39",
        "b o x",
        "8 0 m 8",
        "",
        "!?",
    ],
)
def test_finds_nothing_inside_of_other_words(text: str) -> None:
    assert broken(BOMB, text) == set()


def test_towns_keep_their_names() -> None:
    rules = rule_set('words = ["cunt", "ass", "sex", "cum", "tit", "rape", "hell", "nig*"]')
    towns = "Scunthorpe Penistone Essex Sussex Cumbria classic assess titan grapes drape hello shell document sniggle"
    assert broken(rules, towns) == set()
    assert broken(rules, "he'll go, she'll stay: no-ass-ess") == {"bad"}  # a word between hyphens is one
    assert broken(rules, "he'll go, she'll stay, and I'll as well") == set()


def test_what_stands_in_another_phrase_passes_there_and_nowhere_else() -> None:
    rules = rule_set('words = ["acme", "wolf*"]\nunless = ["acme street", "the old acme", "wolfgang", "wolfram alph*"]')
    for text in (
        "5 Acme Street",
        "in the old ACME",
        "the old acme street",
        "Wolfgang",
        "Wolfram Alpha",
        "wolfram alphas",
    ):
        assert broken(rules, text) == set(), text
    for text in (
        "acme streets",
        "acme",
        "acme street acme",
        "acme acme street",
        "wolf",
        "wolfram beta",
        "a c m e street",
    ):
        assert broken(rules, text) == {"bad"}, text


def test_patterns_are_found_in_the_text_and_in_its_folding() -> None:
    rules = rule_set(r"""patterns = ['\bproject[ -]?x\b', '\b\d{3}-\d{4}\b', 'caf\u00e9', 'R[o]se']""")
    for text in (
        "Project X",
        "pr\u043eject-x",
        "pr\u200boject x",
        "call 555-1010",
        "\uff15\uff15\uff15-1010",
        "CAFE\u0301",
        "rOSE",
    ):
        assert broken(rules, text) == {"bad"}, text
    for text in ("projects", "5555-10101", "cafe"):
        assert broken(rules, text) == set(), text


def test_a_pattern_passes_within_a_phrase_and_nowhere_else() -> None:
    rules = rule_set(r"""
        patterns = ['acme\w*', '\d+ ways']
        unless = ["acme street", "acmestan", "ten 10 ways"]
    """)
    for text in ("Acme Street", "ACMESTAN", "on \u0430cme street.", "ten 10 ways"):
        assert broken(rules, text) == set(), text
    for text in ("acme street acmes", "acmestan acme", "acmestanis", "10 ways"):
        assert broken(rules, text) == {"bad"}, text


def test_a_long_text_is_searched_to_its_end_and_across_its_pieces() -> None:
    rules = rule_set(r"""
        words = ["bomb", "acme corp"]
        patterns = ['start\s+of\s+end']
    """)
    calm = "lorem ipsum dolor " * 5000
    for bad in ("bomb", "b o m b", "acme corp", "start of end", "b" + "\u200b" * 40_000 + "omb"):
        for shift in range(0, 24, 3):
            assert broken(rules, calm + "x" * shift + f" {bad} " + calm) == {"bad"}, (bad, shift)
    assert broken(rules, calm) == set()
    assert broken(rules, "acme" + " " * 40_000 + "corp") == {"bad"}


def test_no_word_is_cut_in_two() -> None:
    rules = rule_set('words = ["ass", "bas"]\npatterns = [\'\\bass\', "^,?b?ass", "bass[^-]$"]')
    for between in (",", "\u3002", "\u0301-", "\u70b8"):
        for shift in range(1, 7):
            assert broken(rules, "x" * shift + f"{between}bass" * 3000 + "-.") == set(), (between, shift)


def test_a_rule_for_a_role_is_for_that_role_and_for_whoever_claims_to_be_another() -> None:
    rules = rule_set('words = ["bomb"]\npatterns = ["x+y"]\nroles = ["user", "tool"]')
    for text in ("bomb", "xxy"):
        assert [broken(rules, text, role=role) for role in ("user", "tool", "stranger")] == [{"bad"}] * 3
        assert [broken(rules, text, role=role) for role in ("system", "assistant", "developer")] == [set()] * 3


def test_the_highest_score_of_a_category_counts() -> None:
    rules = rule_set("""
        [[rule]]
        category = "a"
        words = ["one", "both"]
        score = 0.25
        [[rule]]
        category = "a"
        words = "both"
        score = 0.5
        [[rule]]
        category = "b"
        words = "both"
    """)
    assert rules.check(said("one", "both"), Patience()).scores.scores == {"a": 0.5, "b": 1.0}
    assert rules.check(said("one"), Patience()).scores.scores == {"a": 0.25}
    assert rules.check(said("none"), Patience()).scores.scores == {}


def test_a_pattern_without_end_ends() -> None:
    rules = rule_set(f"patterns = ['{SLOW}', 'later']")
    begun = time.monotonic()
    checked = rules.check(said(HARD, *[HARD] * 99), Patience())
    assert checked.late is rules.rules[0] and not checked.certain
    assert time.monotonic() - begun < 2  # 100 such texts: one of them is enough
    checked = rules.check(said(HARD), Patience(0.001))
    assert checked.late is not None


def test_nobody_talks_a_rule_out_of_it_by_keeping_another_busy() -> None:
    text = "bomb " + HARD
    for score, certain in ((1.0, True), (0.5, False)):
        rules = rule_set(f"""
            [[rule]]
            category = "slow"
            patterns = ['{SLOW}']
            [[rule]]
            category = "bad"
            words = "bomb"
            score = {score}
        """)
        checked = rules.check(said(text), Patience())
        assert (checked.certain, checked.scores.scores, checked.late) == (certain, {"bad": score}, rules.rules[0])


def test_who_does_not_wait_any_more_is_not_searched_for() -> None:
    patience = Patience()
    patience.over = True
    assert rule_set("patterns = ['a']").check(said("b"), patience).late is not None


def _slowly(words: list[str], phrases: list[list[str]]) -> bool:
    return any(words[at : at + len(one)] == one for one in phrases for at in range(len(words)))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["ab", "bc", "cde", "abc", "dd"]), max_size=12),
    st.lists(st.lists(st.sampled_from(["ab", "bc", "cde", "abc"]), min_size=1, max_size=4), min_size=1, max_size=5),
)
def test_finds_what_a_slow_search_finds(words: list[str], phrases: list[list[str]]) -> None:
    rules = rule_set(f"words = {[' '.join(one) for one in phrases]!r}")
    assert bool(broken(rules, ", ".join(words))) == _slowly(words, phrases)


def test_ten_thousand_words_cost_no_more_than_ten() -> None:
    rng = random.Random(1)

    def word() -> str:
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(5, 12)))

    few, many = (
        [word() for _ in range(count // 2)] + [f"{word()} {word()}" for _ in range(count // 2)]
        for count in (10, 10_000)
    )
    text = " ".join(word() for _ in range(1200))  # 10 kB
    assert set(text.split()).isdisjoint(few + many)

    def took(words: list[str]) -> float:
        rules = rule_set(f"words = {words!r}")
        best = 9.0
        for _ in range(20):
            begun = time.process_time()
            assert broken(rules, text) == set()
            best = min(best, time.process_time() - begun)
        return best

    assert took(many) < 10 * took(few)  # one expression of all of them takes a thousand times as long
