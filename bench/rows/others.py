"""nginx and the floors; LiteLLM and Portkey, from the registries, when asked for."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from .. import bodies, nginx
from ..rig import Command, RigError, python
from . import Row, Site

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "framegate-bench"
SETTING_UP = 900  # seconds for a registry to hand a peer over
LITELLM = "litellm[proxy]"
PORTKEY = "@portkey-ai/gateway"
# Whatever would leave this machine runs into a closed port; what stays on it goes straight.
OFFLINE = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}
QUIET = {
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_DONT_SHOW_FEEDBACK_BOX": "True",
}


def _floor(name: str, what: str) -> Row:
    return Row(name, what, lambda s: Command(python(f"bench.floors.{name}", str(s.port), str(s.upstream))))


def _naive(name: str, what: str, *more: str) -> Row:
    def command(site: Site) -> Command:
        return Command(python("bench.floors.naive", str(site.port), str(site.upstream), site.folder / "files", *more))

    return Row(name, what, command, slow=True)  # in a second of wrk on a busy machine it may not answer once


NGINX = Row("nginx", "proxy_pass, one worker, kept connections", lambda s: nginx.proxy(s.folder, s.port, s.upstream))
LOW = _floor("low", "aiohttp's low-level server and one tuned session, streaming")
APP = _floor("app", "a first aiohttp application, bodies read whole")
NAIVE = _naive("naive", "pictures to files by json.loads and b64decode")
# What the sum costs is the processor's: 2 GB/s where it has instructions for SHA-256, 0.4 or less where it has not.
SUMMED = _naive("naive, sum", "the same, each file named by its SHA-256 as ours are", "sum")


def litellm() -> Row:
    """LiteLLM in a venv of its own. Raises RigError when it can't be had."""
    home = CACHE / "litellm"
    program = home / "bin" / "litellm"
    if not program.exists():
        _set_up([sys.executable, "-m", "venv", home])
        _set_up([home / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", LITELLM])

    # It will not start without a key that its callers must send; so it knows them, as our row `keys` does.
    key = f"sk-bench-{secrets.token_hex(20)}"

    def command(site: Site) -> Command:
        config = site.folder / "litellm.json"  # JSON is YAML
        upstream = {
            "model": f"openai/{bodies.CHAT_MODEL}",
            "api_base": f"http://127.0.0.1:{site.upstream}/v1",
            "api_key": "sk-none",
        }
        models = [{"model_name": bodies.CHAT_MODEL, "litellm_params": upstream}]
        config.write_text(json.dumps({"model_list": models, "litellm_settings": {"telemetry": False}}))
        address = ("--host", "127.0.0.1", "--port", str(site.port))
        words = (program, "--config", config, *address, "--num_workers", "1", "--telemetry", "False")
        return Command(words, site.folder, {**QUIET, **OFFLINE, "PYTHONPATH": "", "LITELLM_MASTER_KEY": key})

    what = "its proxy, one worker, no database"
    return Row("LiteLLM", what, command, {"Authorization": f"Bearer {key}"}, patience=90, slow=True, rewrites=True)


def portkey(upstream: int) -> Row:
    """Portkey's gateway in a folder of its own, told in each question where to go. Raises RigError."""
    home = CACHE / "portkey"
    program = home / "node_modules" / PORTKEY / "build" / "start-server.js"
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise RigError("node and npm are not installed: apt-get install nodejs npm")
    if not program.exists():
        home.mkdir(parents=True, exist_ok=True)
        _set_up([npm, "install", "--prefix", home, "--no-audit", "--no-fund", "--loglevel=error", PORTKEY])
    headers = {
        "Authorization": "Bearer sk-none",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1",
    }

    def command(site: Site) -> Command:
        words = (node, program, f"--port={site.port}", "--headless")
        return Command(words, site.folder, {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"})

    return Row("Portkey", "its gateway, one process", command, headers, patience=30, slow=True)


def _set_up(words: list[str | Path]) -> None:
    try:
        ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=SETTING_UP)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise RigError(f"{words[0]}: {exc}") from exc
    if ran.returncode:
        raise RigError(f"{words[0]} ended with {ran.returncode}: {(ran.stdout + ran.stderr).strip()[-300:]}")
