"""Pictures of ours that a client sends back: upstream must have their bytes, and only their owner may spend them."""

from __future__ import annotations

import re

from proxy.api import Body, ImageStore, Operation, Quoted, Rejected, Request, with_strings

# Whatever stands before it: where we are reached may have changed since the link was given.
OURS = re.compile(r"(?:https?://[^/?#]+)?(?:/[^?#]*)?/files/([a-z2-7]{26}\.[a-z]{3,4})(?:\?[^#]*)?", re.ASCII)


async def restored(
    request: Request, asked: Operation, images: ImageStore, owner: str | None
) -> tuple[Request, list[Body]]:
    """The request with base64 in the place of our URLs in earlier results, and the bodies that are to be closed.

    Raises Rejected for a picture that is not there any more, or is another's: nobody learns which.
    """
    bodies: dict[str, Body] = {}
    for image in asked.images:
        found = OURS.fullmatch(image.value) if image.path.endswith(".result") else None
        if found is None:
            continue
        stored = await images.find(found[1])
        body = await images.body(found[1]) if stored is not None and stored.owner == owner else None
        if body is None:
            for one in bodies.values():
                await one.aclose()
            raise Rejected(
                "The picture that the request brings back is not there, or is there no more.",
                status=404,
                code="file_not_found",
                param=image.path[:64],
            )
        bodies[image.path] = body
    if bodies:
        request = await with_strings(request, {path: Quoted(body) for path, body in bodies.items()})
    return request, list(bodies.values())
