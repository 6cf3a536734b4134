"""What is measured: each workload starts a row's server, drives it, and returns a sample."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Protocol

from . import bodies, load
from .client import Answer, Asked, Question, ask
from .figures import Sample, percentile
from .measure import Process, busy
from .rig import Rig, RigError, free_port
from .rows import Row, Site

KIB, MB = 1024, 1e6
ALONE = 2.0  # seconds that asking one after another may take
CHAT = "/v1/chat/completions"
GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"
FIRST = Question(CHAT, bodies.SMALL_QUESTION)


@dataclass(frozen=True)
class Scale:
    """How long and how often."""

    rounds: int = 5
    once: tuple[str, ...] = ("held",)  # workloads of one round
    seconds: int = 1  # wrk counts in whole ones
    warm: int = 1  # seconds; 0: a few requests only
    streams: int = 10  # on each connection
    uploads: int = 8
    alone: int = 500  # one after another on one connection
    slow: int = 12  # on each connection, of rows that are slow
    held: int = 5000
    hold: float = 10.0


@dataclass(frozen=True)
class Ground:
    """What every workload stands on: the rig, two upstreams that run, and a scale."""

    rig: Rig
    fast: int
    slow: int
    scale: Scale

    @contextmanager
    def serving(self, row: Row, upstream: int) -> Iterator[tuple[int, Process | None, float]]:
        """The port to ask, the proxy's process, and the seconds to its first answer."""
        if row.command is None:
            yield upstream, None, 0.0
            return
        port = free_port()
        site = Site(Path(mkdtemp(dir=self.rig.scratch)), port, upstream)
        first = FIRST.raw({**row.headers, "Connection": "close"})
        cores = self.rig.cores if row.spread else {self.rig.proxy_core}
        with self.rig.started(row.command(site), port, first, cores=cores, patience=row.patience) as started:
            yield port, started.process, started.seconds


class Workload(Protocol):
    """One way to use a proxy."""

    @property
    def name(self) -> str:
        """What its table is called."""

    @property
    def what(self) -> str:
        """What is asked and answered, in words."""

    def measure(self, ground: Ground, row: Row) -> Sample:
        """Start that row's server and measure it once. Raises RigError when it can't be started."""


class Meter:
    """CPU and peak memory of one process between two moments, and what others had of its core if it has one."""

    def __init__(self, process: Process | None, core: int | None) -> None:
        self._process, self._core = process, core
        self._began, self._busy = time.perf_counter(), 0.0 if core is None else busy(core)
        if process is not None:
            self.resident = process.resident()
            process.forget_peak()
            self._cpu = process.cpu()

    def figures(self, requests: int) -> dict[str, float]:
        """What it took."""
        if self._process is None:
            return {}
        cpu = self._process.cpu() - self._cpu
        figures = {"cpu_us": cpu / max(1, requests) * 1e6, "peak_mb": self._process.peak() / MB}
        if self._core is not None:
            # Ticks are coarse, so a little less than nothing may come out.
            foreign = max(0.0, busy(self._core) - self._busy - cpu) / (time.perf_counter() - self._began)
            figures["others"] = foreign * 100
        return figures


Check = Callable[[Answer], str | None]


def same(body: bytes) -> Check:
    """The answer is these bytes: by status, length and checksum."""
    size, checksum = len(body), zlib.crc32(body)

    def check(answer: Answer) -> str | None:
        if answer.status != 200:
            return f"status {answer.status}: {answer.body[:200]!r}"
        if answer.size != size:
            return f"{answer.size} bytes instead of {size}"
        return None if answer.checksum == checksum else "other bytes than the upstream's"

    return check


def says_the_same(body: bytes) -> Check:
    """The answer is a chat answer that says what this one says."""
    words = json.loads(body)["choices"][0]["message"]["content"]

    def check(answer: Answer) -> str | None:
        if answer.status != 200:
            return f"status {answer.status}: {answer.body[:200]!r}"
        try:
            said = json.loads(answer.body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError):
            return f"no chat answer: {answer.body[:200]!r}"
        return None if said == words else f"other words: {said!r}"

    return check


def judged(asked: Asked, check: Check) -> list[str]:
    """The failures among answers, alike ones once."""
    wrong = [complaint for answer in asked.answers if (complaint := check(answer))]
    return [f"{(asked.failures + wrong).count(one)} x {one}" for one in dict.fromkeys(asked.failures + wrong)]


@dataclass(frozen=True)
class Hammered:
    """As many as it can answer, by wrk."""

    name: str
    what: str
    question: Question
    check: Check
    size: int  # the least bytes of an answer
    connections: int
    moved: int = 0  # bytes of picture in an answer, for MB/s
    alone: bool = False  # ask one after another too
    per_mb: bool = False  # CPU for a megabyte too

    def measure(self, ground: Ground, row: Row) -> Sample:
        """Probe, warm up, measure, probe again: the two probes compare every byte."""
        scale = ground.scale
        with ground.serving(row, ground.fast) as (port, process, _):
            raw = self.question.raw(row.headers)
            check = says_the_same(bodies.SMALL_ANSWER) if row.rewrites else self.check
            probe = ask(port, raw, each=2)
            failures = judged(probe, check)
            if failures:
                return Sample({}, failures)
            wanted = load.script(ground.rig.scratch / "wrk.lua", self.question, row.headers)
            if scale.warm and not row.slow:
                load.run(port, self.question, wanted, connections=self.connections, seconds=scale.warm)
            else:
                ask(port, raw, connections=self.connections, each=4)
            meter = Meter(process, None if row.spread else ground.rig.proxy_core)
            if row.slow:
                asked = ask(port, raw, connections=self.connections, each=scale.slow)
                loaded = load.counted(asked, judged(asked, check))
            else:
                loaded = load.run(port, self.question, wanted, connections=self.connections, seconds=scale.seconds)
            figures = meter.figures(loaded.requests) | {
                "rps": loaded.requests / loaded.seconds,
                "p50_ms": loaded.p50 * 1e3,
                "p99_ms": loaded.p99 * 1e3,
            }
            failures = list(loaded.failures)
            if loaded.size < loaded.requests * self.size:
                failures.append(f"{loaded.size} bytes for {loaded.requests} answers of {self.size} or more")
            if self.moved:
                figures["mb_s"] = loaded.requests * self.moved / loaded.seconds / MB
            if self.per_mb and "cpu_us" in figures:
                figures["cpu_us_mb"] = figures["cpu_us"] / self.moved * MB
            if self.alone:
                quickest = min(answer.whole for answer in probe.answers)
                one = ask(port, raw, each=max(20, min(scale.alone, int(ALONE / quickest))))
                failures += judged(one, check)
                if one.answers:
                    figures["alone_ms"] = percentile([answer.whole for answer in one.answers], 0.5) * 1e3
            return Sample(figures, failures + judged(ask(port, raw), check))


