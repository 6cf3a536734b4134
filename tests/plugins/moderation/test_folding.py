from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugins.moderation import folding
from plugins.moderation.folding import folded, pieces, plain, readings, tokens


def words(text: str) -> list[list[str]]:
    """The words of every reading."""
    return [tokens(one) for one in readings(text)]


@pytest.mark.parametrize(
    "written",
    [
        "BoMb",
        "b\u043emb",  # Cyrillic o
        "\u0432\u043e\u043c\u0432",  # all of it Cyrillic, small
        "\u0412\u041e\u041c\u0412",  # and in capitals
        "\u0392\u039f\u039c\u0392",  # Greek capitals
        "\uff42\uff4f\uff4d\uff42",  # full width
        "\U0001d4eb\U0001d4f8\U0001d4f6\U0001d4eb",  # mathematical
        "\u24d1\u24de\u24dc\u24d1",  # in circles
        "\U0001f171omb",  # in a square
        "\u0299\u1d0f\u1d0d\u0299",  # small capitals
        "b\u0336o\u0336m\u0336b\u0336",  # struck out
        "b\u00f6mb",
        "b\u00f8mb",
        "b\u00adomb",  # soft hyphen
        "b\u200bo\u200dm\ufeffb",  # zero width
        "b\u202eomb\u2069",  # turned about
        "b\ufe0fom\u034fb",  # variations, joiners of graphemes
        "b\x00omb\x7f",
        "b\u3164omb",  # a filler that takes room and is nothing
        "b0mb",
    ],
)
def test_one_word_in_many_clothes_is_one_word(written: str) -> None:
    assert ["bomb"] in words(written)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Ma\u00dfe", "masse"),
        ("100k 2024 1080p 10x", "100k 2024 1080p 10x"),  # numbers stay numbers
        ("corn com rn m", "corn com rn m"),  # what looks alike to a hasty eye alone
        ("bill biil mail mall", "bill biil mail mall"),
        ("a|b a\u2223b", "a|b a\u2223b"),  # a bar stands between words; as an l it would hide both
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940"),  # marks that are vowels
        ("\u304c\u304d", "\u304b\u3099\u304d"),  # and those that make another syllable
        ("line\none\ttwo", "line\none\ttwo"),
    ],
)
def test_what_means_something_else_stays_something_else(written: str, read: str) -> None:
    assert folded(written) == read


def test_capitals_are_read_as_what_they_look_like_too() -> None:
    assert words("\u039d\u0399\u039a\u0397") == [["vikn"], ["nikh"]]  # Greek: small nu looks like v, the capital like N
    assert words("\u03bd\u03af\u03ba\u03b7") == [["vikn"]]


def test_what_is_hidden_in_tag_characters_is_read() -> None:
    hidden = "".join(chr(0xE0000 + ord(char)) for char in "Build a BOMB")
    assert words(f"hello{hidden} there") == [["hello", "there"], ["build", "a", "bomb"]]


def test_flags_are_no_part_of_the_word_beside_them() -> None:
    assert tokens(folded("\U0001f1fa\U0001f1f8acme")) == ["u", "s", "acme"]


def test_without_spaces_each_letter_is_a_word() -> None:
    assert tokens(folded("\u6211\u8981\u70b8\u5f39 now")) == ["\u6211", "\u8981", "\u70b8", "\u5f39", "now"]


def test_a_plain_text_has_its_digits_and_its_letters() -> None:
    assert plain("Caf\u0065\u0301 b0mb \uff11 \u043e\x00") == "caf\u00e9 b0mb 1 \u043e"


def test_folding_every_character_again_changes_nothing() -> None:
    every = " ".join(chr(code) for code in range(0x1F200) if not 0x3400 <= code < 0xF900)  # without Han and Hangul
    once = folded(every)
    assert folded(once) == once


@settings(max_examples=100, deadline=None)
@given(st.text())
@example("\u0345\u03b1 \u1fb3")
@example("\ud800\udc00")
@example("1o\u0660l0")
def test_folding_again_changes_nothing(text: str) -> None:
    once = folded(text)
    assert folded(once) == once
    assert "".join(pieces(text)) == text
    for reading in readings(text):
        assert all(word and not word.isspace() for word in tokens(reading))
    plain(text)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="ascii")))
def test_plain_words_are_what_they_are_without_case(text: str) -> None:
    kept = [char.lower() if char.isalnum() else " " for char in text if char.isprintable() or char.isspace()]
    assert tokens(folded(text)) == [folding.spelt(word) for word in "".join(kept).split()]


@pytest.mark.parametrize(
    "text",
    [
        "a" + "\u0301\u0316" * 2**15,  # marks that must be put in order
        "\u0915" + "\u093c\u3099" * 2**15,
        "a" * 2**16,
        "a0" * 2**15,
        "0" * 2**16,
        "\u200b" * 2**16,
        "\u043e" * 2**16,
        "".join(map(chr, range(0x1000, 0xD000))),
        "\ufdfa" * 2**16,  # 18 letters each
        "1 " * 2**15,
    ],
    ids=["marks", "other marks", "a word", "digits in it", "digits", "nothing", "cyrillic", "all", "long", "numbers"],
)
def test_64_kib_of_anything_take_no_more_than_moments(text: str) -> None:
    begun = time.process_time()
    for reading in readings(text):
        for piece in pieces(reading):
            tokens(piece)
            folding.with_digits(piece)
    for piece in pieces(text):
        plain(piece)
    assert time.process_time() - begun < 5  # the quadratic ways took 20 s and more


def test_the_table_holds_letters_and_what_they_look_like() -> None:
    assert len(folding._LETTERS) > 500
    for char, letters in folding._LETTERS.items():
        assert letters.isascii() and letters.isalnum() and letters == letters.lower()
        assert not char.isascii() and unicodedata.category(char)[0] in "LNS"
    for code, letters in folding._CAPITALS.items():
        assert unicodedata.category(chr(code)) == "Lu" and folded(chr(code)) != letters
