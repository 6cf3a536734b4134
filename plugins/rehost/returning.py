"""Pictures of ours that a client sends back: upstream must have their bytes, and only their owner may spend them."""

from __future__ import annotations

import re
from contextlib import nullcontext, suppress

from proxy.api import (
    Body,
    ImageStore,
    ImageStoreError,
    Operation,
    Quoted,
    Rejected,
    Request,
    StoreError,
    name_in,
    with_strings,
)

# Where a client shows a model a picture, in a chat and in Responses.
SHOWN = re.compile(r"(?:messages|input)\[\d+\]\.(?:content|output)\[\d+\]\.image_url(?:\.url)?", re.ASCII)


async def restored(
    request: Request, asked: Operation, images: ImageStore, owner: str | None
) -> tuple[Request, list[Body]]:
    """The request with base64 in the place of our URLs, and the bodies that are to be closed.

    In an earlier result nothing else can stand: raises Rejected for a picture that is not there any more, or is
    another's; nobody learns which. Where the client shows a picture, such a URL may be anybody's, and what can't be
    had stays.
    """
    bodies: dict[str, Quoted] = {}
    try:
        for image in asked.images:
            result = image.path.endswith(".result")
            name = name_in(image.value) if result or SHOWN.fullmatch(image.path) else None
            if name is None or (name.endswith(".svg") and not result):  # no model is shown an SVG
                continue
            with nullcontext() if result else suppress(ImageStoreError, StoreError):
                stored = await images.find(name)
                body = await images.body(name) if stored is not None and stored.owner == owner else None
                if body is not None and stored is not None:
                    bodies[image.path] = Quoted(body, "" if result else f"data:image/{stored.type};base64,")
                elif result:
                    raise Rejected(
                        "The picture that the request brings back is not there, or is there no more.",
                        status=404,
                        code="file_not_found",
                        param=image.path[:64],
                    )
    except BaseException:
        for one in bodies.values():
            await one.aclose()
        raise
    if bodies:
        request = await with_strings(request, bodies)
    return request, list(bodies.values())
