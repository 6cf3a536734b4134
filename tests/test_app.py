from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.app import carried
from proxy.core.config import Config, ConfigError, load


@pytest.fixture
def listening(tmp_path: Path) -> Callable[[str], Config]:
    def read(listen: str) -> Config:
        path = tmp_path / "framegate.toml"
        path.write_text(
            f'[server]\nlisten = "{listen}"\n[upstreams.a]\nbase_url = "https://a.example/v1"\n'
            '[[routes]]\nmatch = "* /v1/*"\nchain = []\n'
        )
        return load(path, {})

    return read


def test_a_reload_leaves_the_listener_and_says_so(listening: Callable[[str], Config]) -> None:
    old, new = listening("127.0.0.1:1"), listening("127.0.0.1:2")
    config, fixed = carried(old, new)
    assert (config.server, fixed) == (old.server, ["server"])
    assert carried(old, old) == (old, [])


def test_a_config_checked_for_loopback_is_not_taken_where_others_reach_us(listening: Callable[[str], Config]) -> None:
    # A route that anybody may use passes the check on loopback, and the listener would have stayed public.
    with pytest.raises(ConfigError, match=r"server.listen: can't become 127.0.0.1:80 while 0.0.0.0:80 is served"):
        carried(listening("0.0.0.0:80"), listening("127.0.0.1:80"))
    carried(listening("127.0.0.1:80"), listening("0.0.0.0:80"))
