"""Configs of a test's own, and the plugins that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from proxy.api import CALLER, Plugin, Secret, Slot

ROOT = Path(__file__).parent.parent.parent
KEY = "hunter2-the-real-key"
ENVIRON = {
    "OPENAI_API_KEY": KEY,
    "OPENAI_SECOND_KEY": KEY,
    "AZURE_KEY": KEY,
    "MARKETING_KEY": KEY,
    "FRAMEGATE_ADMIN_TOKEN": KEY,
}
ONE = '[upstreams.openai]\nbase_url = "https://api.openai.com/v1"\napi_key = "env:OPENAI_API_KEY"\n'
TWO = ONE + '[upstreams.azure]\nbase_url = "https://acme.example/v1"\n'
OPEN = '[server]\nlisten = "0.0.0.0:8080"\n'
HERE = __name__


class Keys(Plugin):
    fills: ClassVar[tuple[Slot[Any], ...]] = (CALLER,)


class Quota(Plugin):
    """Counts."""

    needs: ClassVar[tuple[Slot[Any], ...]] = (CALLER,)


class Failover(Plugin):
    to: tuple[str, ...] = ()
    inside: ClassVar[tuple[str, ...]] = ("quota",)


class Stamp(Plugin):
    text: str
    marks: list[str]
    token: Secret | None = None
    skippable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("text must not be empty")


class Rehost(Plugin):
    pass


class Nosy(Plugin):
    reads = ("usage", "image")


class Broken(Plugin):
    def __post_init__(self) -> None:
        raise KeyError("oh")


PLUGINS = "".join(
    f'[plugins.{name}]\nuse = "{HERE}:{cls}"\n'
    for name, cls in (("callers", "Keys"), ("count", "Quota"), ("again", "Failover"))
)
