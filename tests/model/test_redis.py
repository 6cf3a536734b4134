from __future__ import annotations

import pytest

from proxy.model.redis import RedisUrl


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://host", RedisUrl("server", hosts=(("host", 6379),))),
        ("redis://10.0.0.1:7000/2", RedisUrl("server", hosts=(("10.0.0.1", 7000),), db=2)),
        ("rediss://[::1]:7000/", RedisUrl("server", True, (("::1", 7000),))),
        ("unix:///run/redis.sock", RedisUrl("socket", path="/run/redis.sock")),
        ("unix:///run/redis.sock?db=4", RedisUrl("socket", path="/run/redis.sock", db=4)),
        (
            "redis+sentinel://a,b:1,[::2]/house/3",
            RedisUrl("sentinel", hosts=(("a", 26379), ("b", 1), ("::2", 26379)), service="house", db=3),
        ),
        ("rediss+sentinel://a/house", RedisUrl("sentinel", True, (("a", 26379),), service="house")),
        ("redis+cluster://a:1,b/0", RedisUrl("cluster", hosts=(("a", 1), ("b", 6379)))),
        ("rediss+cluster://a", RedisUrl("cluster", True, (("a", 6379),))),
    ],
)
def test_takes_an_address_apart(text: str, url: RedisUrl) -> None:
    assert RedisUrl.parse(text) == url


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("redis:host", "url must be"),
        ("http://hunter22", "url must be"),
        ("redis://", "names no host"),
        ("redis://hunter22:x", "names no host"),
        ("redis://host:70000", "names no host"),
        ("redis://host:6379:1", "names no host"),
        ("redis://user:hunter22@host", "user or a password"),
        ("redis://:hunter22@host", "user or a password"),
        ("redis://host?password=hunter22", "user or a password"),
        ("unix://user:hunter22@/run/redis.sock", "user or a password"),
        ("unix:///run/redis.sock?password=hunter22", "user or a password"),
        ("redis://host?hunter22=1", "must not hold a query"),
        ("redis://host/hunter22", "must be a number"),
        ("redis://host/0/hunter22", "must be a number"),
        ("redis://host/٣", "must be a number"),
        ("redis://a,hunter22", "several hosts"),
        ("redis://host/0#hunter22", "a '#'"),
        ("redis://ho st", "a blank"),
        ("unix://hunter22/redis.sock", "whole path"),
        ("unix:///", "whole path"),
        ("unix:///run/redis.sock?a=hunter22", "nothing but db"),
        ("unix:///run/redis.sock?db=hunter22", "must be a number"),
        ("redis+sentinel://hunter22", "must name the service"),
        ("redis+sentinel://a/0/hunter22", "must be a number"),
        ("redis+cluster://a/1", "has but one"),
    ],
)
def test_says_what_is_wrong_without_repeating_it(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as told:
        RedisUrl.parse(text)
    assert "hunter22" not in str(told.value)
