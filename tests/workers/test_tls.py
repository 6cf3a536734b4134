"""TLS as people run it: real processes, one and several, that are given another certificate while they serve."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
from pathlib import Path
from socket import create_connection

import pytest

from proxy.testkit import ScriptedUpstream

from ..end_to_end.process import command
from ..end_to_end.test_run import LOOPS
from ..wire.authority import Authority

GET = b"GET /v1/x HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"


def shown(port: int, context: ssl.SSLContext) -> str:
    """Which certificate a new client is shown, once it has been answered too."""
    with (
        create_connection(("127.0.0.1", port), timeout=20) as sock,
        context.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as client,
    ):
        client.sendall(GET)
        said = b""
        while piece := client.recv(2**16):
            said += piece
        assert said.startswith(b"HTTP/1.1 200 OK")
        certificate = client.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_certificate_is_renewed_in_all_workers_and_a_bad_one_in_none(
    workers: int, loop: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pem, path = tmp_path / "served.pem", tmp_path / "framegate.toml"
    shutil.copy(authority.pair("127.0.0.1"), pem)
    async with ScriptedUpstream() as upstream:

        def write(word: str) -> None:
            path.write_text(
                f'[server]\nlisten = "127.0.0.1:0"\nworkers = {workers}\nloop = "{loop}"\n'
                'certificate = "served.pem"\nprivate_key = "served.pem"\n'
                f'[upstreams.only]\nbase_url = "{upstream.url}/{word}"\n'
                '[[routes]]\nmatch = "* /v1/*"\nchain = []\n[log]\nexchanges = false\n'
            )

        write("a")
        async with command("serve", "--config", path) as process:
            line = await process.event("serving")
            assert line["address"].startswith("https://127.0.0.1:")
            port = int(line["address"].rpartition(":")[2])

            async def serials() -> set[str]:
                """What a number of clients are shown, of which each worker has some."""
                context = authority.client()
                return set(await asyncio.gather(*[asyncio.to_thread(shown, port, context) for _ in range(8)]))

            (first,) = await serials()
            shutil.copy(authority.pair("127.0.0.1"), pem)
            assert await serials() == {first}  # nobody looks at the file before they are told to
            process.send(signal.SIGHUP)
            await process.event("reloaded")
            (second,) = await serials()
            assert second != first

            pem.write_bytes(pem.read_bytes()[:100])
            write("b")
            process.send(signal.SIGHUP)
            (complaint,) = (await process.event("reload_refused"))["complaints"]
            assert complaint.startswith(f"server.certificate: {pem} holds no certificate in PEM form")
            upstream.requests.clear()
            assert await serials() == {second}
            assert {request.target for request in upstream.requests} == {b"/v1/a/x"}  # the whole config is the old one

            if workers > 1:  # who starts now has what the others have, not what is on the disk
                pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
                os.kill(pid, signal.SIGKILL)
                await process.event("worker_started")
                assert await serials() == {second}
            process.send(signal.SIGTERM)
            assert await process.ended() == 0, process.heard
            assert "Traceback" not in "".join(process.heard) and "restart_needed" not in "".join(process.heard)
