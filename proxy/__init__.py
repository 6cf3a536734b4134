"""Framegate: a lightweight reverse proxy for OpenAI-shaped APIs, made for image workloads."""

from __future__ import annotations

# `proxy` is a generic name, and at least one other distribution installs a package of that name.
# The command checks this mark before it runs anything.
DISTRIBUTION = "framegate"
__version__ = "0.1.0"
