"""`GET /files/NAME.ext`: pictures by their stable URLs, in ranges, with validators, and with nothing that could run.

With `?w=` their thumbnails, and with `/link` behind the name what their owner may ask.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from ..model.body import EMPTY, Body
from ..model.errors import ProxyError, Rejected
from ..model.images import FILES, MEDIA, Stored
from ..model.message import Headers, Request, Response
from ..model.services import Clock, Log
from .cache import WIDTHS
from .index import NAME
from .renewal import END, Renewal
from .signing import Links
from .thumbs import Thumbs

DAY = 86400
BELIEVED = 2.0  # seconds that a name is believed without asking again, as a key is: what is deleted is gone by then
NAMES = 1024  # that are remembered
# Whatever a picture pretends to be: no guessing, no script, no frame, and other sites may show it.
HARMLESS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII | re.IGNORECASE)
TAG = re.compile(r'\s*(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')


class Serving:
    """Answers for names. What is unknown, over, deleted or badly written is one and the same 404."""

    def __init__(
        self,
        find: Callable[[str], Awaitable[Stored | None]],
        open: Callable[[Stored, int, int], Awaitable[Body | None]],
        clock: Clock,
        log: Log,
        *,
        thumbs: Thumbs,
        renewal: Renewal,
        links: Links | None = None,
        accel: Callable[[Stored], str] | None = None,
        accel_root: str = "",
    ) -> None:
        self._find = find
        self._open = open
        self._clock = clock
        self._log = log
        self._links = links
        self._accel = accel
        self._accel_root = accel_root  # where the front server sees our folder
        self._thumbs = thumbs
        self._renewal = renewal
        self._known: dict[str, tuple[Stored, float]] = {}  # and since when, on the clock that never steps back

    async def __call__(self, request: Request) -> Response:
        """The picture that the target names. Raises Rejected."""
        if request.method not in ("GET", "HEAD"):
            raise Rejected(
                f"Pictures are read with GET or HEAD, not {request.method}.",
                status=405,
                code="method_not_allowed",
                headers={"allow": "GET, HEAD"},
            )
        path, _, query = request.target.partition("?")
        name = path.removeprefix(FILES)
        renewed = name.endswith(END)
        name = name.removesuffix(END)
        if not NAME.fullmatch(name):
            raise _unknown()
        if renewed:
            if (link := await self._renewal(request, name)) is None:
                raise _unknown()
            return link
        wanted, query = _wanted(query)
        until = self._signed_until(name, query)
        stored = await self._look_up(name)
        if stored is None:
            raise _unknown()
        if (width := _width(wanted)) and stored.type != "svg" and self._thumbs.possible(self._log):
            return await self._thumbnail(request, stored, until, width)
        return await self._picture(request, stored, until)

    async def _picture(self, request: Request, stored: Stored, until: float | None) -> Response:
        headers = self._headers(stored, until)
        if self._accel is not None:
            # The front server reads the file and the request's conditions: it knows what it sends.
            accel = quote(self._accel(stored))
            headers += [(b"x-accel-redirect", accel.encode()), (b"content-length", b"0")]
            return Response(200, Headers(headers), EMPTY, reason=b"OK")
        tag = f'"{stored.sha256}"'
        headers += [(b"etag", tag.encode()), (b"accept-ranges", b"bytes")]
        if _holds(request, tag):
            return Response(304, Headers(headers), EMPTY, reason=b"Not Modified")
        part = _part(request, stored.size, tag)
        first, last = part or (0, stored.size - 1)
        body = await self._open(stored, first, last - first + 1 if request.method == "GET" else 0)
        if body is None:
            raise self._missing(stored)
        if part is None:
            headers.append((b"content-length", b"%d" % stored.size))
            return Response(200, Headers(headers), body, reason=b"OK")
        headers += [
            (b"content-length", b"%d" % (last - first + 1)),
            (b"content-range", b"bytes %d-%d/%d" % (first, last, stored.size)),
        ]
        return Response(206, Headers(headers), body, reason=b"Partial Content")

    async def _thumbnail(self, request: Request, stored: Stored, until: float | None, width: int) -> Response:
        """As a WebP of that width, whole."""
        headers = self._headers(stored, until, width)
        tag = f'"{stored.sha256}-{width}"'
        # Weak: one that was lost is made anew, by another Pillow maybe, and looks the same.
        marked = [*headers, (b"etag", f"W/{tag}".encode())]
        if self._accel is None and _holds(request, tag):
            return Response(304, Headers(marked), EMPTY, reason=b"Not Modified")
        thumb = await self._thumbs.get(stored, width, self._log)
        if thumb is None:
            raise self._missing(stored)
        if self._accel is not None and thumb.place is not None:
            await thumb.body.aclose()
            accel = quote(self._accel_root + thumb.place)
            headers += [(b"x-accel-redirect", accel.encode()), (b"content-length", b"0")]
            return Response(200, Headers(headers), EMPTY, reason=b"OK")
        return Response(200, Headers([*marked, (b"content-length", b"%d" % thumb.size)]), thumb.body, reason=b"OK")

    def _missing(self, stored: Stored) -> ProxyError:
        self._log.error("image_missing", name=stored.name[:4], sha256=stored.sha256[:8])
        return _unknown()

    async def _look_up(self, name: str) -> Stored | None:
        known = self._known.pop(name, None)
        if known is not None:
            stored, since = known
            over = stored.expires is not None and stored.expires <= self._clock.wall()
            if not over and self._clock.now() - since < BELIEVED:
                self._known[name] = known
                return stored
        asked = self._clock.now()
        found = await self._find(name)
        if found is not None:
            self._known[name] = found, asked
            if len(self._known) > NAMES:
                del self._known[next(iter(self._known))]
        return found

    def _signed_until(self, name: str, query: str) -> float | None:
        """When the link ends; None where links don't. Raises Rejected for one that is not ours, or over."""
        if self._links is None:
            return None
        until = self._links.until(name, query)
        if until is None:
            raise _unknown()
        if until <= self._clock.wall():
            raise Rejected(
                "This link has expired; ask whoever gave it to you for a new one.", status=403, code="link_expired"
            )
        return until

    def _headers(self, stored: Stored, until: float | None, width: int | None = None) -> list[tuple[bytes, bytes]]:
        now = self._clock.wall()
        ends = [end - now for end in (stored.expires, until) if end is not None]
        age = max(0, int(min([DAY, *ends])))
        cache = f"{'public' if until is None else 'private'}, max-age={age}"
        if not ends:
            cache += ", immutable"
        # An SVG is a document that can hold a script: it is to be saved, or shown by a page in <img>.
        shown = "inline" if stored.type != "svg" else "attachment"
        name = stored.name if width is None else f"{stored.name.partition('.')[0]}-{width}.webp"
        return [
            (b"content-type", MEDIA[stored.type if width is None else "webp"]),
            (b"cache-control", cache.encode()),
            (b"content-disposition", f'{shown}; filename="{name}"'.encode()),
            *HARMLESS,
        ]


