"""A bucket of an S3-compatible store, as a URL of the config names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, cast
from urllib.parse import parse_qsl, urlsplit

from .values import Secret

Style = Literal["path", "virtual"]
WANTED = '"s3://BUCKET/PREFIX?region=REGION&endpoint=https://HOST"'
KEYS = ("region", "endpoint", "style")
# Those of them that refuse a bucket's name in the path (OSS; COS for buckets made since 2024).
VIRTUAL = (".aliyuncs.com", ".myqcloud.com")


@dataclass(frozen=True, slots=True)
class Bucket:
    """Which bucket, and where."""

    name: str
    prefix: str  # "", or with a '/' behind it
    region: str
    endpoint: str | None  # None: AWS's own
    style: Style  # whether the bucket's name stands in the path or in the host's name

    @classmethod
    def parse(cls, url: str) -> Bucket:
        """The bucket of an s3:// URL; complaints repeat no value of it, for it may be a secret in the wrong place."""
        if re.search(r"[\x00-\x20\x7f\\#]", url):
            raise ValueError("url holds a blank, a backslash, a '#' or a control character")
        place, _, query = url.removeprefix("s3://").partition("?")
        if "@" in place:
            raise ValueError("url must not hold a user or a password; give them as access_key and secret_key")
        name, _, prefix = place.partition("/")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name):
            raise ValueError(f"url names no bucket (3 to 63 small letters, digits, '-' and '.'); write {WANTED}")
        prefix = prefix.strip("/")
        for part in prefix.split("/") if prefix else ():
            if part in (".", "..") or not re.fullmatch(r"[A-Za-z0-9!_.*'()-]+", part):
                raise ValueError("the prefix in url is made of letters, digits, '-', '_' and '.', with '/' between")
        given = _query(query)
        endpoint = given.get("endpoint")
        if endpoint is not None:
            endpoint = _endpoint(endpoint)
        region = given.get("region", "")
        if not region and endpoint is None:
            raise ValueError("url names no region; write s3://BUCKET?region=eu-central-1, or an endpoint")
        if not re.fullmatch(r"[a-z0-9-]*", region):
            raise ValueError("the region in url is made of small letters, digits and '-'")
        style = given.get("style") or _style(name, endpoint)
        if style not in ("path", "virtual"):
            raise ValueError("the style in url is path or virtual")
        return cls(name, f"{prefix}/" if prefix else "", region or "us-east-1", endpoint, cast("Style", style))


@dataclass(frozen=True, slots=True)
class Account:
    """A bucket, who we are to it, and for how long it may keep us waiting."""

    bucket: Bucket
    access_key: Secret | None = None  # None: the usual chain of AWS's tools finds both
    secret_key: Secret | None = None
    timeout: float = 30.0  # seconds for one picture to go up, or for an answer to begin


def _query(query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in KEYS:
            near = get_close_matches(key, KEYS, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(KEYS)}"
            raise ValueError(f"url holds a key behind '?' that there is not; {hint}")
        if key in given:
            raise ValueError(f"url gives {key} twice")
        if not value:
            raise ValueError(f"url gives {key} without a value")
        given[key] = value
    return given


def _endpoint(text: str) -> str:
    sorry = "the endpoint in url must be a whole URL such as https://ACCOUNT.r2.cloudflarestorage.com"
    try:
        url = urlsplit(text)
        url.port  # noqa: B018 - asking is the check
    except ValueError as exc:
        raise ValueError(sorry) from exc
    if url.scheme not in ("http", "https") or not url.hostname or re.search(r"[\x00-\x20\x7f\\#?]", text):
        raise ValueError(sorry)
    if url.username is not None or url.password is not None:
        raise ValueError("the endpoint in url must not hold a user or a password; give access_key and secret_key")
    return text.rstrip("/")


def _style(name: str, endpoint: str | None) -> Style:
    """The usual one. A certificate for *.HOST holds for no name with a dot in it, and few but AWS have such a one."""
    if endpoint is None:
        return "path" if "." in name else "virtual"
    return "virtual" if (urlsplit(endpoint).hostname or "").endswith(VIRTUAL) else "path"
