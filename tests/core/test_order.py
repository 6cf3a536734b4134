from __future__ import annotations

import re
from typing import Any, ClassVar

import pytest

from proxy.core.order import complaints, drawing, reads
from proxy.model.plugin import Plugin
from proxy.model.slots import CALLER, Slot


class Keys(Plugin):
    fills: ClassVar[tuple[Slot[Any], ...]] = (CALLER,)


class Quota(Plugin):
    needs: ClassVar[tuple[Slot[Any], ...]] = (CALLER,)


class Failover(Plugin):
    inside: ClassVar[tuple[str, ...]] = ("quota", "moderation")


KEYS, QUOTA, FAILOVER = ("keys", "keys", Keys), ("quota", "quota", Quota), ("failover", "failover", Failover)


def said(*layers: tuple[str, str, type[Plugin]]) -> list[str]:
    return [str(complaint) for complaint in complaints(layers, "routes[0]")]


def test_finds_nothing_wrong_with_the_usual_order() -> None:
    assert said(KEYS, QUOTA, FAILOVER) == []
    assert said() == []


def test_what_sits_inside_something_need_not_have_it_in_the_chain() -> None:
    assert said(FAILOVER) == []


def test_says_what_must_sit_inside_what() -> None:
    assert said(KEYS, FAILOVER, QUOTA) == ["routes[0]: 'failover' must sit inside 'quota'; move it further down"]


def test_names_instances_and_compares_kinds() -> None:
    assert said(KEYS, ("retries", "failover", Failover), ("tight", "quota", Quota)) == [
        "routes[0]: 'retries' must sit inside 'tight'; move it further down"
    ]


def test_says_who_fills_what_is_needed() -> None:
    assert said(QUOTA, KEYS) == [
        "routes[0]: 'quota' needs the caller, which no layer outside it fills; move 'keys' further up"
    ]
    assert said(QUOTA) == [
        "routes[0]: 'quota' needs the caller, which no layer outside it fills; put a plugin that fills it further up"
    ]


def test_an_instance_stands_in_a_chain_once() -> None:
    assert said(KEYS, KEYS) == ["routes[0]: 'keys' is in the chain twice; a second instance needs a name of its own"]
    assert said(KEYS, ("keys-2", "keys", Keys)) == []


def test_says_every_complaint_at_once() -> None:
    assert len(said(FAILOVER, QUOTA, QUOTA)) == 3


def test_draws_a_chain() -> None:
    one = drawing("* /v1/*", ["keys", "quota"], {"openai": ("credential", "wire")})
    assert one == "* /v1/*   keys > quota || openai: credential > wire"


def test_draws_the_reader_of_answers_where_it_stands() -> None:
    one = drawing("* /v1/*", ["failover"], {"openai": ("wire",)}, reads=("usage", "verdict"))
    assert one == "* /v1/*   failover > (reads usage, verdict) || openai: wire"


def reader(what: object) -> Plugin:
    return type("Reader", (Plugin,), {"reads": what})()


def test_says_what_nobody_sees_in_answers() -> None:
    assert reads([Keys(), reader(("verdict", "usage")), reader({"usage"})]) == ("usage", "verdict")
    for what, complaint in (
        (("usages",), "reads 'usages', which nobody sees in an answer; did you mean 'usage'?"),
        ("usage", 'reads "usage", which is a word and not several; write ("usage",)'),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
            reads([reader(what)])


def test_draws_each_further_upstream_on_a_line_of_its_own() -> None:
    two = drawing("* /v1/*", [], {"a": ("wire",), "b": ("credential", "wire")}, width=9)
    assert two == "* /v1/*     (no plugins) || a: wire\n                         || b: credential > wire"
