from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.core import registry
from proxy.core.config import (
    Config,
    ConfigError,
    load,
)

from .configs import (
    ENVIRON,
    KEY,
)


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Config]:
    """Reads a file where no plugins are installed."""
    monkeypatch.setattr(registry, "claims", dict)

    def from_text(text: str, listen: str | None = None, **environ: str) -> Config:
        path = tmp_path / "framegate.toml"
        path.write_text(text)
        return load(path, ENVIRON | environ, listen=listen)

    return from_text


@pytest.fixture
def said(read: Callable[..., Config]) -> Callable[..., list[str]]:
    def complaints(text: str, **more: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, **more)
        assert KEY not in str(caught.value)
        return str(caught.value).splitlines()

    return complaints
