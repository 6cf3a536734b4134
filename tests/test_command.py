from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import proxy
from proxy import __main__ as command
from proxy.__main__ import main
from proxy.api import Duration, Plugin, Secret
from proxy.core import registry

ROOT = Path(__file__).parent.parent
KEY = "hunter2-the-real-key"
FINE = '[upstreams.openai]\nbase_url = "https://api.openai.com/v1"\napi_key = "env:OPENAI_API_KEY"\n'


class Stamp(Plugin):
    """Writes the time on every answer."""

    text: str
    pause: Duration = 90.0
    token: Secret | None = None
    inside: ClassVar[tuple[str, ...]] = ()


class Counts(Plugin):
    """Counts what answers cost."""

    reads = frozenset({"usage", "images"})


class Judges(Plugin):
    """Judges answers, where it is told to."""

    judge: bool = True

    @property
    def reads(self) -> tuple[str, ...]:
        return ("verdict",) if self.judge else ()


CLAIMS = registry.claims


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment, and no plugins installed."""
    monkeypatch.setattr(registry, "claims", dict)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "framegate.toml").write_text(text)
        return str(tmp_path / "framegate.toml")

    return write


def test_check_says_fine_and_draws_the_chains(file: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", path := file(FINE)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{path}: fine\n* /v1/*   (no plugins) || openai: credential > wire\n"
    assert err == ""


def test_check_says_what_does_nothing(file: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", file(FINE + '[admin]\ntoken = "env:OPENAI_API_KEY"\n')]) == 0
    assert "not part of this version, without effect: admin\n" in capsys.readouterr().out


def test_check_says_how_many_workers_share_the_address(
    file: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", path := file(FINE + "[server]\nworkers = 4\n")]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: fine\n4 workers share 127.0.0.1:8080\n")


def test_check_says_every_complaint_on_a_line_of_its_own(
    file: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", file(FINE + '[server]\nlisten = "0.0.0.0:80"\nworker = 2\n')]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.partition(":")[0] for line in err.splitlines()] == ["server.worker", "routes[0]"]
    assert KEY not in err


def test_check_live_says_which_upstream_can_not_be_reached(
    file: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = file('[upstreams.gone]\nbase_url = "http://127.0.0.1:1/v1"\n')
    assert main(["check", path]) == 0
    capsys.readouterr()
    assert main(["check", path, "--live"]) == 1
    assert capsys.readouterr().err.startswith("upstreams.gone: ")


@pytest.mark.parametrize(
    "arguments",
    [["check", "no-such.toml"], ["plugins", "--config", "no-such.toml"], ["serve", "--config", "no-such.toml"]],
)
def test_a_config_that_is_not_there_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert capsys.readouterr().err == "no-such.toml: can't be read: No such file or directory\n"


def test_serve_serves_zero_config_or_the_file(monkeypatch: pytest.MonkeyPatch, file: Callable[[str], str]) -> None:
    served: list[Any] = []

    def serve(config: Any, *, reread: Callable[[], Any]) -> int:
        served.append((config, reread()))
        return 7

    monkeypatch.setattr("proxy.app.serve", serve)
    assert main(["serve"]) == 7
    assert main(["serve", "--config", file(FINE), "--listen", "127.0.0.1:9"]) == 7
    assert [(config.path is None, str(config.server.listen)) for config, _ in served] == [
        (True, "127.0.0.1:8080"),
        (False, "127.0.0.1:9"),
    ]
    assert [config == again for config, again in served] == [True, True]


def test_serve_checks_the_address_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--listen", "0.0.0.0:8080"]) == 1
    assert "could spend the credential of upstream 'openai'" in capsys.readouterr().err


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("proxy.app.serve", interrupted)
    assert main(["serve"]) == 130
    assert capsys.readouterr() == ("", "")


def test_init_writes_a_config_that_is_fine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "claims", CLAIMS)  # it names a plugin of ours
    path = str(tmp_path / "new.toml")
    assert main(["init", path]) == 0
    assert path in capsys.readouterr().out
    assert main(["check", path]) == 0


def test_init_writes_framegate_toml_here_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    (tmp_path / "framegate.toml").write_text("mine")
    assert main(["init"]) == 1
    assert (tmp_path / "framegate.toml").read_text() == "mine"
    assert capsys.readouterr().err == "framegate.toml: is there already and is not overwritten\n"
    assert main(["init", "no/such/folder.toml"]) == 1
    assert capsys.readouterr().err == "no/such/folder.toml: can't be written: No such file or directory\n"


def test_plugins_shows_settings_and_chains(file: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    table = f'[plugins.stamp]\nuse = "{__name__}:Stamp"\ntext = "x"\ntoken = "env:OPENAI_API_KEY"\n'
    assert main(["plugins", "--config", file(FINE + table + '[[routes]]\nmatch = "* /v1/*"\nchain = ["stamp"]\n')]) == 0
    out = capsys.readouterr().out
    assert out.endswith(
        f"stamp ({__name__}:Stamp)\n"
        "  Writes the time on every answer.\n"
        "  text: text; required\n"
        '  pause: a duration such as "20s" or "10m"; default "90s"\n'
        '  token: a secret ("env:NAME", "file:/path" or "secret:NAME"); default none\n'
        "\n"
        "* /v1/*   stamp || openai: credential > wire\n"
    )
    assert KEY not in out


@pytest.mark.parametrize(("judge", "read"), [("true", "images, usage, verdict"), ("false", "images, usage")])
def test_plugins_shows_what_is_read_in_answers(
    file: Callable[[str], str], capsys: pytest.CaptureFixture[str], judge: str, read: str
) -> None:
    tables = f'[plugins.counts]\nuse = "{__name__}:Counts"\n'
    tables += f'[plugins.judges]\nuse = "{__name__}:Judges"\njudge = {judge}\n'
    tables += '[[routes]]\nmatch = "* /v1/images/*"\nchain = ["counts", "judges"]\n'
    tables += '[[routes]]\nmatch = "* /v1/*"\nchain = []\n'
    assert main(["plugins", "--config", file(FINE + tables)]) == 0
    out = capsys.readouterr().out
    assert "  Counts what answers cost.\n  reads in answers: images, usage\n" in out
    assert "default true\n  reads in answers: by its settings\n" in out
    assert out.endswith(
        f"* /v1/images/*   counts > judges > (reads {read}) || openai: credential > wire\n"
        "* /v1/*          (no plugins) || openai: credential > wire\n"
    )


def test_plugins_shows_the_chains_of_zero_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins"]) == 0
    assert "* /v1/*   " in capsys.readouterr().out


@pytest.mark.parametrize("address", ["8090", "unix:/run/sandbox", "::1:80"])
def test_sandbox_wants_host_and_port(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox", "--listen", address]) == 1
    assert capsys.readouterr().err.startswith("--listen: ")


def test_sandbox_serves_where_it_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def serve(host: str, port: int, *, ready: Callable[[str], None]) -> None:
        ready(f"http://{host}:{port}/v1")

    monkeypatch.setattr("proxy.sandbox.serve", serve)
    assert main(["sandbox"]) == 0
    assert capsys.readouterr().out == "the sandbox answers at http://127.0.0.1:8090/v1\n"


def test_what_keeps_the_sandbox_from_running_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from proxy.sandbox import SandboxError

    async def serve(*_: Any, **__: Any) -> None:
        raise SandboxError("no pictures without Pillow")

    monkeypatch.setattr("proxy.sandbox.serve", serve)
    assert main(["sandbox"]) == 1
    assert capsys.readouterr().err == "framegate: no pictures without Pillow\n"


def test_another_package_of_the_name_proxy_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(proxy, "DISTRIBUTION")
    assert main(["check", "whatever"]) == 1
    assert "another distribution's package 'proxy' is in the way" in capsys.readouterr().err


def test_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"framegate {proxy.__version__}\n"


@pytest.mark.parametrize("name", ["serve", "check", "init", "plugins", "sandbox"])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: framegate {name}" in capsys.readouterr().out


def test_a_reader_that_has_enough_is_no_traceback(file: Callable[[str], str]) -> None:
    shell = f"{sys.executable} -m proxy check {file(FINE)} | true"
    done = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_the_command_loads_nothing_heavy_before_it_is_needed() -> None:
    code = "import sys, proxy.__main__; print(sorted({'aiohttp', 'asyncio', 'orjson', 'ssl'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n"
    assert os.path.basename(command.__file__) == "__main__.py"
