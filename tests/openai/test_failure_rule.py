from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from proxy.api import Exchange, Failure, Forward, Headers, Plugin, Request, Response, Services
from proxy.core.config import Config, ConfigError, load
from proxy.openai.failure import classify, of_reading
from proxy.openai.failure_rule import Rule, Rules, shipped
from proxy.testkit import Stage, TurnedClock, answer

from .failing import NONE

ROOT = Path(__file__).parent.parent.parent
ONE = '[upstreams.openai]\nbase_url = "https://api.openai.com/v1"\n[upstreams.xai]\nbase_url = "https://api.x.ai/v1"\n'
ERROR = b'{"error": {"code": "odd_thing", "type": "odd_error", "message": "An Odd Thing happened."}}'
BENCHING = ("balance", "auth", "rate_limit")


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Config]:
    def read(text: str) -> Config:
        path = tmp_path / "framegate.toml"
        path.write_text(ONE + text)
        return load(path, {})

    return read


@pytest.fixture
def said(read: Callable[[str], Config]) -> Callable[[str], list[str]]:
    def said(text: str) -> list[str]:
        with pytest.raises(ConfigError) as error:
            read(text)
        return [str(complaint) for complaint in error.value.complaints]

    return said


def judged(
    status: int, body: bytes = b"", *rules: Rule, headers: Headers = NONE, upstream: str = "a"
) -> Failure | None:
    return classify(status, headers, body, sent=True, paid=True, look=True, upstream=upstream, rules=Rules(rules))


# --- What holds


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (Rule("safety", status=(418,)), True),
        (Rule("safety", status=(418, 500)), True),
        (Rule("safety", status=("4xx",)), True),
        (Rule("safety", status=("5xx", 417)), False),
        (Rule("safety", code=("odd_thing",)), True),
        (Rule("safety", code=("ODD_error",)), True),
        (Rule("safety", code=("odd",)), False),
        (Rule("safety", code=("odd*",)), True),
        (Rule("safety", code=("*thing",)), True),
        (Rule("safety", code=("*d_t*",)), True),
        (Rule("safety", code=("*odd",)), False),
        (Rule("safety", code=("thing*",)), False),
        (Rule("safety", code=("x", "y", "odd_thing")), True),
        (Rule("safety", message=("odd thing",)), True),
        (Rule("safety", message=("even thing",)), False),
        (Rule("safety", body=("error",)), True),
        (Rule("safety", body=("html", "text", "empty", "json")), False),
        (Rule("safety", header={"Server": "odd"}), True),
        (Rule("safety", header={"server": ""}), True),
        (Rule("safety", header={"server": "nginx"}), False),
        (Rule("safety", header={"server": "", "via": ""}), False),
        (Rule("safety", finish=("stop",)), False),
        (Rule("safety", status=(418,), upstream=("a", "b")), True),
        (Rule("safety", status=(418,), upstream=("b",)), False),
        (Rule("safety", status=(418,), code=("odd_thing",), message=("odd",), header={"server": "o"}), True),
        (Rule("safety", status=(418,), code=("odd_thing",), message=("even",)), False),
    ],
)
def test_all_that_a_rule_names_must_hold(rule: Rule, holds: bool) -> None:
    found = judged(418, ERROR, rule, headers=Headers.of(server="Oddserver/1.0"))
    assert found is not None and found.kind == ("safety" if holds else "invalid")


def test_the_operators_rules_come_first_in_their_order() -> None:
    rules = Rule("failure", status=(429,)), Rule("invalid", status=(429,)), Rule("auth", status=(500,), name="odd")
    found = judged(429, b"", *rules)
    assert found is not None and (found.kind, found.rule) == ("failure", "failures[0]")
    found = judged(500, b"", *rules)
    assert found is not None and (found.kind, found.rule) == ("auth", "odd")


def test_a_rule_says_what_rests_and_what_is_billed() -> None:
    found = judged(404, b"", Rule("failure", status=(404,), bench="none", billed="yes"))
    assert found is not None and (found.kind, found.next, found.bench, found.billed) == (
        "failure",
        "yes",
        "none",
        "yes",
    )


def test_a_rule_without_a_status_is_for_errors_alone() -> None:
    rule = Rule("safety", message=("odd",))
    assert judged(200, b'{"message": "odd", "data": [{"b64_json": "aGk="}]}', rule) is None
    found = judged(200, ERROR, rule)
    assert found is not None and found.kind == "safety"
    found = judged(500, b"<html>Odd</html>", rule)
    assert found is not None and found.kind == "safety"


def test_a_200_without_a_picture_can_be_a_refusal_at_one_upstream() -> None:
    rules = Rules([Rule("safety", status=(200,), upstream=("xai",), body=("json",))])
    kinds = {
        name: found.kind
        for name in ("xai", "openai")
        if (found := of_reading(NONE, paid=True, image=True, verdict="none", upstream=name, rules=rules))
    }
    assert kinds == {"xai": "safety", "openai": "result_missing"}


def test_such_a_rule_leaves_alone_what_has_simply_ended() -> None:
    rule = Rule("safety", status=(200,), upstream=("xai",), body=("json",))
    chat = b'{"choices": [{"finish_reason": "stop", "message": {"content": "hi"}}]}'
    assert judged(200, chat, rule, upstream="xai") is None
    assert of_reading(NONE, paid=True, image=True, finish=["stop"], upstream="xai", rules=Rules([rule])) is None
    found = judged(200, chat.replace(b"stop", b"safety"), rule, Rule("invalid", finish=("SAFETY",)), upstream="xai")
    assert found is not None and (found.kind, found.rule) == ("invalid", "failures[1]")