@dataclass(frozen=True)
class Asking:
    """A fixed number of long questions, by our own client; every answer is checked to its last byte."""

    name: str
    what: str
    question: Question
    check: Check
    connections: int
    each: Callable[[Scale], int]
    moved: int = 0  # bytes that one question moves, for MB/s
    first: bool = False  # time the first bytes of an answer too

    def measure(self, ground: Ground, row: Row) -> Sample:
        """Warm up, measure, then one after another for the first bytes."""
        with ground.serving(row, ground.slow) as (port, process, _):
            raw = self.question.raw(row.headers)
            failures = judged(ask(port, raw, connections=self.connections), self.check)
            if failures:
                return Sample({}, failures)
            meter = Meter(process, ground.rig.proxy_core)
            asked = ask(port, raw, connections=self.connections, each=self.each(ground.scale))
            figures = meter.figures(len(asked.answers)) | {"rps": len(asked.answers) / asked.seconds}
            if self.moved:
                figures["mb_s"] = len(asked.answers) * self.moved / asked.seconds / MB
            failures = judged(asked, self.check)
            if self.first:
                # One event only: the stream's rest is of no interest here.
                short = replace(self.question, path=self.question.path.replace("events=100", "events=1"))
                one = ask(port, short.raw(row.headers), each=ground.scale.alone)
                failures += judged(one, same(b"".join(bodies.chat_events(1))))
                if one.answers:
                    figures["first_ms"] = percentile([answer.first for answer in one.answers], 0.5) * 1e3
            return Sample(figures, failures)


@dataclass(frozen=True)
class Held:
    """Many requests in flight at once, each of which the upstream answers after a while."""

    name: str
    what: str

    def measure(self, ground: Ground, row: Row) -> Sample:
        """Memory for each is the peak less what was resident before, over their number."""
        scale = ground.scale
        question = Question(f"{CHAT}?hold={scale.hold:g}", bodies.SMALL_QUESTION)
        with ground.serving(row, ground.slow) as (port, process, _):
            ask(port, FIRST.raw(row.headers), connections=16, each=4)
            meter = Meter(process, ground.rig.proxy_core)
            asked = ask(port, question.raw(row.headers), connections=scale.held)
            failures = judged(asked, same(bodies.SMALL_ANSWER))
            if len(asked.answers) != scale.held:
                failures.append(f"{len(asked.answers)} of {scale.held} answered")
            figures = meter.figures(scale.held) | {"answered": float(len(asked.answers))}
            if asked.answers:
                figures["slowest_s"] = max(answer.whole for answer in asked.answers)
            if process is not None:
                figures["kib_each"] = (process.peak() - meter.resident) / scale.held / KIB
            return Sample(figures, failures)


@dataclass(frozen=True)
class Start:
    """From the start of the process to its first answer, and its memory then."""

    name: str
    what: str

    def measure(self, ground: Ground, row: Row) -> Sample:
        """Started, asked once, left alone."""
        with ground.serving(row, ground.fast) as (_, process, seconds):
            if process is None:
                raise RigError("nothing to start")
            return Sample({"start_s": seconds, "idle_mb": process.resident() / MB})


def image(size: int, connections: int) -> Hammered:
    """Pictures of that many bytes, passed through."""
    question = Question(f"{GENERATIONS}?bytes={size}", bodies.IMAGE_QUESTION)
    body = bodies.image_answer(size)
    named = f"{size / MB:g} MB"
    return Hammered(
        f"image {named}",
        f"an answer of {named} of JSON, a picture in base64, {connections} connections",
        question,
        same(body),
        size,
        connections,
        moved=size,
    )


def rehosted(size: int, connections: int) -> Hammered:
    """The same pictures, of which the client wants a URL."""
    passed = image(size, connections)
    question = replace(passed.question, body=bodies.URL_QUESTION)

    def check(answer: Answer) -> str | None:
        if answer.status != 200:
            return f"status {answer.status}: {answer.body[:200]!r}"
        item = json.loads(answer.body)["data"][0]
        return None if item.get("url") and "b64_json" not in item else "no url"

    name = passed.name.replace("image", "rehosted")
    what = f"{passed.what}, turned into a file and a URL"
    return replace(passed, name=name, what=what, question=question, check=check, size=100)


def file(size: int, connections: int, path: str) -> Hammered:
    """A kept picture of that many bytes, by its URL."""
    named = f"{size / MB:g} MB"
    return Hammered(
        f"files {named}",
        f"a kept picture of {named}, {connections} connections",
        Question(path, b"", method="GET"),
        same(bodies.png(size)),
        size,
        connections,
        moved=size,
        per_mb=True,
    )
