"""How a file gets from the disk to the client."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from proxy.testkit import Answer, RawClient

from ..end_to_end.process import opened
from .asking import DATA, get, house, kept
from .drawn import halves, seen
from .pictures import png


async def test_many_on_one_connection_and_nothing_stays_open() -> None:
    async with house() as served:
        told = await kept(served)
        folder = served.house.config.images
        assert folder is not None
        request = f"GET {told['path']} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        async with RawClient(served.port) as client:
            await client.send(request * 5)
            for _ in range(5):
                assert (await client.answer()).body == DATA
            assert (await client.ask(request.replace(b"GET", b"HEAD"), bodiless=True)).status == 200
            assert (await client.ask(request)).body == DATA
        assert not opened(folder.path)


async def test_a_client_that_leaves_in_the_middle_is_noticed() -> None:
    async with house() as served:
        told = await kept(served, png(8_000_000))
        async with RawClient(served.port, window=4096) as client:
            await client.send(f"GET {told['path']} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await client.head()
            client.reset()
        line = (await served.ended(2))[1]
        assert line["left"] and not line["complete"]
        assert served.house.config.images is not None and not opened(served.house.config.images.path)
        assert "delivery_crashed" not in {line["event"] for line in served.log}


async def test_one_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.wire.delivery.SLOWEST", 0.2)
    async with house() as served:
        told = await kept(served, png(8_000_000))
        async with RawClient(served.port, window=4096) as client:
            await client.send(f"GET {told['path']} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await client.head()
            line = (await served.ended(2))[1]
            assert line["left"] and line["bytes_out"] < 8_000_000
            assert len(await client.ended()) < 8_000_000


async def test_a_slow_reader_gets_every_byte_while_the_house_drains() -> None:
    data = png(6_000_000)
    async with house() as served:
        told = await kept(served, data)
        async with RawClient(served.port, window=2**16) as client, RawClient(served.port) as late:
            request = f"GET {told['path']} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            await late.ask(request)
            await client.send(request)
            await client.head()
            stopping = asyncio.create_task(served.house.stop())
            while not served.house.engine.draining:
                await asyncio.sleep(0)
            assert (await late.ask(request)).body == data  # a link is in somebody's hand: it leads there to the end
            assert await client.reader.readexactly(len(data)) == data
            await stopping


async def test_on_uvloop_too() -> None:
    import uvloop

    def ask() -> None:
        async def main() -> None:
            async with house() as served:
                told = await kept(served)
                assert (await get(served, told["path"])).body == DATA
                assert (await get(served, told["path"], "Range: bytes=7-250000")).body == DATA[7:250_001]

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    await asyncio.to_thread(ask)


async def test_over_tls_a_thread_reads(tmp_path: Path) -> None:
    """The kernel can't send what must be encrypted first."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with house() as served:
        told = await kept(served)
        server = await asyncio.get_running_loop().create_server(served.house.edge.listener, "127.0.0.1", 0, ssl=context)
        trust = ssl.create_default_context(cafile=str(certificate))
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(), ssl=trust, server_hostname="localhost"
        )
        writer.write(f"GET {told['path']} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(DATA)) == DATA
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()


async def test_nginx_reads_the_file_where_accel_says_so(needs: Callable[[str], str], tmp_path: Path) -> None:
    nginx = needs("nginx")
    page = (Path(__file__).parent.parent.parent / "docs/images.md").read_text()
    [locations] = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    async with house('accel = "/internal/"') as served, AsyncExitStack() as stack:
        # A port that was free a moment ago may be another's by now, and a test's own folder has too long a name.
        door = stack.enter_context(TemporaryDirectory(prefix="framegate-")) + "/nginx"
        told = await kept(served)
        drawn = await kept(served, halves())
        for _ in range(2):  # made, and found
            small = await get(served, drawn["path"] + "?w=256")
            place = f"/internal/thumbs/{drawn['sha256'][:2]}/{drawn['sha256']}.256.webp"
            assert (small.body, small.get(b"x-accel-redirect")) == (b"", place.encode())
            assert small.get(b"content-type") == b"image/webp" and small.get(b"etag") is None
        direct = await get(served, told["path"])
        assert direct.body == b"" and (direct.get(b"x-accel-redirect") or b"").endswith(told["sha256"].encode())
        assert served.house.config.images is not None
        locations = locations.replace("127.0.0.1:8080", f"127.0.0.1:{served.port}")
        locations = locations.replace("/var/lib/framegate/state/images", str(served.house.config.images.path))
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;\n"
            f"events {{}}\nhttp {{ access_log off; client_body_temp_path {tmp_path}/1; proxy_temp_path {tmp_path}/2;\n"
            f"fastcgi_temp_path {tmp_path}/3; uwsgi_temp_path {tmp_path}/4; scgi_temp_path {tmp_path}/5;\n"
            f"server {{ listen unix:{door};\n{locations}}} }}\n"
        )
        process = await asyncio.create_subprocess_exec(nginx, "-p", tmp_path, "-c", tmp_path / "nginx.conf")
        try:
            answer = await _through(process, door, told["path"])
            assert (answer.status, answer.body) == (200, DATA), (tmp_path / "error.log").read_text()
            plain = {b"content-type", b"x-content-type-options", b"content-security-policy", b"content-disposition"}
            shown = {name.lower(): value for name, value in answer.headers}
            assert shown[b"content-type"] == b"image/png" and plain < set(shown) and b"x-accel-redirect" not in shown
            assert shown[b"cache-control"] == b"public, max-age=86400"
            small = await _through(process, door, drawn["path"] + "?w=256")
            assert seen(small.body).size == (256, 128) and small.get(b"content-type") == b"image/webp"
            assert (await _through(process, door, place)).status == 404
            part = await _through(process, door, told["path"], "Range: bytes=5-9")
            assert (part.status, part.body) == (206, DATA[5:10])
            inside = f"/internal/blobs/{told['sha256'][:2]}/{told['sha256']}"
            assert (await _through(process, door, inside)).status == 404
            assert (await _through(process, door, "/files/" + "a" * 26 + ".png")).status == 404
        finally:
            process.terminate()
            await process.wait()


async def _through(process: asyncio.subprocess.Process, door: str, target: str, *lines: str) -> Answer:
    while True:
        assert process.returncode is None, "nginx has ended"
        try:
            async with RawClient(door) as client:
                head = "".join([f"{line}\r\n" for line in (f"GET {target} HTTP/1.1", "Host: a", *lines)])
                return await client.ask(f"{head}\r\n".encode())
        except (ConnectionRefusedError, FileNotFoundError):
            await asyncio.sleep(0.01)
