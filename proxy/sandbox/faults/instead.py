"""Faults that are another answer than the endpoint's."""

from __future__ import annotations

import uuid
from dataclasses import replace
from email.utils import formatdate

from ..answer import Answer, Said, told
from ..limits import duration
from ..refusal import Refusal, answer, billing_limit, moderated, no_money, overloaded, server_error, too_many
from .fault import Argument, Fault, How, Play, words

_NGINX = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
# Where a redirect leads unless told otherwise: .invalid never resolves, so whoever follows it is seen to fail.
_ELSEWHERE = "https://elsewhere.invalid"


def _refused(refusal: Refusal) -> How:
    async def how(play: Play) -> Said:
        return answer(refusal)

    return how


def _page(status: int, title: str) -> How:
    body = _NGINX.format(f"{status} {title}").encode()

    async def how(play: Play) -> Said:
        return Answer(body, status, "text/html", signed=False)

    return how


def _wait(text: str) -> tuple[str, float]:
    form, colon, rest = text.partition(":")
    if text in ("none", "junk"):
        return text, 1.0
    if not colon:
        return "seconds", float(_whole(text))
    if form not in ("ms", "date"):
        raise ValueError(text)
    return form, _whole(rest) / (1000 if form == "ms" else 1)


def _whole(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 10**9:
        raise ValueError(text)
    return value


async def _rate_limit(play: Play) -> Said:
    return rate_limited(*play.value, wall=play.wall)


def rate_limited(form: str, wait: float, *, wall: float) -> Answer:
    """OpenAI's 429, with the wait in one of the forms that there are."""
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": duration(wait),
    }
    if form == "seconds":
        headers["retry-after"] = f"{wait:.0f}"
    elif form == "ms":
        headers["retry-after-ms"] = f"{wait * 1000:.0f}"
    elif form == "date":
        headers["retry-after"] = formatdate(wall + wait, usegmt=True)
    elif form == "junk":
        headers["retry-after"] = "soon"
    unit = "requests per min (RPM)"
    return answer(too_many("requests", unit, "default", (60, 60, 1), duration(wait), headers))


async def _task(play: Play) -> Said:
    name = f"task_{uuid.uuid4().hex}"
    if play.value == "openoctopus":
        return told({"id": str(uuid.uuid4()), "status": "queued", "model": "openoctopus/gpt-image-2-text-input"})
    if play.value == "kie":
        return told({"code": 200, "msg": "success", "data": {"taskId": name}})
    return told({"code": 200, "data": [{"status": "submitted", "task_id": name}]})


async def _error(play: Play) -> Said:
    return replace(answer(server_error()), status=200)


async def _code(play: Play) -> Said:
    return told({"code": 429, "msg": "The call frequency is too high, please try again later.", "data": None})


async def _moderated(play: Play) -> Said:
    return answer(moderated(play.value))


async def _redirect(play: Play) -> Said:
    location = play.value or _ELSEWHERE + play.request.raw_path
    return Answer(b"", 307, "text/plain", headers={"Location": location})


def _location(text: str) -> str:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(text)
    return text


TABLE = (
    Fault(
        "429",
        "429 `rate_limit_exceeded` with `retry-after` and `x-ratelimit-*-requests`.",
        False,
        _rate_limit,
        Argument("seconds, ms:N (as retry-after-ms), date:SECONDS, none or junk (default 1)", _wait, ("seconds", 1.0)),
    ),
    Fault("429-quota", "429 `insufficient_quota`, without `retry-after`.", False, _refused(no_money())),
    Fault("400-billing", "400 `billing_hard_limit_reached`.", False, _refused(billing_limit())),
    Fault("500", "500 `server_error` in OpenAI's envelope.", False, _refused(server_error())),
    Fault("503-overloaded", "503 `server_is_overloaded` in OpenAI's envelope.", False, _refused(overloaded())),
    Fault("502-html", "502 with nginx's page, none of OpenAI's headers.", False, _page(502, "Bad Gateway")),
    Fault(
        "504-html",
        "504 with nginx's page, none of OpenAI's headers, while the work was done behind it.",
        True,
        _page(504, "Gateway Time-out"),
    ),
    Fault(
        "task-200",
        "200 with a task's id in JSON instead of the result.",
        True,
        _task,
        words("apimart", "openoctopus", "kie"),
    ),
    Fault("error-200", "200 with OpenAI's error envelope as JSON.", False, _error),
    Fault("code-429-in-200", '200 with `{"code":429,"msg":…}` as JSON.', False, _code),
    Fault(
        "moderation-blocked",
        "400 `moderation_blocked` with `moderation_details`.",
        False,
        _moderated,
        words("input", "output"),
    ),
    Fault(
        "redirect",
        "307 with a `location` on another host.",
        False,
        _redirect,
        Argument(f"a URL (default {_ELSEWHERE} and the same path)", _location, ""),
    ),
)
