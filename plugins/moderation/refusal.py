"""What a client hears: at which stage and for which categories it was refused, never by which rule."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.api import ProxyError, Rejected, Unseen

from .verdict import Stage

NAMED = 3  # places that can't be seen, of which a message speaks


def refused(stage: Stage, categories: Sequence[str]) -> ProxyError:
    """It was looked at and found wanting."""
    named = ", ".join(categories)
    if stage == "input":
        text = f"The request was refused by a check before it was sent: {named}. Say it in another way."
    else:
        text = f"What was generated was refused by a check, so it is not delivered: {named}. It may have been billed."
    return Rejected(
        text,
        type="image_generation_user_error",
        code="content_policy_violation",
        more={"moderation_details": {"moderation_stage": stage, "categories": list(categories)}},
    )


def not_seen(stage: Stage, unseen: Sequence[Unseen]) -> ProxyError:
    """Not all of it can be looked at here, and what can't must not pass."""
    places = "; ".join(str(one) for one in unseen[:NAMED])
    more = f"; and {len(unseen) - NAMED} more" if len(unseen) > NAMED else ""
    if stage == "output":
        return ProxyError(
            f"What was generated can't be looked at, so it is not delivered ({places}{more}). It may have been billed.",
            status=502,
            type="upstream_error",
            code="upstream_failed",
            retryable=False,
        )
    return Rejected(
        f"What is sent here is looked at first, and this can't be: {places}{more}. Send it in the request itself.",
        param=unseen[0].path[:64] or None,
    )


def unavailable(stage: Stage) -> ProxyError:
    """Nobody could say."""
    what = "so nothing was sent" if stage == "input" else "so the answer is not delivered; it may have been billed"
    return ProxyError(
        f"The check of this request could not be made at the moment, {what}.",
        status=503,
        type="service_unavailable_error",
        code="moderation_unavailable",
    )
