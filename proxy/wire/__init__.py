"""HTTP both ways."""

from . import lean  # noqa: F401 - before any module here imports aiohttp
