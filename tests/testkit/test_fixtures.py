"""The kit as a pytest plugin: in both of pytest-asyncio's modes, beside projects that do not use it, and without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from proxy.api import Exchange, Forward, Plugin, Request, Response
from proxy.testkit import RawClient, answer

from . import page

ASYNCIO = "pytest_asyncio.plugin"
LOOP = ("-o", "asyncio_default_fixture_loop_scope=function")

USES = """
import pytest
from proxy.testkit import RawClient
from proxy.api import Plugin

class Passes(Plugin):
    async def __call__(self, exchange, request, forward):
        return await forward(request)

@pytest.mark.asyncio
async def test_stage(framegate_stage, framegate_clock):
    stage = await framegate_stage(Passes())
    assert stage.clock is framegate_clock and (await stage.play()).status == 200

@pytest.mark.asyncio
async def test_leaves(framegate_stage):
    class Drops(Plugin):
        async def __call__(self, exchange, request, forward):
            await forward(request)
            return await forward(request)

    await (await framegate_stage(Drops())).play()

@pytest.mark.asyncio
async def test_serve(framegate_serve, framegate_sandbox):
    served = await framegate_serve(
        f'[upstreams.a]\\nbase_url = "{framegate_sandbox.url}"\\n'
        '[plugins.mine]\\nuse = "test_uses:Passes"\\n[[routes]]\\nmatch = "* /v1/*"\\nchain = ["mine"]\\n'
    )
    async with RawClient(served.port) as client:
        assert (await client.ask(b"GET /v1/models HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")).status == 200
"""


class Own(Plugin):
    """A plugin of this very module."""

    word: str

    async def __call__(self, exchange: Exchange, request: Request, forward: Forward) -> Response:
        return (await forward(request)).with_headers(x_word=self.word)


def pytest_run(folder: Path, *words: str, plugins: tuple[str, ...] = (ASYNCIO,)) -> tuple[int, str]:
    """Run pytest in that folder as a project would that has Framegate installed; its exit code and what it said."""
    shutil.copytree(page.ROOT / "proxy" / "testkit" / "entry", folder / "framegate_pytest")
    loaded = [part for name in (*plugins, "framegate_pytest") for part in ("-p", name)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *loaded, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{page.ROOT}:{folder}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_the_fixtures_work_in_both_modes_and_judge_after_the_test(tmp_path: Path, mode: str) -> None:
    (tmp_path / "test_uses.py").write_text(USES)
    code, said = pytest_run(tmp_path, "-o", f"asyncio_mode={mode}", *LOOP)
    assert code == 1 and "3 passed, 1 error" in said
    assert "ERROR test_uses.py::test_leaves - proxy.testkit.stage.LeftOpen" in said


def test_a_project_that_does_not_use_them_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    ours = sorted(name for name in sys.modules if name.split('.')[0] in ('proxy', 'plugins', 'aiohttp'))\n"
        "    assert ours == ['proxy', 'proxy.testkit', 'proxy.testkit.fixtures']\n"
    )
    code, said = pytest_run(tmp_path, *LOOP)
    assert code == 0, said


def test_a_project_with_a_proxy_of_its_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "proxy.py").write_text("import sys\n\nEARLY = 'test_mine' not in sys.modules\n")
    (tmp_path / "test_mine.py").write_text("import proxy\n\ndef test_it():\n    assert not proxy.EARLY\n")
    code, said = pytest_run(tmp_path, "-v", *LOOP)
    assert code == 0 and "framegate: no fixtures, since another module named 'proxy' stands in front" in said, said


def test_without_pytest_asyncio_they_say_what_is_lacking(tmp_path: Path) -> None:
    (tmp_path / "without.py").write_text("import sys\n\nsys.modules['pytest_asyncio'] = None\n")
    (tmp_path / "test_lacks.py").write_text(
        "def test_it(framegate_stage): ...\n\ndef test_other(framegate_clock): ...\n"
    )
    code, said = pytest_run(tmp_path, plugins=("without",))
    assert code == 1 and "1 passed, 1 error" in said
    assert "framegate_stage needs pytest-asyncio: pip install 'framegate[test]'" in said


async def test_a_stage_of_the_fixture_goes_by_the_fixtures_clock(framegate_stage, framegate_clock) -> None:
    one = await framegate_stage(Own("a"), upstream=answer(json=1))
    two = await framegate_stage(Own("b"))
    assert (await one.play()).headers.get("x-word") == "a" and (await two.play()).headers.get("x-word") == "b"
    assert one.clock is two.clock is framegate_clock


async def test_the_sandbox_serves_as_an_upstream(framegate_serve, framegate_sandbox) -> None:
    path = list(sys.path)
    served = await framegate_serve(f"""
[upstreams.openai]
base_url = "{framegate_sandbox.url}"
[plugins.own]
use = "{Own.__module__}:Own"
word = "told"
[[routes]]
match = "* /v1/*"
chain = ["own"]
""")
    async with RawClient(served.port) as client:
        heard = await client.ask(b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n")
    assert heard.get(b"x-word") == b"told" and orjson.loads(heard.body)["object"] == "list"
    assert len(await served.ended(1)) == 1 and sys.path == path
