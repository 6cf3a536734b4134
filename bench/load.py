"""wrk: as many small questions or images as the proxy can answer."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .client import Asked, Question
from .figures import percentile
from .rig import RigError

MISSING = "wrk is not installed: apt-get install wrk"
PATIENCE = 60  # seconds for one answer

# Latencies in microseconds; `status` counts answers of 400 and above.
DONE = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nBENCH {"requests":%d,"microseconds":%d,"bytes":%d,"p50":%d,"p99":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}\\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""
FAILURES = {
    "connect": "connections refused",
    "read": "answers broken off",
    "write": "questions broken off",
    "status": "answers of 400 and above",
    "timeout": "answers that never came",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What wrk saw."""

    requests: int
    seconds: float
    size: int  # bytes, heads included
    p50: float  # seconds
    p99: float
    failures: list[str]


def counted(asked: Asked, failures: list[str]) -> Loaded:
    """What our own client saw, in the same words."""
    took = [answer.whole for answer in asked.answers] or [0.0]
    size = sum(answer.size for answer in asked.answers)
    return Loaded(len(asked.answers), asked.seconds, size, percentile(took, 0.5), percentile(took, 0.99), failures)


def program() -> str:
    """Where wrk is. Raises RigError with what to install."""
    if found := shutil.which("wrk"):
        return found
    raise RigError(MISSING)


def script(path: Path, question: Question, headers: Mapping[str, str]) -> Path:
    """Write what wrk is to ask."""
    lines = [f'wrk.method = "{question.method}"']
    if question.method != "GET":
        lines.append(f"wrk.body = [==[{question.body.decode()}]==]")
        headers = {"Content-Type": question.content_type, **headers}
    for name, value in headers.items():
        lines.append(f'wrk.headers["{name}"] = "{value}"')
    path.write_text("\n".join(lines) + DONE)
    return path


def run(port: int, question: Question, wanted: Path, *, connections: int, seconds: int) -> Loaded:
    """Ask for so many seconds."""
    words = [program(), "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE}s", "-s", str(wanted)]
    target = f"http://127.0.0.1:{port}{question.path}"
    ran = subprocess.run([*words, target], capture_output=True, text=True, timeout=seconds + 2 * PATIENCE)
    _, mark, said = ran.stdout.partition("\nBENCH ")
    if not mark:
        raise RigError(f"wrk ended with {ran.returncode}: {(ran.stdout + ran.stderr).strip()[-500:]}")
    found = json.loads(said)
    failures = [f"{found[name]} {words}" for name, words in FAILURES.items() if found[name]]
    if not found["requests"]:
        failures.append("not one answer")
    return Loaded(
        found["requests"],
        found["microseconds"] / 1e6,
        found["bytes"],
        found["p50"] / 1e6,
        found["p99"] / 1e6,
        failures,
    )
