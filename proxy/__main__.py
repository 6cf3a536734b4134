"""The command `framegate`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import proxy

from .operate import register

if TYPE_CHECKING:
    from .core.config import Config
    from .model.plugin import Plugin

SERVE = (
    "Serve until told to stop, with as many processes as server.workers says. "
    "SIGHUP reads the config again; SIGTERM lets what runs end, a second one hurries."
)
INTERRUPTED = 130  # what shells say of a process that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    if getattr(proxy, "DISTRIBUTION", None) != "framegate":
        where = getattr(proxy, "__file__", None)
        return _fail(
            f"framegate: another distribution's package 'proxy' is in the way: {where}; give each its own venv"
        )
    options = _parser().parse_args(argv)
    try:
        status = int(options.run(options))
        sys.stdout.flush()  # here, where a reader who has left can be met
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output had enough; there is nobody left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="framegate",
        description="A lightweight reverse proxy for OpenAI-shaped APIs, made for image workloads.",
    )
    parser.add_argument("--version", action="version", version=f"framegate {proxy.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: object, name: str, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text[0].lower() + text[1:].partition(".")[0], description=text)
        one.set_defaults(run=run)
        return one

    config = "the config file (TOML); without one: OpenAI on 127.0.0.1:8080, with OPENAI_API_KEY when it is set"
    serve = command(_serve, "serve", SERVE)
    serve.add_argument("--config", type=Path, metavar="FILE", help=config)
    serve.add_argument("--listen", metavar="ADDRESS", help='instead of server.listen: "HOST:PORT" or "unix:/path"')
    check = command(_check, "check", "Say all that is wrong with a config. Exit status 1 if anything is.")
    check.add_argument("file", type=Path, metavar="FILE", help="the config file (TOML)")
    check.add_argument("--live", action="store_true", help="also connect to each upstream; no request is sent")
    init = command(_init, "init", "Write a commented config to start from. An existing file is never overwritten.")
    init.add_argument("file", type=Path, metavar="FILE", nargs="?", default=Path("framegate.toml"))
    plugins = command(_plugins, "plugins", "Show what plugins are installed, their settings, and the chains in effect.")
    plugins.add_argument("--config", type=Path, metavar="FILE", help=config)
    sandbox = command(_sandbox, "sandbox", "Serve an OpenAI-shaped upstream that runs offline. No key, no bill.")
    sandbox.add_argument(
        "--listen", metavar="ADDRESS", default="127.0.0.1:8090", help='"HOST:PORT" (default: %(default)s)'
    )
    sandbox.add_argument("--control", metavar="ADDRESS", help='"HOST:PORT" of the control port (default: none)')
    sandbox.add_argument("--latency", metavar="FACTOR", help='"real", or a part of it such as 0.1 (default: none)')
    for name, what in (
        ("--rpm", "requests a minute"),
        ("--ipm", "images a minute"),
        ("--concurrent", "requests at once"),
    ):
        sandbox.add_argument(name, type=int, metavar="N", help=f"{what} that each key may make (default: no limit)")
    sandbox.add_argument(
        "--key", action="append", metavar="KEY", help="accept this key only; may be given several times"
    )
    register(commands)
    return parser


def _load(file: Path | None, listen: str | None = None) -> Config | None:
    """The config, or None when its complaints have been printed."""
    from .core.config import ConfigError, load
    from .state import kept

    try:
        return load(file, os.environ, listen=listen, kept=kept(os.environ))
    except ConfigError as error:
        _fail(str(error))
        return None


def _serve(options: argparse.Namespace) -> int:
    if (config := _load(options.config, options.listen)) is None:
        return 1
    from .app import serve
    from .core.config import load
    from .state import kept

    def reread() -> Config:
        return load(options.config, os.environ, listen=options.listen, kept=kept(os.environ))

    return serve(config, reread=reread)


def _check(options: argparse.Namespace) -> int:
    if (config := _load(options.file)) is None:
        return 1
    if options.live:
        from .app import dial

        if complaints := dial(config):
            return _fail("\n".join(complaints))
    print(f"{options.file}: fine")
    if config.server.workers > 1:
        print(f"{config.server.workers} workers share {config.server.listen}")
    _print_chains(config)
    return 0


def _init(options: argparse.Namespace) -> int:
    from importlib.resources import files

    sample = files("proxy.templates").joinpath("framegate.toml").read_text(encoding="utf-8")
    try:
        with options.file.open("x", encoding="utf-8") as file:
            file.write(sample.replace("FILE", str(options.file)))
    except FileExistsError:
        return _fail(f"{options.file}: is there already and is not overwritten")
    except OSError as error:
        return _fail(f"{options.file}: can't be written: {error.strerror}")
    print(f"{options.file}: written; next: framegate check {options.file}")
    return 0


def _plugins(options: argparse.Namespace) -> int:
    if (config := _load(options.config)) is None:
        return 1
    from .core import registry

    for name, points in sorted(registry.claims().items()):
        owners = ", ".join(registry.owner(point) for point in points)
        try:
            _print_plugin(f"{name} ({owners})", registry.find(name))
        except registry.NoPlugin as error:
            print(f"{name} ({owners})\n  can't be used: {error}")
    for table in config.plugins.values():
        if ":" in table.use:
            _print_plugin(f"{table.name} ({table.use})", table.plugin)
    if not registry.claims() and not config.plugins:
        print("no plugins are installed")
    print()
    _print_chains(config)
    return 0


def _print_plugin(title: str, plugin: type[Plugin]) -> None:
    from .core.settings import settings_of
    from .core.words import wanted, written
    from .model.plugin import Plugin

    print(title)
    if "__doc__" in vars(plugin) and plugin.__doc__ and not plugin.__doc__.startswith(f"{plugin.__name__}("):
        print(f"  {plugin.__doc__.strip().splitlines()[0]}")
    for setting in settings_of(plugin):
        default = "required" if setting.required else f"default {written(setting.kind, setting.default)}"
        print(f"  {setting.name}: {wanted(setting.kind)}; {default}")
    reads: object = plugin.reads
    if isinstance(reads, Collection):
        print(f"  reads in answers: {', '.join(sorted(reads))}")
    elif reads is not Plugin.reads:  # a property of its own: its settings decide
        print("  reads in answers: by its settings")


def _print_chains(config: Config) -> None:
    for picture in config.pictures():
        print(picture)
    if config.short_keys:
        print(f"warning: under 32 characters a key can be guessed: {', '.join(config.short_keys)}")
    if (why := config.certificate_doubt) is not None:
        print(f"warning: {why}")
    if config.unbuilt:
        print(f"not part of this version, without effect: {', '.join(config.unbuilt)}")


def _sandbox(options: argparse.Namespace) -> int:
    from .sandbox import SandboxError, serve

    settings: dict[str, Any] = {"ready": lambda url: print(f"the sandbox answers at {url}", flush=True)}
    try:
        host, port = _host_and_port("--listen", options.listen)
        if options.control is not None:
            settings["control"] = _host_and_port("--control", options.control)
            settings["control_ready"] = lambda url: print(f"its control port is {url}", flush=True)
        if options.latency is not None:
            settings["latency"] = "real" if options.latency == "real" else _factor(options.latency)
    except ValueError as error:
        return _fail(str(error))
    for name, value in (
        ("rpm", options.rpm),
        ("ipm", options.ipm),
        ("concurrent", options.concurrent),
        ("keys", options.key),
    ):
        if value is not None:
            settings[name] = value
    import asyncio

    try:
        asyncio.run(serve(host, port, **settings))
    except SandboxError as error:
        return _fail(f"framegate: {error}")
    return 0


def _host_and_port(option: str, text: str) -> tuple[str, int]:
    from .core.tables import Listen

    try:
        listen = Listen.parse(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
    if listen.path is not None:
        raise ValueError(f'{option}: the sandbox listens on "HOST:PORT" only')
    return listen.host, listen.port


def _factor(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f'--latency: "real" or a factor such as 0.1, not "{text}"') from error


def _fail(text: str) -> int:
    print(text, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
