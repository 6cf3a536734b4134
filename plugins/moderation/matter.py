"""What there is to judge of a request, or of a message on a socket: all that a model will read of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, pairwise
from urllib.parse import parse_qsl

from proxy.api import (
    Body,
    Image,
    ImageStore,
    Looked,
    Operation,
    ProxyError,
    Request,
    Said,
    Services,
    Sights,
    Stored,
    StoreError,
    Text,
    Unseen,
    given,
    name_in,
    pieces_of,
    standing,
)

from .breaker import Crowded
from .verdict import Matter, Sight, Unreadable, View

# The texts of one message, or of one item, are read as one.
MESSAGE = re.compile(r"(?:response\.)?(?:(?:messages|input)\[\d+\]|item)(?=[.\[])", re.ASCII)
SEEN = frozenset(("png", "jpeg", "webp", "gif"))  # sorts of pictures that are decoded to be judged
SIZED = "w"  # of a link of ours: not the picture, but one that is made of it


@dataclass(frozen=True, slots=True, repr=False)
class Brought:
    """A picture that a request brings with it. Its bytes stay where they are until a judge wants to see it."""

    path: str
    digest: bytes
    image: Image
    body: Body
    sights: Sights

    async def views(self) -> Sequence[View]:
        """What there is to be seen of it. Raises Unreadable, and Crowded."""
        return await looked(self.sights, pieces_of(self.body, self.image))


@dataclass(frozen=True, slots=True, repr=False)
class Ours:
    """A picture of ours, given by its URL: what a name leads to never changes."""

    path: str
    digest: bytes
    name: str
    images: ImageStore
    sights: Sights

    async def views(self) -> Sequence[View]:
        """What there is to be seen of it. Raises Unreadable, and Crowded."""
        try:
            body = await self.images.body(self.name)
        except ProxyError as error:
            raise Crowded(error.message) from error
        if body is None:
            raise Unreadable("it is not there any more")
        try:
            return await looked(self.sights, body)
        finally:
            await body.aclose()


async def looked(sights: Sights, picture: Looked) -> Sequence[View]:
    """What there is to be seen of a picture. Raises Unreadable, and Crowded where nobody can look at the moment."""
    try:
        return await sights.views(picture)
    except ProxyError as error:
        raise Crowded(error.message) from error


async def matter(request: Request, asked: Operation, services: Services, owner: str | None) -> Matter:
    """All that a model will read of a request that was read as `asked`; `owner` is whose pictures it may speak of.

    What will be said on a socket is not among it: that is judged message by message.
    """
    unseen = [one for one in asked.unseen if not one.spoken]
    return await _matter(request.body, asked.texts, asked.images, unseen, services, owner)


async def of_said(message: Body, told: Said, services: Services, owner: str | None) -> Matter:
    """The same of a message on a socket."""
    return await _matter(message, told.texts, told.images, list(told.unseen), services, owner)


def together(texts: Sequence[Text]) -> list[Text]:
    """The texts with those of one message run together, so that a word that is cut in two is read as it will be.

    Where no blank stands between two of them, nobody knows whether upstream will put one there: such a message is
    there in both ways.
    """
    if len(texts) < 2 or len({text.path.partition(".")[0] for text in texts}) == len(texts):  # mostly
        return list(texts)
    found: list[Text] = []
    for head, group in groupby(texts, key=_message):
        parts = list(group)
        if head is None or len(parts) == 1:
            found += parts
            continue
        words = [part.text for part in parts if part.text]
        found.append(Text(head, "".join(words), parts[0].role))
        if any(not (one[-1].isspace() or two[0].isspace()) for one, two in pairwise(words)):
            found.append(Text(head, "\n".join(words), parts[0].role))
    return found


def _message(text: Text) -> str | None:
    found = MESSAGE.match(text.path)
    return None if found is None else found[0]


async def _matter(
    body: Body,
    texts: Sequence[Text],
    images: Iterable[Image],
    unseen: list[Unseen],
    services: Services,
    owner: str | None,
) -> Matter:
    pictures: list[Sight] = []
    source: Body | None = None
    for image in images:
        if image.source == "url":
            stored = await _ours(image.value, services.images, owner)
            if stored is not None:
                # Of what it stands beside under the same path one is as unseen as the other.
                unseen.remove(next(one for one in unseen if one.path == image.path))
                digest = bytes.fromhex(stored.sha256)
                pictures.append(Ours(image.path, digest, stored.name, services.images, services.sights))
        elif image.source != "file":
            source = source or standing(body)
            known = await given(source, image)
            if known.bad is None:
                pictures.append(Brought(image.path, known.digest, image, source, services.sights))
            else:
                unseen.append(Unseen(image.path, f"a picture that can't be looked at: {known.bad}"))
    return Matter("input", tuple(together(texts)), tuple(pictures), tuple(unseen))


async def _ours(url: str, images: ImageStore, owner: str | None) -> Stored | None:
    """The picture of ours that a URL leads to, if it is the same person's and upstream would get that very one."""
    name = name_in(url)
    if name is None:
        return None
    stored = None
    with suppress(StoreError):  # then nobody knows whose it is
        stored = await images.find(name)
    if stored is None or stored.owner != owner or stored.type not in SEEN:
        return None
    place, _, query = url.partition("?")
    if place != stored.url.partition("?")[0] or any(key == SIZED for key, _ in parse_qsl(query)):
        return None
    return stored
