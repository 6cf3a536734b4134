"""Which rows are measured in which workloads."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace

from . import bodies
from .client import Answer, Question
from .rows import DIRECT, Row, files, framegate, others
from .workloads import (
    CHAT,
    EDITS,
    GENERATIONS,
    MB,
    Asking,
    Hammered,
    Held,
    Start,
    Workload,
    file,
    image,
    rehosted,
    same,
)

IMAGES = (1_500_000, 8_000_000)
UPLOAD = 10_000_000
PARTIAL = 1_000_000
REHOST = "rehost"

Plan = list[tuple[Workload, list[Row]]]

SMALL = Hammered(
    "small JSON",
    f"{len(bodies.SMALL_QUESTION)} bytes up, {len(bodies.SMALL_ANSWER)} down, 32 connections",
    Question(CHAT, bodies.SMALL_QUESTION),
    same(bodies.SMALL_ANSWER),
    len(bodies.SMALL_ANSWER),
    32,
    alone=True,
)
WORKERS = replace(
    SMALL,
    name="workers",
    what="the same small questions on 64 connections; the proxy may use both cores, the load takes its share of them",
    connections=64,
    alone=False,
)
EVENTS = Asking(
    "SSE, 100 events",
    "events 2 ms apart, 32 streams at once",
    Question(f"{CHAT}?events=100&gap=0.002", bodies.SMALL_QUESTION),
    same(b"".join(bodies.chat_events(100))),
    32,
    lambda scale: scale.streams,
    first=True,
)


def uploaded(size: int) -> Asking:
    """Edits with a picture of that many bytes."""
    content_type, body = bodies.edit(size)

    def check(answer: Answer) -> str | None:
        if answer.status != 200:
            return f"status {answer.status}: {answer.body[:200]!r}"
        seen = json.loads(answer.body)
        same_bytes = (seen["size"], seen["checksum"]) == (len(body), zlib.crc32(body))
        return None if same_bytes else f"other bytes came: {seen}"

    what = f"multipart of {size / MB:g} MB up, 8 at once; the upstream counts and checks every byte"
    return Asking(
        "edits", what, Question(EDITS, body, content_type.decode()), check, 8, lambda scale: scale.uploads, moved=size
    )


def pictures() -> Asking:
    """Partial pictures as they are streamed."""
    body = b"".join(bodies.picture_events(3, PARTIAL))
    return Asking(
        "SSE, 3 pictures",
        "partial pictures of 1 MB, 8 streams at once",
        Question(f"{GENERATIONS}?pictures=3&size={PARTIAL}", bodies.IMAGE_QUESTION),
        same(body),
        8,
        lambda scale: scale.streams,
        moved=len(body),
    )


def plan(*, quick: bool, peers: Sequence[Row]) -> tuple[Plan, list[str]]:
    """All workloads with their rows, and in words what is left out."""
    left_out: list[str] = []
    ours = {row.name: row for row in framegate.FRAMEGATE}
    if framegate.IMAGE_CHAIN == framegate.PLAIN:
        left_out.append("rows 'images': the default image chain is still the same as 'keys'")
        ours = {name: row for name, row in ours.items() if not name.startswith("images")}
    if quick:
        left_out.append("'app', uvloop, 8 MB pictures, 5,000 held requests and two workers: only in the full run")
        ours = {name: row for name, row in ours.items() if "uvloop" not in name}

    def named(*names: str) -> list[Row]:
        return [ours[name] for name in names if name in ours]

    nginx, low, naive = others.NGINX, others.LOW, (others.NAIVE, others.SUMMED)
    floors = [DIRECT, nginx, low] if quick else [DIRECT, nginx, low, others.APP]
    passing = named("empty", "keys", "looked", "images", "empty, uvloop", "looked, uvloop")
    answering = [row for name, row in ours.items() if not name.startswith("looked")]
    streaming = named("empty", "keys", "images", "keys, uvloop")
    found: Plan = [
        (SMALL, [*floors, *answering, *peers]),
        (image(IMAGES[0], 32), [*floors, *passing]),
    ]
    if not quick:
        found.append((image(IMAGES[1], 8), [*floors, *passing]))
    rehosting = named("images") if REHOST in framegate.IMAGE_CHAIN else []
    if not rehosting:
        left_out.append("Framegate among the rehosted: the plugin is not there yet")
    found += [(rehosted(size, count), [*naive, *rehosting]) for size, count in zip(IMAGES, (32, 8), strict=True)][
        : 1 if quick else 2
    ]
    kept = [row for row in files.FILES if not quick or "uvloop" not in row.name]
    found += [(file(size, count, files.path(size)), kept) for size, count in zip(files.SIZES, (32, 8), strict=True)][
        : 1 if quick else 2
    ]
    found += [
        (EVENTS, [DIRECT, nginx, low, *streaming]),
        (pictures(), [DIRECT, nginx, low, *streaming]),
        (uploaded(UPLOAD), [DIRECT, nginx, low, *streaming]),
        (Held("held", "requests that the upstream answers after a while, all in flight at once"), [low, *streaming]),
        (Start("start", "from nothing to the first answer"), [nginx, low, *streaming, *peers]),
    ]
    if not quick:
        found.append((WORKERS, list(framegate.WORKERS)))
    return found, left_out
