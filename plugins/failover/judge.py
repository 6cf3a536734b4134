"""What came of one call: an answer to hand on, or a failure of some class."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.api import (
    Attempt,
    BodyTooLarge,
    Bytes,
    Failure,
    Failures,
    ProxyError,
    Response,
    Told,
    UpstreamError,
)

from .question import Question

SMALL = 2**16  # bytes in which an envelope of another service's is looked for
LONGEST = 2**18  # bytes of an error that are kept to be shown; a longer one is a page, not an error


@dataclass(slots=True)
class Tried:
    """One call, and what it came to: an answer, or a failure with what there is to show of it."""

    upstream: str
    response: Response | None = None
    failure: Failure | None = None
    error: ProxyError | None = None
    seconds: float = 0.0  # from sending to the verdict

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that it was."""
        return self.response.attempt if self.response is not None else self.error.attempt if self.error else None


async def judge(name: str, response: Response, question: Question, failures: Failures, cooldown_max: float) -> Tried:
    """Look as far into an answer as its class needs. Raises UpstreamError where it breaks off before that is known."""
    failure: Failure | None
    if response.status >= 300 and response.status != 304:
        whole = await _whole(response)
        shown = b"" if whole is None else whole.body.now() or b""
        if response.status < 400:
            failure = _moved(question.paid)
        else:
            failure = failures.classify(
                response.status,
                response.headers,
                shown,
                sent=True,
                paid=question.paid,
                upstream=name,
                cooldown_max=cooldown_max,
            )
        return Tried(name, whole or response, failure)
    reading = response.reading
    streams = (response.headers.get("content-type") or "").startswith("text/event-stream")
    if reading is None or response.status != 200 or not (question.drawn or (question.heard and not streams)):
        return Tried(name, response)
    verdict = await reading.verdict()
    small = response.body.now() if verdict != "image" else None
    if small is not None and len(small) <= SMALL and b'"code"' in small:  # {"code": 429, "msg": ...}, say some
        inside = failures.classify(
            response.status, response.headers, small, sent=True, paid=question.paid, look=True, upstream=name
        )
        if inside is not None:
            return Tried(name, response, inside)
    if reading.partials or not (verdict == "error" or (question.drawn and verdict != "image" and reading.ended)):
        return Tried(name, response)  # once it has drawn, the client hears from the stream itself what comes of it
    failure = failures.of_reading(
        response.headers,
        paid=question.paid,
        image=question.drawn,
        verdict="none" if verdict == "unknown" else verdict,
        error=reading.error,
        finish=reading.finish,
        used=reading.usage is not None,
        upstream=name,
        cooldown_max=cooldown_max,
    )
    return Tried(name, response, failure)


def _moved(paid: bool) -> Failure:
    """A redirect: its base URL is wrong, and wherever it points, no credential is to go there."""
    return Failure.of("failure", Told(None, None, "a redirect"), paid=paid)


async def _whole(response: Response) -> Response | None:
    """An error with its body in hand, byte by byte as it came; None where it is too long or broke off."""
    try:
        body = await response.body.read(LONGEST)
    except (BodyTooLarge, UpstreamError):
        return None
    finally:
        await response.aclose()
    return response.but(body=Bytes(body))
