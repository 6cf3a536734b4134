"""structlog without rich, which it imports where it finds it, for tracebacks that are never printed here.

rich is there for the demo, and takes longer to import than structlog itself: start-up is imports.
"""

from __future__ import annotations

import sys

_absent = "rich" not in sys.modules
if _absent:
    sys.modules["rich"] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    if _absent:
        del sys.modules["rich"]

__all__ = ["structlog"]
