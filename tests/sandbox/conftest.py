from __future__ import annotations

import pytest

from proxy.sandbox.endpoints import images

from . import spoken as more


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sandboxes of this test have the endpoints of `spoken.py` besides their own."""
    monkeypatch.setattr(images, "ROUTES", (*images.ROUTES, *more.ROUTES))
