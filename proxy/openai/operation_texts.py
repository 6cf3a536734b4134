"""What a model reads in a request: every text with its path, every picture with its place, and what can't be seen.

What is not known to be mere setting is taken for text: a field that appeared yesterday must not slip past a check.
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple

import orjson

from .strict import Hole


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Strings that say how, not what: no model reads them as words. A top-level field or a member that is not here is text.
SETTINGS = _words(
    """
    model size quality background output_format moderation response_format input_fidelity complexity user
    safety_identifier prompt_cache_key prompt_cache_retention service_tier reasoning_effort verbosity truncation
    encoding_format timestamp_granularities include modalities metadata stop tool_choice function_call stream
    stream_options voice language seconds purpose prompt_cache_options context_management
    """
)
# The same for members of messages, parts, items and tools.
MARKS = _words("type id call_id tool_call_id status detail phase object format effort mode execution role model")
ROLES = _words("system developer user assistant tool function critic discriminator")
PICTURES = _words("image images image_url mask markup input_image_mask input_reference partial_image_b64")
SCHEMAS = _words("parameters schema input_schema output_schema")
SECRETS = frozenset(("authorization", "headers"))  # the caller's, for a server of tools: no model reads them
_ITEMS = _words("item_reference image_generation_call image_generation")
_PLAIN = _words("messages input content text tools function name description")
# What stands for content that is somewhere else, and how it is said.
ELSEWHERE = {
    "previous_response_id": "an earlier response, kept upstream",
    "conversation": "a conversation, kept upstream",
    "file_id": "a file, kept upstream",
    "file_ids": "files, kept upstream",
    "vector_store_ids": "stored documents, kept upstream",
    "training_file": "a file, kept upstream",
    "validation_file": "a file, kept upstream",
    "input_file_id": "a file, kept upstream",
    "file_url": "a file elsewhere, fetched by the upstream",
    "server_url": "tools of another server, fetched by the upstream",
    "connector_id": "tools of another server, fetched by the upstream",
    "encrypted_content": "encrypted content",
    "file_data": "a file's content",
    "input_audio": "speech",
    "audio": "speech",
}
_BASE64_HEAD = re.compile(r"(?i)data:([^,;]*)[^,]*,")

SPOKEN = "what is said on the socket"
EARLIER = "an earlier item, kept upstream"
Source = Literal["inline", "url", "file", "upload"]


class Text(NamedTuple):
    """A text that a model reads: where it stands, and in whose name ("user" for what is asked for)."""

    path: str
    text: str
    role: str


class Image(NamedTuple):
    """A picture that a model is given: not its bytes, but where they are."""

    path: str
    source: Source
    value: str = ""  # its URL, its file id, the file's name; inline: itself where it is short, else ""
    media_type: str | None = None  # as the client says; nobody has looked
    start: int = -1  # uploads, and long inline ones: where its bytes (base64 if inline) stand in the body
    length: int = -1


class Unseen(NamedTuple):
    """Something that the upstream will read and we can't."""

    path: str
    what: str

    @property
    def kept(self) -> bool:
        """Whether it lies in the account of one upstream, so that another would not know it."""
        return self.what.endswith("kept upstream")

    @property
    def spoken(self) -> bool:
        """Whether it is still to be said, on a socket: each message can be looked at when it comes."""
        return self.what == SPOKEN

    def __str__(self) -> str:
        return f"{self.path}: {self.what}" if self.path else self.what


