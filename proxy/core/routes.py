"""Which route a request takes, decided on the exact raw path; what two readers could read differently is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Generic, TypeVar
from urllib.parse import unquote

from ..model.errors import Rejected

P = TypeVar("P")
Methods = frozenset[str] | None  # None: any

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NEVER = frozenset(("TRACE", "CONNECT"))  # one echoes credentials, the other is for tunnels
REMEMBERED = 1024  # decisions; whoever asks for ever new paths only makes it start afresh
LONGEST = 256  # characters of a path worth remembering
ROUNDS = 3  # of decoding: what hides deeper, no server is known to dig out

CONTROL = re.compile(r"[\x00-\x20\x7f#]")
UNCLEAN = re.compile(r"[\x00-\x20\x7f#\\;]|//")
# A dot segment, also as servers see it that take a backslash for a slash or cut a segment at ';' or a control byte.
DOTS = re.compile(r"(?:^|[/\\])\.\.?(?=[/\\;\x00-\x20]|\Z)")
SLASHES = re.compile(r"[/\\]+")
CUT = re.compile(r"[;\x00-\x1f][^/]*| [^/]*\Z")  # where such servers cut a segment, or trim the path
# `/ . % \` and the unreserved characters (RFC 3986 §2.3) escaped, or an escape that is none.
NEEDLESS = re.compile(r"%(?:2[5def]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5[cf]|7e|(?![0-9a-f]{2}))", re.IGNORECASE)


def match(text: str) -> tuple[Methods, str]:
    """Methods and pattern of "* /v1/*" or "GET,POST /v1/files/*"; raises ValueError with words for the operator."""
    words = text.split()
    if len(words) != 2:
        raise ValueError(f'\'{text}\' is not of the form "* /v1/*" or "GET,POST /v1/files/*"')
    named, pattern = words
    if not pattern.startswith("/"):
        raise ValueError(f"the pattern '{pattern}' must begin with '/'")
    if "%" in pattern or "?" in pattern or not pattern.isascii() or UNCLEAN.search(pattern) or DOTS.search(pattern):
        raise ValueError(
            f"the pattern '{pattern}' holds what no path may hold: one of ? # % ; \\, '//' or a dot segment"
        )
    if named == "*":
        return None, pattern
    methods = named.split(",")
    for method in methods:
        if method not in METHODS:
            near = get_close_matches(method.upper(), METHODS, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(METHODS)} and * for all"
            raise ValueError(f"'{method}' is not a method that a route can take; {hint}")
    return frozenset(methods), pattern


class Glob:
    """Literal text with `*`, which crosses slashes. Linear in the path, whatever the pattern."""

    __slots__ = ("_exact", "_head", "_middle", "_tail")

    def __init__(self, pattern: str) -> None:
        self._head, *rest = pattern.split("*")
        self._exact = not rest
        self._tail = rest[-1] if rest else ""
        self._middle = tuple(part for part in rest[:-1] if part)

    def __call__(self, path: str) -> bool:
        if self._exact:
            return path == self._head
        if not path.startswith(self._head):
            return False
        start, end = len(self._head), len(path) - len(self._tail)
        if end < start or not path.endswith(self._tail):
            return False
        for part in self._middle:
            found = path.find(part, start, end)
            if found < 0:
                return False
            start = found + len(part)
        return True


class Route(Generic[P]):
    """One route. `payload` is whatever its owner hangs on it; `strict_segments` behind the prefix hold no escapes."""

    __slots__ = (
        "_matches",
        "_matches_folded",
        "folded",
        "index",
        "methods",
        "name",
        "pattern",
        "payload",
        "prefix",
        "strict_segments",
    )

    def __init__(
        self, name: str, methods: Methods, pattern: str, prefix: str, payload: P, *, strict_segments: int = 0
    ) -> None:
        if not (pattern == prefix or pattern.startswith(f"{prefix}/")) or prefix.endswith("/"):
            raise ValueError(f"the pattern '{pattern}' does not begin with the prefix '{prefix}' and a '/'")
        self.index = 0  # its place among all routes; Routes says so
        self.name = name
        self.methods = methods
        self.pattern = pattern
        self.prefix = prefix
        self.payload = payload
        self.strict_segments = strict_segments
        self.folded = fold(pattern)
        self._matches = Glob(pattern)
        self._matches_folded = Glob(self.folded)

    def takes(self, method: str, path: str) -> bool:
        """Whether method and path match, to the letter."""
        return (self.methods is None or method in self.methods) and self._matches(path)

    def nearly_takes(self, method: str, path: str) -> bool:
        """Whether method and path match but for case and a trailing slash."""
        if self.methods is not None and method not in self.methods:
            return False
        return self._matches_folded(fold(path)) or self._matches_folded(path.casefold())

    def matches(self, path: str) -> bool:
        """Whether the path matches, whatever the method."""
        return self._matches(path)

    def covers(self, other: Route[P]) -> bool:
        """Whether nothing would ever reach the other if it stood behind this one."""
        if self.methods is not None and (other.methods is None or not other.methods <= self.methods):
            return False
        # A star of the other's stands for any text: only a star of ours can take it, and nothing else matches NUL.
        return self._matches(other.pattern.replace("*", "\0")) or self._matches_folded(other.folded.replace("*", "\0"))

    def rest(self, target: str) -> str:
        """The part of an accepted target behind the prefix, query included, bytes untouched."""
        return target[len(self.prefix) :]

    def __repr__(self) -> str:
        return f"Route({self.name}, {','.join(sorted(self.methods)) if self.methods else '*'} {self.pattern})"


class Routes(Generic[P]):
    """All routes in order; the first that matches wins."""

    def __init__(self, routes: Sequence[Route[P]]) -> None:
        self._routes = tuple(routes)
        for index, route in enumerate(self._routes):
            route.index = index
        # Where every pattern is its own folded form, a path that is too can't be taken for another one's.
        self._all_folded = all(route.pattern == route.folded for route in self._routes)
        self._known: dict[tuple[str, str], Route[P]] = {}

    def __iter__(self) -> Iterator[Route[P]]:
        return iter(self._routes)

    def find(self, method: str, target: str) -> Route[P]:
        """The route of a request; raises Rejected with 400, 404 or 405."""
        end = target.find("?")
        if end < 0:
            path = target
        else:
            path = target[:end]
            if CONTROL.search(target, end):
                raise _refused("holds a control character, a blank or a raw '#'")
        route = self._known.get((method, path))
        if route is None:
            route = self._decide(method, path)
            if len(path) <= LONGEST:
                if len(self._known) >= REMEMBERED:
                    self._known.clear()
                self._known[method, path] = route
        return route

    def _decide(self, method: str, path: str) -> Route[P]:
        if method in NEVER:
            raise self._not_allowed(path)
        if method != method.upper():  # some servers take "post" for POST, and another route might want that
            raise Rejected("The method must be in capital letters.")
        if not path.startswith("/"):
            raise _refused("does not begin with '/'")
        if UNCLEAN.search(path):
            raise _refused("holds an empty segment, a backslash, a ';', a blank, a control character or a raw '#'")
        route = self._first(method, path)
        readings = [path]
        if "%" in path:
            readings += _decoded(path)
        for reading in readings:
            if DOTS.search(reading):
                raise _refused("holds a dot segment")
            if reading is not path and self._first(method, reading) is not route:
                raise _refused("holds an escape that leads it to another route once it is decoded")
        if route is None:
            if any(other.matches(path) for other in self._routes):
                raise self._not_allowed(path)
            raise Rejected("No route matches this path.", status=404, code="route_not_found")
        if route.index and not (self._all_folded and len(readings) == 1 and fold(path) == path):
            for earlier in self._routes[: route.index]:
                if any(earlier.nearly_takes(method, reading) for reading in readings):
                    raise _refused("differs only by case or a trailing slash from one that another route takes")
        if route.strict_segments and "%" in path:
            for segment in route.rest(path).split("/", route.strict_segments + 1)[1 : route.strict_segments + 1]:
                if NEEDLESS.search(segment):
                    raise _refused("holds an escape where none is needed")
        return route

    def _first(self, method: str, path: str) -> Route[P] | None:
        for route in self._routes:
            if route.takes(method, path):
                return route
        return None

    def _not_allowed(self, path: str) -> Rejected:
        there = [route for route in self._routes if route.matches(path)] or self._routes
        if any(route.methods is None for route in there):
            allow = ", ".join(METHODS)
        else:
            allow = ", ".join(name for name in METHODS if any(name in (route.methods or ()) for route in there))
        message = f"This method is not allowed here; there are {allow}."
        return Rejected(message, status=405, code="method_not_allowed", headers={"allow": allow})


def fold(path: str) -> str:
    """The path without its case and its trailing slash."""
    return path.casefold().rstrip("/")


def _decoded(path: str) -> list[str]:
    """What readers might make of an escaped path: decoded once, twice, thrice, slashes run together, segments cut."""
    readings = []
    for _ in range(ROUNDS):
        decoded = unquote(path, errors="surrogateescape")
        if decoded == path:
            break
        path = decoded
        readings.append(path)
        if (joined := SLASHES.sub("/", path)) != path:
            readings.append(joined)
        if (cut := CUT.sub("", joined)) != joined:
            readings.append(cut)
    return readings


def _refused(why: str) -> Rejected:
    return Rejected(f"The request's target {why}; send the path as the API's reference writes it.")
