"""What a request may take is taken before it goes on, of all limits that hold for it, or it is refused."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from plugins.quota import Quota
from proxy.api import CALLER, Caller, Exchange, Forward, Plugin, Request, Response
from proxy.core.config import load
from proxy.core.settings import settings_of
from proxy.testkit import Stage, answer

from .cases import ASK, CHAT, IMAGE, PRICES, TALK, ann, counted, drawn, limits, said, wait_of


async def test_what_fits_goes_on_and_what_does_not_is_refused_before_anything_is_sent() -> None:
    async with Stage(Quota(), upstream=drawn(), facts={CALLER: ann(images="2 / 1m")}) as stage:
        assert [(await stage.play(IMAGE, json=ASK)).status for _ in range(3)] == [200, 200, 429]
        assert len(stage.asked) == 2


async def test_a_refusal_says_which_limit_and_when_to_come_again() -> None:
    async with Stage(Quota(), upstream=drawn(), facts={CALLER: ann(images="2 / 30s")}) as stage:
        for _ in range(2):
            await stage.play(IMAGE, json=ASK)
        played = await stage.play(IMAGE, json=ASK)
        wait = wait_of(played)
        assert played.error == {
            "message": "Rate limit reached: the limit of 2 / 30s images for this key. 2 count at the moment, and this "
            f"may take 1. Try again in {wait} s.",
            "type": "images",
            "param": 'key limits.images "2 / 30s"',
            "code": "rate_limit_exceeded",
            "retryable": True,
        }
        assert (played.headers.get("x-should-retry"), 30 <= wait <= 31) == ("true", True)
        stage.clock.turn(wait - 2)
        early = await stage.play(IMAGE, json=ASK)
        assert early.status == 429
        stage.clock.turn(wait_of(early))
        assert (await stage.play(IMAGE, json=ASK)).status == 200


async def test_nobody_is_told_to_try_again_after_a_minute() -> None:
    async with Stage(Quota(), facts={CALLER: ann(requests="1 / 1h")}) as stage:
        await stage.play()
        played = await stage.play()
        assert (played.status, played.headers.get("x-should-retry")) == (429, "false")
        assert 3600 <= wait_of(played) <= 3660 and played.error["retryable"] is True


async def test_what_never_fits_is_told_so() -> None:
    async with Stage(Quota(), facts={CALLER: ann(images="2 / 1m")}) as stage:
        played = await stage.play(IMAGE, json={**ASK, "n": 4})
        assert (played.status, played.headers.get("x-should-retry")) == (429, "false")
        assert "retry-after" not in played.headers and played.error["retryable"] is False
        assert played.error["message"] == (
            "This may take 4 images, more than the limit of 2 / 1m images for this key ever allows: "
            "ask for fewer pictures at once."
        )
        assert not stage.asked


async def test_n_pictures_count_n() -> None:
    async with Stage(Quota(), upstream=drawn(4), facts={CALLER: ann(images="10 / 1m")}) as stage:
        assert (await stage.play(IMAGE, json={**ASK, "n": 4})).status == 200
        assert await counted(stage) == {"images": 4}
        assert (await stage.play(IMAGE, json={**ASK, "n": 4})).status == 200
        played = await stage.play(IMAGE, json={**ASK, "n": 4})
        assert (played.status, played.headers.get("x-ratelimit-remaining-images")) == (429, "2")


@pytest.mark.parametrize("n", [-1, 0, 1e9, 10**9, 2**63, 1.5, "2", True, [1], {}])
async def test_a_hostile_n_is_refused_and_poisons_no_counter(n: Any) -> None:
    async with Stage(Quota(), upstream=drawn(), facts={CALLER: ann(images="2 / 1m")}) as stage:
        played = await stage.play(IMAGE, json={**ASK, "n": n})
        assert (played.status, played.error["param"]) == (400, "n")
        assert await counted(stage) == {"images": 0}
        assert (await stage.play(IMAGE, json=ASK)).status == 200


@pytest.mark.parametrize("most", [-5, 10**12, "9", True, 1.5])
async def test_a_hostile_maximum_of_tokens_is_refused_and_poisons_no_counter(most: Any) -> None:
    async with Stage(Quota(), upstream=said(), facts={CALLER: ann(tokens="5k / 1m")}) as stage:
        played = await stage.play(CHAT, json={**TALK, "max_tokens": most})
        assert (played.status, played.error["param"]) == (400, "max_tokens")
        assert await counted(stage) == {"tokens": 0}


async def test_several_windows_hold_at_once_and_the_longest_wait_is_told() -> None:
    caller = ann(requests=["2 / 10s", "3 / 1m"])
    async with Stage(Quota(), facts={CALLER: caller}) as stage:
        await stage.play()
        await stage.play()
        assert (await stage.play()).error["param"] == 'key limits.requests "2 / 10s"'
        stage.clock.turn(11)
        assert (await stage.play()).status == 200
        refused = await stage.play()
        assert refused.error["param"] == 'key limits.requests "3 / 1m"'
        assert wait_of(refused) > 40


async def test_the_headers_tell_of_the_nearest_limit_of_each_resource() -> None:
    caller = ann(images=["4 / 1m", "100 / 1d"], requests="9 / 1m")
    async with Stage(Quota(), upstream=drawn(3), facts={CALLER: caller}) as stage:
        told = (await stage.play(IMAGE, json={**ASK, "n": 3})).headers
        names = [f"x-ratelimit-{what}-{of}" for of in ("images", "requests") for what in ("limit", "remaining")]
        assert [told.get(name) for name in names] == ["4", "1", "9", "8"]
        assert (told.get("x-ratelimit-reset-images") or "").startswith("1m0")
        assert "x-ratelimit-limit-tokens" not in told


async def test_an_upstreams_own_words_give_way_to_ours() -> None:
    upstream = answer(headers={"X-RateLimit-Limit-Requests": "5000", "x-ratelimit-limit-tokens": "7"})
    async with Stage(Quota(), upstream=upstream, facts={CALLER: ann(requests="9 / 1m")}) as stage:
        headers = (await stage.play()).headers
        assert headers.getall("x-ratelimit-limit-requests") == ["9"]
        assert headers.get("x-ratelimit-limit-tokens") == "7"


async def test_an_error_from_further_in_carries_the_headers_too() -> None:
    async with Stage(Quota(), _Refuses(), facts={CALLER: ann(requests="9 / 1m")}) as stage:
        played = await stage.play()
        assert (played.status, played.headers.get("x-ratelimit-remaining-requests")) == (500, "8")
        assert await counted(stage) == {"requests": 0}


class _Refuses(Plugin):
    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        from proxy.api import ProxyError

        raise ProxyError("no")


# --- whom limits count for

BOB = Caller("bob", "marketing")
CAT = Caller("cat", "marketing")
DAN = Caller("dan")


@pytest.mark.parametrize(
    ("per", "statuses"),
    [("key", [200, 200, 200, 429]), ("group", [200, 429, 200, 429]), ("all", [200, 429, 429, 429])],
)
async def test_limits_of_its_own_count_for_whom_it_says(per: Any, statuses: list[int]) -> None:
    async with Stage(Quota(per=per, limits=limits(requests="1 / 1m"))) as stage:
        asked = [await stage.play(facts={CALLER: caller}) for caller in (BOB, CAT, DAN, BOB)]
        assert [played.status for played in asked] == statuses


async def test_users_of_one_key_are_told_apart_and_not_written_down() -> None:
    quota = Quota(per="user", limits=limits(requests="1 / 1m"))
    async with Stage(quota, facts={CALLER: DAN}) as stage:
        for user, status in (("amelia@example.com", 200), ("bo", 200), ("amelia@example.com", 429), (None, 200)):
            assert (await stage.play(CHAT, json={**TALK, "user": user})).status == status
        same = {**TALK, "safety_identifier": "bo"}
        refused = await stage.play(CHAT, json=same)
        assert (refused.status, refused.error["param"]) == (429, 'user limits.requests "1 / 1m"')
        assert await counted(stage, "?user=bo") == {"requests": 1}
        assert await counted(stage, "?user=cy") == {"requests": 0}
        store = [path.read_bytes() for path in stage._folder.rglob("*") if path.is_file()]
        assert store and not any(b"amelia" in data for data in store)


async def test_a_group_shares_its_limits_and_each_key_has_its_own() -> None:
    settings = '[groups.marketing]\nlimits = { images = "3 / 1m" }\n'
    async with Stage(Quota(), upstream=drawn(), settings=settings) as stage:
        one, other = ann("marketing", images="2 / 1m"), CAT
        facts = [{CALLER: who} for who in (one, one, one, other, other)]
        asked = [await stage.play(IMAGE, json=ASK, facts=fact) for fact in facts]
        assert [played.status for played in asked] == [200, 200, 429, 200, 429]
        assert [asked[i].error["param"].split()[0] for i in (2, 4)] == ["key", "group"]


async def test_models_have_limits_whoever_names_them_and_wherever() -> None:
    settings = '[models."gpt-image-*"]\nlimits = { images = "1 / 1m" }\n'
    async with Stage(Quota(), upstream=drawn(), settings=settings) as stage:
        assert (await stage.play(IMAGE, json=ASK)).status == 200
        assert (await stage.play(IMAGE, json={**ASK, "model": "other"})).status == 200
        played = await stage.play(IMAGE, json={**ASK, "model": "gpt-image-1.5"}, facts={CALLER: BOB})
        assert (played.status, played.error["param"]) == (429, 'model limits.images "1 / 1m"')
        tool = {"type": "image_generation", "model": "gpt-image-2"}
        hidden = {"model": "gpt-5-mini", "input": "tea", "tools": [tool]}
        assert (await stage.play("POST /v1/responses", json=hidden)).status == 429
        assert (await stage.play(IMAGE, json={**ASK, "model": "other,gpt-image-2"})).status == 429
        assert await counted(stage, "?model=gpt-image-9") == {"images": 1}


async def test_a_route_has_limits_for_all_together() -> None:
    settings = '[[routes]]\nmatch = "* /v1/*"\nchain = ["quota"]\nlimits = { requests = "1 / 1m" }\n'
    async with Stage(Quota(), settings=settings) as stage:
        assert (await stage.play(facts={CALLER: BOB})).status == 200
        assert (await stage.play(facts={CALLER: DAN})).error["param"] == 'route limits.requests "1 / 1m"'


async def test_of_two_instances_the_outer_counts_what_is_not_their_own() -> None:
    outer, inner = Quota(limits=limits(requests="5 / 1m")), Quota(per="all", limits=limits(requests="5 / 1m"))
    async with Stage(outer, inner, facts={CALLER: ann(requests="2 / 1m")}) as stage:
        assert [(await stage.play()).status for _ in range(3)] == [200, 200, 429]


async def test_asked_twice_by_a_layer_outside_it_is_one_request() -> None:
    async with Stage(_Twice(), Quota(), upstream=drawn(), facts={CALLER: ann(images="5 / 1m")}) as stage:
        await stage.play(IMAGE, json=ASK)
        assert len(stage.asked) == 2 and await counted(stage) == {"images": 1}


class _Twice(Plugin):
    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        if request.method == "POST":
            await (await forward(request)).aclose()
        return await forward(request)


async def test_without_limits_nothing_is_read_counted_or_said() -> None:
    async with Stage(Quota(), facts={CALLER: BOB}) as stage:
        played = await stage.play(IMAGE, body=b'{"n": 1, "n": 2}', headers={"content-type": "application/json"})
        assert played.status == 200 and not any("ratelimit" in name for name in map(str, played.headers.view))
        assert not any(path.suffix == ".db" for path in stage._folder.rglob("*"))


async def test_a_request_that_takes_nothing_of_any_limit_asks_nobody() -> None:
    async with Stage(Quota(), facts={CALLER: ann(images="1 / 1m", budget="1 USD / day")}) as stage:
        assert [(await stage.play()).status for _ in range(3)] == [200, 200, 200]
        assert not any(path.suffix == ".db" for path in stage._folder.rglob("*"))


# --- at one time


async def test_no_more_run_at_one_time_than_may() -> None:
    gate = asyncio.Event()
    async with Stage(Quota(), upstream=answer(wait=gate), facts={CALLER: ann(concurrent=2)}) as stage:
        running = [stage.begin() for _ in range(2)]
        await stage.reached(2)
        refused = await stage.play()
        assert refused.error == {
            "message": "2 requests of this key are running, and 2 may at one time. Try again when one has ended.",
            "type": "concurrency",
            "param": 'key limits.concurrent "2"',
            "code": "rate_limit_exceeded",
            "retryable": True,
        }
        assert (refused.headers.get("retry-after"), refused.headers.get("x-should-retry")) == ("1", "true")
        gate.set()
        assert [(await one).status for one in running] == [200, 200]
        assert (await stage.play()).status == 200


async def test_a_place_is_held_until_the_answers_body_has_ended() -> None:
    more = asyncio.Event()
    upstream = answer(pieces=[b"a", more, b"b"])
    async with Stage(Quota(), upstream=upstream, facts={CALLER: ann(concurrent=1)}) as stage:
        first = stage.begin()
        await first.heard(1)
        assert (await stage.play()).status == 429
        more.set()
        assert (await first).body == b"ab" and await counted(stage) == {"concurrent": 0}


async def test_a_long_answer_outlives_its_lease() -> None:
    gate = asyncio.Event()
    async with Stage(Quota(), upstream=answer(wait=gate), facts={CALLER: ann(concurrent=1)}) as stage:
        first = stage.begin()
        await stage.reached()
        for _ in range(60):  # two minutes
            stage.clock.turn(2)
            await asyncio.sleep(0.01)
        assert (await stage.play()).status == 429
        gate.set()
        await first


# --- money


async def test_a_budget_is_refused_in_openais_own_shape_with_its_scope() -> None:
    facts = {CALLER: ann(budget="0.10 USD / month")}
    async with Stage(Quota(), upstream=drawn(), facts=facts, settings=PRICES) as stage:
        medium = {**ASK, "quality": "medium"}
        assert (await stage.play(IMAGE, json=medium)).status == 200
        played = await stage.play(IMAGE, json=medium)
        assert (played.status, played.headers.get("x-should-retry")) == (429, "false")
        wait = wait_of(played)
        assert 0 < wait <= 31 * 86400
        assert played.error == {
            "message": "You exceeded your current quota: the budget of 0.10 USD / month for this key. 0.053 USD of it "
            "are spent or held for what is running, and this may cost up to 0.053 USD.",
            "type": "insufficient_quota",
            "param": 'key limits.budget "0.10 USD / month"',
            "code": "insufficient_quota",
            "retryable": False,
            "scope": "key",
        }
        assert (await stage.play(IMAGE, json={**ASK, "quality": "low"})).status == 200
        stage.clock.turn(wait + 1)
        assert (await stage.play(IMAGE, json=medium)).status == 200


async def test_what_is_dearer_than_a_whole_budget_is_told_so() -> None:
    facts = {CALLER: ann(budget="0.10 USD / month")}
    async with Stage(Quota(), facts=facts, settings=PRICES) as stage:
        played = await stage.play(IMAGE, json=ASK)  # of no quality: the dearest
        assert played.error["message"].startswith("This may cost up to 0.211 USD, more than the budget of 0.10 USD")
        assert (played.error["code"], "retry-after" in played.headers) == ("insufficient_quota", False)


async def test_a_model_without_a_price_is_refused_where_a_budget_applies() -> None:
    facts = {CALLER: ann(budget="1 USD / day")}
    async with Stage(Quota(), upstream=drawn(), facts=facts, settings=PRICES) as stage:
        played = await stage.play(IMAGE, json={**ASK, "model": "unheard-of"})
        assert (played.status, played.error["code"]) == (503, "model_billing_not_configured")
        assert "'unheard-of' has no price" in played.error["message"] and not stage.asked
        assert (await stage.play(IMAGE, json={**ASK, "model": "unheard-of"}, facts={CALLER: BOB})).status == 200


@pytest.mark.parametrize(
    ("others", "status"), [("", 200), ('[upstreams.b.models]\n"tea" = "gpt-5"\n', 503)], ids=["one", "two"]
)
async def test_a_price_under_an_upstreams_own_name_holds_for_the_clients_where_it_is_certain(
    others: str, status: int
) -> None:
    base = 'base_url = "http://a.invalid/v1"\n'
    settings = f'{PRICES}[upstreams.a]\n{base}models = {{ "tea" = "gpt-image-2" }}\n[upstreams.b]\n{base}{others}'
    facts = {CALLER: ann(budget="1 USD / day")}
    async with Stage(Quota(), upstream={"a": drawn(), "b": drawn()}, facts=facts, settings=settings) as stage:
        assert (await stage.play(IMAGE, json={**ASK, "model": "tea"})).status == status
        assert await counted(stage) == {"budget": 0.211 if status == 200 else 0}


async def test_or_let_through_uncounted_and_named_in_the_log_once() -> None:
    quota = Quota(unknown_price="allow")
    facts = {CALLER: ann(budget="1 USD / day", requests="9 / 1m")}
    async with Stage(quota, upstream=drawn(), facts=facts, settings=PRICES) as stage:
        for _ in range(2):
            assert (await stage.play(IMAGE, json={**ASK, "model": "unheard-of"})).status == 200
        assert await counted(stage) == {"budget": 0, "requests": 2}
        assert [line["model"] for line in stage.log if line["event"] == "price_unknown"] == ["unheard-of"]


# --- soft limits


async def test_the_log_says_once_that_a_share_is_reached() -> None:
    async with Stage(Quota(warn=0.5), facts={CALLER: ann(requests="4 / 1m", concurrent=1)}) as stage:
        for _ in range(4):
            await stage.play()
        lines = [line for line in stage.log if line["event"] == "quota_warning"]
        assert [(line["limit"], line["used"]) for line in lines] == [("key:ann requests 4 / 1m", 0.5)]


async def test_no_share_no_word() -> None:
    async with Stage(Quota(warn=0.0), facts={CALLER: ann(requests="1 / 1m")}) as stage:
        await stage.play()
        assert not [line for line in stage.log if line["event"] == "quota_warning"]


def test_settings_that_contradict_each_other_are_complained_of() -> None:
    with pytest.raises(ValueError, match="a share from 0 to 1"):
        Quota(warn=1.1)
    with pytest.raises(ValueError, match='fallback counts only with on_store_error = "allow"'):
        Quota(fallback=limits(requests="1 / 1m"))


def test_the_config_of_the_page_is_fine(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent.parent.parent / "docs" / "quota.md").read_text()
    (config,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "framegate.toml"
    path.write_text(config)
    read = load(path, {"OPENAI_API_KEY": "k" * 40, "WEB_KEY": "w" * 40})
    assert read.unbuilt == () and read.keys["web"].limits.concurrent == 5
    names = {setting.name for setting in settings_of(Quota)}
    assert set(re.findall(r"^\| `(\w+)` \|.*\|.*\|.*\|$", page.partition("## What is exact")[0], re.MULTILINE)) == names