def _unknown() -> ProxyError:
    return Rejected("There is no such file, or it is there no more.", status=404, code="file_not_found")


def _wanted(query: str) -> tuple[list[str], str]:
    """The widths that a query names, and the rest of it, which is what is signed."""
    parts = query.split("&")
    widths = [part.removeprefix("w=") for part in parts if part.startswith("w=")]
    return widths, "&".join([part for part in parts if not part.startswith("w=")]) if widths else query


def _width(wanted: list[str]) -> int | None:
    """The one width that is asked for; None where none is. Raises Rejected."""
    if not wanted:
        return None
    if len(wanted) > 1 or wanted[0] not in map(str, WIDTHS):
        raise Rejected(
            f"Thumbnails are {WIDTHS[0]}, {WIDTHS[1]} or {WIDTHS[2]} pixels wide: give one of these as 'w'.", param="w"
        )
    return int(wanted[0])


def _holds(request: Request, tag: str) -> bool:
    """Whether the client has these very bytes already (RFC 9110 §13.1.2)."""
    given = ",".join(request.headers.getall("If-None-Match")).strip()
    return given == "*" or tag in TAG.findall(given)


def _part(request: Request, size: int, tag: str) -> tuple[int, int] | None:
    """First and last byte of the one range that is asked for; None for all of it. Raises Rejected.

    Several ranges at once are answered whole, as is what can't be read, or is about other bytes (RFC 9110 §14.2).
    """
    given = request.headers.getall("Range")
    condition = request.headers.get("If-Range")
    if request.method != "GET" or len(given) != 1 or (condition is not None and condition.strip() != tag):
        return None
    found = RANGE.fullmatch(given[0])
    if found is None or not (found[1] or found[2]):
        return None
    first, last = found[1], found[2]
    if first and last and int(first) > int(last):
        return None
    begin = int(first) if first else max(0, size - int(last))
    end = min(size - 1, int(last)) if first and last else size - 1
    if begin > end:
        raise Rejected(
            f"The picture has {size} bytes, and none of those that were asked for.",
            status=416,
            code="range_not_satisfiable",
            headers={"content-range": f"bytes */{size}"},
        )
    return begin, end
