"""The floor `naive`: pictures to files and URLs as one writes it first, each body parsed and built again."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aiohttp
from aiohttp import web

PORT, UPSTREAM, FOLDER = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
SESSION = web.AppKey("SESSION", aiohttp.ClientSession)
SUMS = "sum" in sys.argv[4:]  # files are named by what is in them
KEPT = 256  # files: the disk of a bench is no archive


async def session(app: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession() as app[SESSION]:
        yield


async def handle(request: web.Request) -> web.Response:
    body = await request.read()
    headers = {"Content-Type": request.content_type}
    url = f"http://127.0.0.1:{UPSTREAM}{request.path_qs}"
    async with request.app[SESSION].post(url, headers=headers, data=body) as answer:
        document = json.loads(await answer.read())
    for item in document.get("data", ()):
        picture = base64.b64decode(item.pop("b64_json"))
        name = f"{hashlib.sha256(picture).hexdigest() if SUMS else uuid4().hex}.png"
        (FOLDER / name).write_bytes(picture)
        item["url"] = f"http://127.0.0.1:{PORT}/files/{name}"
        stored[name] = None
    while len(stored) > KEPT:
        oldest = next(iter(stored))
        del stored[oldest]
        (FOLDER / oldest).unlink()
    return web.Response(status=answer.status, text=json.dumps(document), content_type="application/json")


if __name__ == "__main__":
    stored: dict[str, None] = {}  # in the order in which they came
    FOLDER.mkdir(parents=True, exist_ok=True)
    app = web.Application(client_max_size=2**30)
    app.cleanup_ctx.append(session)
    app.router.add_route("POST", "/{path:.*}", handle)
    web.run_app(app, host="127.0.0.1", port=PORT, access_log=None, print=None)
