"""The tables of where things are kept: `[store]` and `[images]`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..model.values import Duration, Secret, Size
from .said import at_least_one, certificates, longer_than_nothing

if TYPE_CHECKING:  # and at run time where a table names one: most name neither
    from ..model.bucket import Account, Bucket
    from ..model.redis import RedisAt

LONGEST_CALL = 30.0  # seconds: whoever waits longer for a store has long lost the client
LONGEST_PUT = 180.0  # seconds: whoever takes ten minutes is taken for dead, and his picture for nobody's


@dataclass(frozen=True, slots=True)
class StoreTable:
    """`[store]`: where counters, keys and the ledger live."""

    url: str = "sqlite:state/framegate.db"
    timezone: str = "UTC"
    timeout: Duration = 1.0  # that nobody waits longer for it
    username: str = ""  # with Redis alone, like all below it
    password: Secret | None = None
    sentinel_password: Secret | None = None
    ca_file: Path | None = None
    prefix: str = "framegate"
    folder: Path = field(init=False, default=Path("state"))  # for files beside it; whole once the config is read

    def __post_init__(self) -> None:
        if not 0 < self.timeout <= LONGEST_CALL:
            raise ValueError(f"timeout must be longer than nothing, and at most {LONGEST_CALL:g}s")
        if not self.url.startswith("sqlite:") or self.url == "sqlite:" or "\0" in self.url:
            self._check_redis()
        else:
            for name, default in (("username", ""), ("prefix", "framegate")):
                if getattr(self, name) != default:
                    raise ValueError(f"{name} is for Redis; this store is a file")
            for name in ("password", "sentinel_password", "ca_file"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for Redis; this store is a file")
            object.__setattr__(self, "folder", self.path.parent)
        if self.timezone != "UTC":
            from zoneinfo import ZoneInfo

            try:
                ZoneInfo(self.timezone)
            except (KeyError, ValueError, OSError) as exc:
                raise ValueError(f'there is no timezone "{self.timezone}"; write "UTC" or "Europe/Berlin"') from exc

    def _check_redis(self) -> None:
        from ..model.redis import FORMS, SCHEMES, RedisUrl

        if self.url.partition(":")[0] not in SCHEMES:
            raise ValueError(f'url must be "sqlite:PATH", {FORMS}')
        url = RedisUrl.parse(self.url)
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,50}", self.prefix, re.ASCII):
            raise ValueError("prefix is made of letters, digits, '.', '_' and '-', 50 at the most")
        if self.username and self.password is None:
            raise ValueError("username is given without a password")
        if self.sentinel_password is not None and url.kind != "sentinel":
            raise ValueError("sentinel_password is for a url that names sentinels")
        if self.ca_file is not None:
            if not url.tls:
                raise ValueError('ca_file is for TLS, with which url begins "rediss"')
            certificates(self.ca_file)

    @property
    def redis(self) -> RedisAt | None:
        """The Redis that it is; None: it lies in a file."""
        if self.url.startswith("sqlite:"):
            return None
        from ..model.redis import RedisAt, RedisUrl

        secrets = self.password, self.sentinel_password
        return RedisAt(RedisUrl.parse(self.url), self.prefix, self.timeout, self.username, *secrets, self.ca_file)

    @property
    def place(self) -> str:
        """Where it is, for people. No secret stands in it."""
        return str(self.path) if self.redis is None else self.url

    @property
    def there(self) -> bool:
        """Whether there can be something in it: a file is made when it is first needed."""
        return self.redis is not None or self.path.exists()

    @property
    def beside(self) -> Path | None:
        """Where a master key may lie beside it; None where several machines share it."""
        return self.path.parent if self.redis is None else None

    @property
    def zone(self) -> tzinfo:
        """Whose days, weeks and months limits mean."""
        if self.timezone == "UTC":
            return UTC
        from zoneinfo import ZoneInfo

        return ZoneInfo(self.timezone)

    @property
    def path(self) -> Path:
        """The file of an embedded store; whole once the config is read."""
        return Path(self.url.removeprefix("sqlite:"))


@dataclass(frozen=True, slots=True)
class ImagesTable:
    """`[images]`: where pictures are kept and for how long."""

    url: str = "file:state/images"
    ttl: Duration | Literal["forever"] = 30 * 86400.0
    max_bytes: Size | None = None
    sign: bool = False
    link_ttl: Duration = 86400.0
    accel: str = ""
    access_key: Secret | None = None  # with S3 alone, like the three below it; not given: the usual chain finds both
    secret_key: Secret | None = None
    spool: Path | None = None  # not given: images, beside the store's file
    timeout: Duration | None = None  # not given: 30s

    def __post_init__(self) -> None:
        if self.url.startswith("s3://"):
            self._check_s3()
        elif not self.url.startswith("file:") or self.url == "file:" or "\0" in self.url:
            raise ValueError('url must be "file:PATH", or "s3://BUCKET/PREFIX?region=REGION"')
        else:
            for name in ("access_key", "secret_key", "spool", "timeout"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for pictures in S3; these lie in a folder")
        if self.accel and not re.fullmatch(r"/([A-Za-z0-9_-][A-Za-z0-9._~-]*/)+", self.accel):
            raise ValueError('accel must be the path of an internal location of nginx, such as "/internal/"')
        longer_than_nothing(self, "link_ttl", *(() if self.ttl == "forever" else ("ttl",)))
        at_least_one(self, *(("max_bytes",) if self.max_bytes is not None else ()))

    def _check_s3(self) -> None:
        from ..model.bucket import Bucket

        Bucket.parse(self.url)
        if self.accel:
            raise ValueError("accel is for a folder: nginx can't read what lies in S3; take it out")
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key are given together, or neither")
        if self.timeout is not None and not 0 < self.timeout <= LONGEST_PUT:
            raise ValueError(f"timeout must be longer than nothing, and at most {LONGEST_PUT:g}s")

    @property
    def bucket(self) -> Bucket | None:
        """The bucket in which they lie; None: they lie in a folder."""
        if not self.url.startswith("s3://"):
            return None
        from ..model.bucket import Bucket

        return Bucket.parse(self.url)

    @property
    def path(self) -> Path:
        """The folder; with S3 that of the pictures on their way in. Whole once the config is read."""
        if self.bucket is not None:
            return self.spool or Path("images")
        return Path(self.url.removeprefix("file:"))

    @property
    def account(self) -> Account | None:
        """Where in S3 pictures lie, if they do."""
        if (bucket := self.bucket) is None:
            return None
        from ..model.bucket import Account

        account = Account(bucket, self.access_key, self.secret_key)
        return account if self.timeout is None else replace(account, timeout=self.timeout)