def test_statuses_without_end_are_not_remembered() -> None:
    rules = Rules()
    for status in range(400, 3000):
        assert classify(status, NONE, b"", sent=True, paid=True, rules=rules) is not None
    assert len(rules._ready) < 1000


# --- The shipped ones


def test_every_shipped_rule_has_a_name_of_its_own_and_a_source() -> None:
    assert all(rule.name and rule.source for rule in shipped())
    assert len({rule.name for rule in shipped()}) == len(shipped())


def test_no_shipped_rule_benches_for_words_that_a_caller_could_have_put_there() -> None:
    echoing = {400, 404, 413, 422, "4xx", 500}
    bad = [
        rule.name
        for rule in shipped()
        if rule.class_ in BENCHING and rule.message and (not rule.status or echoing & set(rule.status))
    ]
    assert bad == []


def test_the_shipped_rules_are_what_an_operator_could_write(read: Callable[[str], Config]) -> None:
    config = read(files("proxy.openai").joinpath("failures.toml").read_text("utf-8"))
    assert config.failures == shipped()


# --- In the config


def test_rules_are_read_from_the_config(read: Callable[[str], Config]) -> None:
    config = read(
        '[[failures]]\nclass = "safety"\nupstream = "xai"\nstatus = 200\nbody = "json"\n'
        '[[failures]]\nclass = "rate_limit"\nstatus = ["4xx", 503]\ncode = ["busy", "queue_*"]\n'
        'header = { server = "x" }\n'
    )
    assert config.failures == (
        Rule("safety", upstream=("xai",), status=(200,), body=("json",)),
        Rule("rate_limit", status=("4xx", 503), code=("busy", "queue_*"), header={"server": "x"}),
    )


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("status = 429", 'failures[0].class: missing; it must be given: "rate_limit" or "balance" or '),
        ('class = "saftey"\nstatus = 400', 'did you mean "safety"?'),
        (
            'class_ = "safety"\nclass = "safety"\nstatus = 1',
            "failures[0].class_: no such setting; did you mean 'class'?",
        ),
        ('class = "safety"', "failures[0]: it would be true of every answer; name a status, code, message, finish"),
        (
            'class = "safety"\nstatus = 42',
            "failures[0]: status 42 is none that an answer can fail with; write 200 to 599",
        ),
        ('class = "safety"\nstatus = "3xx"', 'failures[0].status: expected a whole number or "2xx" or "4xx" or "5xx"'),
        ('class = "safety"\ncode = "*"', "failures[0]: code holds a text that is true of everything; take it out"),
        ('class = "safety"\nmessage = ["x", ""]', "failures[0]: message holds a text that is true of everything"),
        ('class = "safety"\ncode = "a*b"', "failures[0]: code 'a*b' has a '*' within; it may stand in front, behind,"),
        ('class = "safety"\nupstream = "xia"', "failures[0].upstream: no such upstream 'xia'; did you mean 'xai'?"),
        ('class = "safety"\nbody = "xml"', 'failures[0].body: expected "error" or "json" or "html"'),
        ('class = "safety"\ncodes = "x"', "failures[0].codes: no such setting; did you mean 'code'?"),
    ],
)
def test_a_wrong_rule_is_complained_of(said: Callable[[str], list[str]], table: str, complaint: str) -> None:
    lines = said(f"[[failures]]\n{table}\n")
    assert any(complaint in line for line in lines), lines


# --- Lent to plugins


class Ask(Plugin):
    """Tells the client of which class the answer is."""

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        self._failures = services.failures
        yield

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        response = await forward(request)
        body = await response.body.read(65536)
        await response.aclose()
        found = self._failures.classify(response.status, response.headers, body, sent=True, paid=True, upstream="main")
        assert found is not None
        return Response(200).with_body(f"{found.kind} {found.retry_after}".encode())


@pytest.mark.parametrize(
    ("settings", "kind"), [("", "rate_limit"), ('[[failures]]\nclass = "safety"\nstatus = 429\n', "safety")]
)
async def test_plugins_are_lent_the_rules_and_a_clock(settings: str, kind: str) -> None:
    clock = TurnedClock()
    upstream = answer(429, headers={"retry-after": formatdate(clock.wall() + 3600, usegmt=True)})
    async with Stage(Ask(), upstream=upstream, settings=settings, clock=clock) as stage:
        clock.turn(3540)
        played = await stage.play()
    told, _, seconds = played.body.decode().partition(" ")
    assert told == kind and 30 < float(seconds) <= 60


@pytest.mark.parametrize(("status", "asked"), [(401, ["main", "other"]), (400, ["main"]), (504, ["main"])])
async def test_the_plugin_of_the_page_on_errors_works_as_the_page_says(status: int, asked: list[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "errors.md").read_text(), re.DOTALL)
    module: dict[str, Any] = {"__name__": __name__}
    exec(code, module)
    upstreams = {"main": answer(status, body=b"no"), "other": answer(body=b"yes")}
    async with Stage(module["Second"](other="other"), upstream=upstreams) as stage:
        played = await stage.play("POST /v1/images/generations", json={"model": "m"})
        assert [one.upstream for one in stage.asked] == asked
    assert played.body == (b"yes" if "other" in asked else b"no")
