"""Each floor imports only from those below it; the line that climbs is named."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("proxy", "plugins")

# Folder or module -> what of ours, and what foreign package, it may import. The longest name that fits decides.
FLOORS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "proxy.model": (("proxy.model",), ("multidict",)),
    "proxy.api": (("proxy.model", "proxy.openai"), ()),
    "proxy.core": (("proxy.core", "proxy.model", "proxy.openai"), ("orjson",)),
    "proxy.core.pair": (("proxy.core", "proxy.model"), ("cryptography",)),
    "proxy.openai": (("proxy.openai", "proxy.model"), ("orjson", "pybase64")),
    "proxy.images": (("proxy.images", "proxy.model", "proxy.openai"), ("orjson",)),
    "proxy.images.s3_client": (("proxy.images", "proxy.model"), ("aiobotocore", "aiohttp", "botocore")),
    "proxy.images.scaling": ((), ("PIL",)),
    "proxy.prices": (("proxy.prices", "proxy.model", "proxy.openai"), ()),
    "proxy.store": (("proxy.store", "proxy.model"), ("cryptography",)),
    "proxy.store.redis": (("proxy.store", "proxy.model"), ("orjson",)),
    "proxy.store.redis_link": (("proxy.store", "proxy.model"), ("hiredis", "redis")),
    "proxy.telemetry": (("proxy.telemetry", "proxy.core", "proxy.model"), ("structlog", "orjson")),
    "proxy.wire": (
        ("proxy.wire", "proxy.core", "proxy.model"),
        ("aiohttp", "aiohappyeyeballs", "multidict", "yarl"),
    ),
    "proxy.sandbox": (("proxy.sandbox",), ("aiohttp", "orjson", "PIL")),
    "proxy.testkit": (("proxy",), ("orjson",)),
    "proxy.testkit.fixtures": (("proxy",), ("pytest", "pytest_asyncio")),
    "proxy.app": (("proxy",), ("uvloop",)),
    "proxy.build": (("proxy",), ()),
    "proxy.lent": (("proxy",), ()),
    "proxy.state": (("proxy",), ()),
    "proxy.operate": (("proxy",), ("orjson", "rich")),
    "proxy.workers": (("proxy",), ()),
    "proxy.__main__": (("proxy",), ()),
    "proxy": ((), ()),
    "plugins.keys": (("proxy.api", "plugins.keys_models"), ()),
    "plugins.failover": (("proxy.api", "plugins.failover"), ()),
    "plugins.moderation": (("proxy.api", "plugins.moderation"), ("orjson",)),
    "plugins.moderation.rule": (("plugins.moderation",), ("regex",)),
    "plugins.quota": (("proxy.api", "plugins.quota"), ("orjson",)),
    "plugins.rehost": (("proxy.api", "plugins.rehost"), ()),
    "plugins": (("proxy.api",), ("orjson", "PIL", "cryptography")),
}
INTERNALS = re.compile(
    r"^aiohttp\.(http|streams|web_protocol|web_request|base_protocol|client_proto|http_exceptions)\b"
)


def modules(root: Path = ROOT) -> list[tuple[str, Path]]:
    found = []
    for top in OURS:
        for path in sorted((root / top).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found.append((name.removesuffix(".__init__"), path))
    return found


def imports(name: str, path: Path) -> list[tuple[int, str]]:
    """Every import of a module, absolute, with its line."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            inside = (ROOT / base.replace(".", "/")).is_dir()
            names = [f"{base}.{alias.name}" for alias in node.names] if inside else [base]
            found += [(node.lineno, one) for one in names]
    return found


def climbs(name: str, path: Path) -> list[str]:
    """The lines of a module that import what its floor may not."""
    floor = max((one for one in FLOORS if name == one or name.startswith(one + ".")), key=len)
    ours, foreign = FLOORS[floor]
    bad = []
    for line, target in imports(name, path):
        top = target.partition(".")[0]
        if top in OURS:
            # A package's own name may be imported for its version and mark.
            fine = any(target == one or target.startswith(one + ".") for one in ours) or target in (
                "proxy.__version__",
            )
            fine = fine or (target.startswith("proxy.") and target.count(".") == 1 and target.split(".")[1].isupper())
        else:
            fine = top in sys.stdlib_module_names or top in foreign
        if not fine:
            bad.append(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{line} imports {target}")
    return bad


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_only_from_below(name: str, path: Path) -> None:
    assert climbs(name, path) == []


def test_names_the_line_that_climbs(tmp_path: Path) -> None:
    climber = tmp_path / "climber.py"
    climber.write_text("from __future__ import annotations\n\nimport aiohttp\nfrom ..wire import link\n")
    assert [line.partition(":")[2] for line in climbs("proxy.model.climber", climber)] == [
        "3 imports aiohttp",
        "4 imports proxy.wire.link",
    ]


def test_few_modules_hold_all_use_of_the_internals_of_aiohttp() -> None:
    users = {
        name
        for name, path in modules()
        for _, target in imports(name, path)
        if INTERNALS.match(target) and not name.startswith("proxy.sandbox")
    }
    assert users == {f"proxy.wire.internals{half}" for half in ("", "_request", "_server")}
