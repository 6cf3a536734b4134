"""What a request's path, query and content type say of what it asks."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote

from ..model.errors import Rejected
from ..model.message import Request
from .multipart import parameters
from .selected import Model

Kind = Literal[
    "generate",
    "edit",
    "variation",
    "chat",
    "completion",
    "response",
    "embedding",
    "audio",
    "moderation",
    "files",
    "realtime",
    "other",
]
Form = Literal["json", "multipart", "foreign"]

POSTED: dict[str, Kind] = {
    "images/generations": "generate",
    "images/edits": "edit",
    "images/variations": "variation",
    "chat/completions": "chat",
    "completions": "completion",
    "responses": "response",
    "responses/compact": "response",
    "responses/input_tokens": "response",
    "embeddings": "embedding",
    "moderations": "moderation",
    "audio/speech": "audio",
    "audio/transcriptions": "audio",
    "audio/translations": "audio",
}
SOCKETS: dict[str, Kind] = {"realtime": "realtime", "responses": "response"}
FOLDERS: dict[str, Kind] = {"files": "files", "uploads": "files", "realtime": "realtime"}
FOREIGN = frozenset(("other", "files", "realtime"))  # whose bodies may be of any type: SDP, parts of an upload
FORMS = frozenset(("generate", "edit", "variation", "audio")) | FOREIGN  # which may come as multipart
_AZURE = re.compile(r"/openai/(?:deployments/([^/]+)/|v1/|(?!v1/|deployments/))")
_NAMES = ("model", "deployment")
_READ = frozenset(("prompt", "messages", "input", "instructions", "image", "images", "mask", "text"))


class Asked(NamedTuple):
    """What path and query say: the kind, and the model that each of them names."""

    kind: Kind
    deployment: str | None  # of the path, Azure's dated form, where it decides over any other model
    model: str | None  # of the query
    models: tuple[Model, ...] = ()  # both, with their places


def asked(request: Request, prefix: str) -> Asked:
    """What path and query of a request say. Raises Rejected for what can be read in two ways."""
    path, _, query = request.target.partition("?")
    kind, deployment = _kind(request.method, path, prefix)
    if kind == "other":
        plain = re.sub("/{2,}", "/", unquote(path)).rstrip("/")
        if plain != path or not plain.islower():
            for reading in (plain, plain.lower()):
                if _kind(request.method, reading, prefix)[0] != "other":
                    raise Rejected("The path can be read in two ways; write it as it is documented.")
    named = _models(query) if query else {}
    if query and request.method == "POST":
        _asks(query)
    models = [Model((name,), model, place="query") for name, model in named.items()]
    if deployment is not None:
        models.append(Model(("deployment",), deployment, place="path"))
    return Asked(kind, deployment, next(iter(named.values()), None), tuple(models))


def form(request: Request, kind: Kind) -> Form:
    """How the body is to be read; "foreign" for what is nobody's to read here. Raises Rejected."""
    types = request.headers.getall("content-type")
    encodings = request.headers.getall("content-encoding")
    if any(encoding.strip().lower() not in ("identity", "") for encoding in encodings):
        unsupported("A compressed request body is not read here; send it without Content-Encoding.")
    if types == ["application/json"]:
        return "json"
    if len(types) > 1:
        raise Rejected("Content-Type is given twice; give it once.")
    name, found = parameters(types[0]) if types else ("", {})
    if name == "application/json" or (name == "multipart/form-data" and kind in FORMS):
        plain(found)
        return "json" if name == "application/json" else "multipart"
    if kind in FOREIGN:
        return "foreign"
    wanted = "application/json or multipart/form-data" if kind in FORMS else "application/json"
    unsupported(f"A body of the type {short(name)} is not read here; send {wanted}.")


def plain(found: dict[str, bytes]) -> None:
    """Refuse another charset than UTF-8 among the parameters of a content type."""
    charset = found.get("charset", b"utf-8").decode("ascii", "replace")
    if charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        unsupported(f"The charset {short(charset)} is not read here; send UTF-8.")


def unsupported(message: str) -> NoReturn:
    """Refuse an encoding that would have to be read here."""
    raise Rejected(message, status=415, code="unsupported_encoding")


def short(text: str) -> str:
    """A word of the client's, short enough for a message."""
    return repr(text if len(text) <= 64 else text[:64] + "...")


def _kind(method: str, path: str, prefix: str) -> tuple[Kind, str | None]:
    start = prefix.rstrip("/") + "/"
    deployment = None
    if path.startswith(start):
        rest = path[len(start) :]
    elif azure := _AZURE.match(path):
        rest = path[azure.end() :]
        deployment = unquote(azure[1]) if azure[1] else None
    else:  # under the prefix of another route: what a path ends with is what it is for
        rest = "/".join(path.split("/")[-2:])
        rest = rest if rest in POSTED else rest.rpartition("/")[2]
    if method == "POST" and rest in POSTED:
        return POSTED[rest], deployment
    if method == "GET" and rest in SOCKETS:
        return SOCKETS[rest], deployment
    return FOLDERS.get(rest.partition("/")[0], "other"), deployment


def _asks(query: str) -> None:
    """Refuse what is to be read by a model in a query: OpenAI does not look there, and others may."""
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name.partition("[")[0].strip().lower() in _READ:
            raise Rejected(f"The query holds {short(name)}, which belongs into the body.", param=name[:64])


def _models(query: str) -> dict[str, str]:
    """The model and the deployment that a query names, which are the same."""
    found: dict[str, str] = {}
    if "%" in query or "model" in query.lower() or "deployment" in query.lower():
        for name, value in parse_qsl(query, keep_blank_values=True):
            known = name.lower()
            if known in _NAMES:
                if known in found or name != known:
                    raise Rejected(f"The query names {known!r} in two ways; give it once.", param=known)
                found[known] = value
    if len(set(found.values())) > 1:
        raise Rejected("The query names a model and a deployment; name one.", param="model")
    return found
