"""The usual case, for next to nothing: nobody rests, the first upstream is asked, and what comes is no failure.

Whatever is not plainly that is looked at properly, in `round.py`, with the call that was made as its first.
"""

from __future__ import annotations

import re
from typing import Literal

from proxy.api import Request, Response

Sort = Literal["image", "words"]
SORTS: dict[str, Sort] = {
    "images/generations": "image",
    "images/edits": "image",
    "images/variations": "image",
    "chat/completions": "words",
    "completions": "words",
    "responses": "words",
    "embeddings": "words",
}
SMALL = 2**16  # bytes of a question for words; a longer one may be anything
DRAWS = (b"image_generation", b'"modalities"', b"\\u")  # words in which a picture may be asked for, or hidden
# What an error that hides behind a 200 would hold. Responses have an error that is null.
WRONG = re.compile(rb'"error"\s*:\s*(?!null)|"code"\s*:')


def sort_of(request: Request, prefix: str) -> Sort | None:
    """What is asked for, by the path; None where that takes a closer look."""
    if request.method != "POST" or not request.target.startswith(prefix):
        return None
    sort = SORTS.get(request.target[len(prefix) + 1 :])
    if sort == "words":
        data = request.body.now()
        if data is None or len(data) > SMALL or any(word in data for word in DRAWS):
            return None
    return sort


async def fine(response: Response, sort: Sort) -> bool:
    """Whether this is plainly what was asked for. Raises UpstreamError where it breaks off before that is known."""
    if response.status != 200:
        return False
    if sort == "image":
        return response.reading is not None and await response.reading.verdict() == "image"
    data = response.body.now()
    if data is None or data[:1] not in (b"{", b"["):
        return False
    # `find` and not `in`, which takes bytes for a number first.
    return (data.find(b'"error"') < 0 and data.find(b'"code"') < 0) or WRONG.search(data) is None
