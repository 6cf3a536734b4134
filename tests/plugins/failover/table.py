"""What every fault comes to, for each way of asking: what the client is left with, and what the upstreams saw."""

from __future__ import annotations

from typing import NamedTuple


class Expected(NamedTuple):
    """What the client is left with; what one request that Framegate received meant upstream."""

    said: str
    billed: int  # how often the faulty upstream billed
    second: int  # calls of the good one, each billed once
    maybe: int  # calls that the house has down as perhaps billed, though nothing came of them


ANSWER = Expected("answer", 1, 0, 0)  # the fault is none that matters
NEXT = Expected("answer", 0, 1, 0)  # the next one answered; nothing was lost
EMPTY = Expected("answer", 1, 1, 1)  # the next one answered; the first has billed for nothing, and we say "maybe"
UNSURE = Expected("answer", 0, 1, 1)  # likewise, but the first had not billed
JUNK = Expected("junk", 1, 0, 0)  # pictures are handed on as they are, broken ones too
NOTHING = Expected("nothing", 1, 0, 0)  # chat without words is the upstream's business
CUT = Expected("cut", 1, 0, 0)  # it broke off when the client had some of it, and looks it
SENSELESS = Expected("400 sandbox_fault", 0, 0, 0)  # the sandbox has no such fault for this way of asking


def final(said: str, billed: int = 0, maybe: int = 0) -> Expected:
    """Nobody else is asked."""
    return Expected(said, billed, 0, maybe)


FAILED = final("502 upstream_failed", 1, 1)
BLOCKED = final("400 moderation_blocked")
TOO_LARGE = final("413 None")
STREAMED = final("error server_error", 1)

# Asking for a picture (generate, edit, Responses), for a stream of pictures, for words, for a stream of words.
Row = tuple[Expected, Expected, Expected, Expected]
TABLE: dict[str, Row] = {
    "429": (NEXT, NEXT, NEXT, NEXT),
    "429-quota": (NEXT, NEXT, NEXT, NEXT),
    "400-billing": (NEXT, NEXT, NEXT, NEXT),
    "500": (NEXT, NEXT, NEXT, NEXT),
    "503-overloaded": (NEXT, NEXT, NEXT, NEXT),
    "502-html": (final("502 upstream_failed", 0, 1), final("502 upstream_failed", 0, 1), UNSURE, UNSURE),
    "504-html": (final("504 upstream_timeout", 1, 1), final("504 upstream_timeout", 1, 1), EMPTY, EMPTY),
    "task-200": (EMPTY, EMPTY, NOTHING, NOTHING),
    "error-200": (UNSURE, UNSURE, UNSURE, UNSURE),
    "code-429-in-200": (NEXT, NEXT, NEXT, NEXT),
    "moderation-blocked": (BLOCKED, BLOCKED, BLOCKED, BLOCKED),
    "redirect": (NEXT, NEXT, NEXT, NEXT),
    "empty-200": (EMPTY, EMPTY, NOTHING, NOTHING),
    "bad-base64": (JUNK, JUNK, SENSELESS, SENSELESS),
    "not-an-image": (JUNK, JUNK, SENSELESS, SENSELESS),
    "huge=1": (ANSWER, ANSWER, ANSWER, ANSWER),
    "text-plain-json": (ANSWER, ANSWER, ANSWER, ANSWER),
    "gzip-anyway": (ANSWER, ANSWER, ANSWER, ANSWER),
    "set-cookie": (ANSWER, ANSWER, ANSWER, ANSWER),
    "sse-error-midstream": (SENSELESS, STREAMED, SENSELESS, STREAMED),
    "slow-first-byte=0.05": (ANSWER, ANSWER, ANSWER, ANSWER),
    "drip=0.001": (ANSWER, ANSWER, ANSWER, ANSWER),
    "keepalive-blanks=0.01": (ANSWER, ANSWER, ANSWER, ANSWER),
    "stall-midstream": (CUT, CUT, EMPTY, CUT),
    "cut-headers": (FAILED, FAILED, EMPTY, EMPTY),
    "cut-body": (CUT, CUT, EMPTY, CUT),
    "cut-chunk": (CUT, CUT, EMPTY, CUT),
    "wrong-length": (CUT, CUT, EMPTY, ANSWER),
    "wrong-length=short": (FAILED, FAILED, EMPTY, EMPTY),
    "extra-bytes": (ANSWER, ANSWER, ANSWER, ANSWER),
    "reset": (FAILED, FAILED, EMPTY, EMPTY),
    "early-refusal": (NEXT, NEXT, NEXT, NEXT),
    "early-refusal=401": (NEXT, NEXT, NEXT, NEXT),
    "early-refusal=413,rst": (TOO_LARGE, TOO_LARGE, TOO_LARGE, TOO_LARGE),
}
COLUMNS = {"generate": 0, "edit": 0, "responses": 0, "images-sse": 1, "chat": 2, "chat-sse": 3}
# Where an SDK makes something of its own of an answer: Node's takes JSON that calls itself text for text.
TEXT = {"generate": "nothing", "edit": "nothing", "responses": "TypeError", "chat": "nothing"}
PAID = ("generate", "edit", "responses", "images-sse")