class Texts:
    """Collects what a model reads from the fields of a request."""

    __slots__ = ("_holes", "_nonce", "images", "texts", "unseen")

    def __init__(self, nonce: str = "", holes: list[Hole] | None = None) -> None:
        self._nonce = nonce
        self._holes = holes or []
        self.texts: list[Text] = []
        self.images: list[Image] = []
        self.unseen: list[Unseen] = []

    def fields(self, document: dict[str, Any], role: str = "user", *, under: str = "") -> None:
        """All that stands in a request's top-level fields, or in those of what stands `under` a path ("session.")."""
        for key, value in document.items():
            kind, path = type(value), under + key
            if kind is str:
                if key in SETTINGS:
                    continue
                if key == "instructions":
                    self.text(value, path, "system")
                elif key in ELSEWHERE or key in PICTURES:
                    self._member(key, value, path, role)
                else:
                    self.text(value, path, role)
            elif kind is list or kind is dict:
                if key in SETTINGS and kind is list and all(type(one) is str for one in value):
                    continue
                if key == "metadata" or (key == "audio" and kind is dict):
                    continue
                if key == "prompt" and kind is dict and "id" in value:  # a prompt stored upstream, and its variables
                    self.unseen.append(Unseen(path, "a prompt, kept upstream"))
                self._member(key, value, path, "system" if key in ("tools", "functions", "instructions") else role)

    def text(self, value: str, path: str, role: str) -> None:
        """One text."""
        if self._nonce and (hole := self._hole(value)):
            self.unseen.append(Unseen(path, f"{hole.length} characters of base64 in the place of a text"))
        elif value:
            self.texts.append(Text(path, value, role))

    def image(self, value: Any, path: str) -> None:
        """A picture, or several: a string, or an object that names it by URL or file id."""
        if type(value) is str:
            self._picture(value, path)
        elif type(value) is list:
            for index, one in enumerate(value):
                self.image(one, f"{path}[{index}]")
        elif type(value) is dict:
            for key, one in value.items():
                if key in ("url", "image_url", "b64_json", "data"):
                    self.image(one, f"{path}.{key}")
                elif key == "file_id" and type(one) is str:
                    self._file(one, f"{path}.{key}")
                else:
                    self._member(key, one, f"{path}.{key}", "user")

    def _any(self, value: Any, path: str, role: str) -> None:
        kind = type(value)
        if kind is str:
            self.text(value, path, role)
        elif kind is list:
            if value and type(value[0]) is int:
                self.unseen.append(Unseen(path, "tokens in the place of a text"))
            for index, one in enumerate(value):
                self._any(one, f"{path}[{index}]", role)
        elif kind is dict:
            self._object(value, path, role)

    def _object(self, value: dict[str, Any], path: str, role: str) -> None:
        says, sort = value.get("role"), value.get("type")
        if type(says) is str:
            role = says
            if says not in ROLES:
                self.text(says, f"{path}.role", role)
        if type(sort) is str and sort[0:1] == "i" and sort in _ITEMS:
            self._item(value, sort, path, role)
            return
        if type(sort) is str and sort.endswith("_output"):
            role = "tool"
        for key, one in value.items():
            if type(one) is str:
                if key in MARKS:
                    continue
                if key in _PLAIN:
                    self.text(one, f"{path}.{key}", role)
                    continue
            self._member(key, one, f"{path}.{key}", role)

    def _item(self, value: dict[str, Any], sort: str, path: str, role: str) -> None:
        """Items and tools whose fields mean something of their own."""
        if sort == "item_reference":
            self.unseen.append(Unseen(path, EARLIER))
        for key, one in value.items():
            if sort == "image_generation_call" and key == "result":
                self.image(one, f"{path}.{key}")
            elif sort != "image_generation" or key not in SETTINGS:
                self._member(key, one, f"{path}.{key}", role)

    def _member(self, key: str, value: Any, path: str, role: str) -> None:
        kind = type(value)
        if key not in _PLAIN and not (key.isascii() and key.isidentifier()):  # a key of the caller's own words
            self.texts.append(Text(path, key, role))
        if (kind is not str and kind is not list and kind is not dict) or key in SECRETS:
            return
        if key in _PLAIN:
            self._any(value, path, role)
        elif kind is str and key in MARKS:
            return
        elif key in PICTURES:
            self.image(value, path)
        elif key in ELSEWHERE and value and (key != "audio" or kind is str or "id" in value or "data" in value):
            self.unseen.append(Unseen(path, ELSEWHERE[key]))
            if key == "file_id" and kind is str:
                self.images.append(Image(path, "file", value))
            elif kind is dict:
                self._any({one: two for one, two in value.items() if one != "data"}, path, role)
        elif key in SCHEMAS and kind is dict:
            self._schema(value, path, role)
        else:
            self._any(value, path, role)

    def _schema(self, value: dict[str, Any], path: str, role: str) -> None:
        """A schema is given to the model as JSON, keys and all."""
        written = orjson.dumps(value).decode()
        if self._nonce and self._nonce in written:
            self._any(value, path, role)
        else:
            self.texts.append(Text(path, written, role))

    def _picture(self, value: str, path: str) -> None:
        if self._nonce and (hole := self._hole(value)):
            found = _BASE64_HEAD.match(hole.head)
            start, length = hole.start + len(hole.head), hole.length - len(hole.head)
            self.images.append(Image(path, "inline", "", (found and found[1].lower()) or None, start, length))
        elif found := _BASE64_HEAD.match(value):
            self.images.append(Image(path, "inline", value, found[1].lower() or None))
        elif "://" in value[:32]:
            self.images.append(Image(path, "url", value))
            self.unseen.append(Unseen(path, "a picture elsewhere, fetched by the upstream"))
        elif value:
            self.images.append(Image(path, "inline", value))

    def _file(self, value: str, path: str) -> None:
        self.images.append(Image(path, "file", value))
        self.unseen.append(Unseen(path, ELSEWHERE["file_id"]))

    def _hole(self, value: str) -> Hole | None:
        if not value.startswith(self._nonce):
            return None
        return self._holes[int(value[len(self._nonce) + 1 :])]
