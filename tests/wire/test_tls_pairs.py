"""Another certificate, and a port that is to begin or to cease to speak TLS, while it is served."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from proxy.core.config import Config, ConfigError, load
from proxy.testkit import ScriptedUpstream, serve

from ..loops import Run
from .authority import Authority
from .securing import Client, connected, secured
from .telling import GET, config


def serial(client: Client) -> str:
    """Which certificate it was shown."""
    shown = client.tls.getpeercert()
    assert shown is not None
    return str(shown["serialNumber"])


def test_another_pair_is_taken_without_a_connection_lost(run: Run, authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    store = f'[store]\nurl = "sqlite:{tmp_path}/framegate.db"\n'

    async def story() -> None:
        async with ScriptedUpstream() as upstream:

            def read(pem: Path | None) -> Config:
                path.write_text(config(upstream, server="" if pem is None else secured(pem)) + store)
                return load(path, {})

            one, two = authority.pair("127.0.0.1"), authority.pair("127.0.0.1")
            async with serve(config(upstream, server=secured(one)) + store) as served:

                async def shown() -> str:
                    with await asyncio.to_thread(Client, served, authority.client()) as client:
                        assert (await asyncio.to_thread(client.ask, GET)).startswith(b"HTTP/1.1 200 OK")
                        return serial(client)

                with await asyncio.to_thread(Client, served, authority.client()) as kept:
                    first = serial(kept)
                    assert first == await shown()
                    await served.house.reload(read(two))
                    second = await shown()
                    assert second != first
                    assert (await asyncio.to_thread(kept.ask, GET)).startswith(b"HTTP/1.1 200 OK")

                    two.write_bytes(one.read_bytes()[:200])  # a renewal that is half written
                    with pytest.raises(ConfigError, match="holds no certificate in PEM form"):
                        read(two)
                    assert await shown() == second  # read into memory: the files may go

                    await served.house.reload(read(None))  # TLS is not taken off while we serve
                    assert await shown() == second
                    (line,) = [line for line in served.log if line["event"] == "restart_needed"]
                    assert line["settings"] == ["server"]
                    assert (await asyncio.to_thread(kept.ask, GET)).startswith(b"HTTP/1.1 200 OK")

    run(story())


def test_a_port_without_tls_stays_one_until_the_next_start(run: Run, authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "framegate.toml"
    store = f'[store]\nurl = "sqlite:{tmp_path}/framegate.db"\n'

    async def story() -> None:
        async with ScriptedUpstream() as upstream, serve(config(upstream) + store) as served:
            path.write_text(config(upstream, server=secured(authority.pair("127.0.0.1"))) + store)
            await served.house.reload(load(path, {}))
            (line,) = [line for line in served.log if line["event"] == "restart_needed"]
            assert line["settings"] == ["server"] and served.house.config.pair is None
            with connected(served) as sock:
                sock.sendall(GET)
                assert (await asyncio.to_thread(sock.recv, 2**10)).startswith(b"HTTP/1.1 200 OK")

    run(story())
