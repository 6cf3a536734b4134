"""Limits that nobody counts are complained of: whoever writes one down relies on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from plugins.quota import Quota
from proxy.core import registry
from proxy.core.config import ConfigError, load
from proxy.model.plugin import Plugin

ONE = '[upstreams.openai]\nbase_url = "https://api.openai.com/v1"\n'
LIMITS = 'limits = { requests = "20 / 10s" }\n'
KEY = '[keys.a]\nsecret = "env:A"\n' + LIMITS
ROUTE = '[[routes]]\nmatch = "* /v1/*"\nchain = [{chain}]\n'
Said = Callable[[str], list[str]]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Said:
    known: dict[str, type[Plugin]] = {"quota": Quota}
    monkeypatch.setattr(registry, "claims", lambda: known)
    monkeypatch.setattr(registry, "find", lambda use, folder=None: known[use])

    def complaints(text: str) -> list[str]:
        path = tmp_path / "framegate.toml"
        path.write_text(ONE + text)
        try:
            load(path, {"A": "s" * 40})
        except ConfigError as error:
            return str(error).splitlines()
        return []

    return complaints


@pytest.mark.parametrize(
    ("table", "where"),
    [(KEY, "keys.a"), (f"[groups.g]\n{LIMITS}", "groups.g"), (f'[models."gpt-*"]\n{LIMITS}', "models.gpt-*")],
)
def test_limits_that_no_route_counts_are_named(said: Said, table: str, where: str) -> None:
    (complaint,) = said(table + ROUTE.format(chain=""))
    assert complaint.replace('"', "").startswith(f"{where}.limits: no route's chain holds 'quota', so nothing counts")
    assert said(table + ROUTE.format(chain='"quota"')) == said(table) == []


def test_a_routes_limits_are_counted_in_its_own_chain(said: Said) -> None:
    other = '[[routes]]\nmatch = "GET /v1/models"\nchain = []\nunmetered = true\n'
    assert said(other + LIMITS + ROUTE.format(chain='"quota"')) == [
        "routes[0].limits: nothing counts them here; put 'quota' in this route's chain"
    ]
    assert said(other + ROUTE.format(chain='"quota"') + LIMITS) == []


def test_settings_of_quota_are_read_and_complained_of(said: Said) -> None:
    assert said('[plugins.quota]\nper = "user"\nlimits = { images = "5 / day" }\nwarn = 0.9\n') == []
    assert said('[plugins.quota]\nper = "team"\n')[0].startswith("plugins.quota.per: expected")
    assert said('[plugins.quota]\nfallback = { requests = "1 / 1m" }\n') == [
        'plugins.quota: fallback counts only with on_store_error = "allow"'
    ]
