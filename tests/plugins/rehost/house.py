"""A house that rehosts in front of the sandbox, with two callers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from proxy.sandbox import Sandbox
from proxy.testkit.house import Served, serve

ANN, BOB = "sk-ann-0123456789abcdef0123456789abcdef", "sk-bob-0123456789abcdef0123456789abcdef"
CONFIG = """
[upstreams.openai]
base_url = "{url}"
api_key = "env:UPSTREAM"
[keys.ann]
secret = "env:ANN"
[keys.bob]
secret = "env:BOB"
{more}
[[routes]]
match = "* /v1/*"
chain = ["keys", "rehost", "failover"]
[server]
listen = "127.0.0.1:0"
public_url = "http://pictures.test"
"""


@dataclass(slots=True)
class Rehosting:
    """The house, its upstream, and a browser."""

    served: Served
    sandbox: Sandbox
    web: aiohttp.ClientSession

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"{self.served.url}/v1"

    async def get(self, link: str | None) -> bytes:
        """What stands behind a link of ours."""
        assert link is not None and link.startswith("http://pictures.test/files/")
        async with self.web.get(self.served.url + urlsplit(link).path) as answer:
            assert answer.status == 200
            return await answer.read()


@asynccontextmanager
async def rehosting(more: str = "", *, images: str = "file:state/images") -> AsyncIterator[Rehosting]:
    """Serve it; `more` are further tables of its config."""
    config = CONFIG.replace("{more}", f'[images]\nurl = "{images}"\n{more}')
    environ = {"ANN": ANN, "BOB": BOB, "UPSTREAM": "sk-upstream"}
    async with (
        Sandbox() as sandbox,
        serve(config.replace("{url}", sandbox.url), environ=environ) as served,
        aiohttp.ClientSession() as web,
    ):
        yield Rehosting(served, sandbox, web)
