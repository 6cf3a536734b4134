"""Which store a config names, and what it must say with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.api import Secret
from proxy.core.config import Config, ConfigError, StoreTable, load
from proxy.model.redis import RedisAt, RedisUrl

from .configs import KEY, ONE


def test_redis_is_a_store_that_needs_a_master_key(
    read: Callable[..., Config], said: Callable[..., list[str]], tmp_path: Path
) -> None:
    text = '[store]\nurl = "redis://host/1"\npassword = "env:OPENAI_API_KEY"\ntimeout = "500ms"\n'
    store = read(ONE + text, FRAMEGATE_MASTER_KEY="x").store
    at = RedisAt(RedisUrl("server", hosts=(("host", 6379),), db=1), timeout=0.5, password=Secret(KEY))
    assert (store.redis, store.folder, store.beside) == (at, tmp_path / "state", None)
    assert store.place == "redis://host/1" and store.there
    (line,) = said(ONE + text)
    assert line.startswith("store.url: a store that machines share needs a master key: set FRAMEGATE_MASTER_KEY")
    read(ONE + '[images]\nurl = "s3://bucket?region=eu-central-1"\n' + text, FRAMEGATE_MASTER_KEY="x")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('url = "redis://:hunter22@host/0"', "store: url must not hold a user or a password"),
        ('url = "mysql://host"', 'store: url must be "sqlite:PATH", "redis://HOST:6379/0"'),
        ('url = "redis://host"\npassword = "hunter22"', "store.password: a secret is written as"),
        ('url = "redis://host"\nusername = "gate"', "store: username is given without a password"),
        ('url = "redis://host"\nprefix = "{a}"', "store: prefix is made of letters"),
        ('url = "redis://host"\nca_file = "ca.pem"', "store: ca_file is for TLS"),
        ('url = "rediss://host"\nca_file = "none.pem"', "store: ca_file "),
        ('url = "redis://host"\nsentinel_password = "env:OPENAI_API_KEY"', "store: sentinel_password is for a url"),
        ('url = "redis://host"\npassword = "secret:redis"', "store.password: the store that it opens can't hold it"),
        ('prefix = "other"', "store: prefix is for Redis; this store is a file"),
        ('password = "env:OPENAI_API_KEY"', "store: password is for Redis; this store is a file"),
        ('timeout = "0s"', "store: timeout must be longer than nothing, and at most 30s"),
        ('timeout = "31s"', "store: timeout must be longer than nothing, and at most 30s"),
    ],
)
def test_what_a_redis_can_not_be(said: Callable[..., list[str]], text: str, complaint: str) -> None:
    lines = said(f"{ONE}[store]\n{text}\n", FRAMEGATE_MASTER_KEY="x")
    assert any(line.startswith(complaint) for line in lines), lines
    assert "hunter22" not in "".join(lines)


def test_secrets_of_the_store_are_asked_for_by_name(tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    path.write_text('[upstreams.a]\nbase_url = "https://a.example/v1"\napi_key = "secret:a"\n')
    asked: list[tuple[Path, str]] = []

    def kept(store: StoreTable) -> Callable[[str], str | None]:
        return lambda name: asked.append((store.path, name)) or KEY

    assert load(path, {}, kept=kept).upstreams["a"].api_key == (Secret(KEY),)
    assert asked == [(tmp_path / "state" / "framegate.db", "a")]
    with pytest.raises(ConfigError, match="there is no secret 'a' in the store"):
        load(path, {}, kept=lambda store: lambda name: None)
