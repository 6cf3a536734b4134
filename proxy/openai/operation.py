"""What a request asks: read once, from JSON, multipart, query and path, as the upstream will read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

from ..model.body import EMPTY
from ..model.errors import Rejected
from ..model.health import Capability
from ..model.message import Request
from .multipart import Part, parameters, parts
from .operation_body import KEPT, gather, kept
from .operation_path import Asked, Kind, asked, form, plain, short
from .operation_texts import ELSEWHERE, MARKS, PICTURES, SETTINGS, SPOKEN, Image, Text, Texts, Unseen
from .selected import Model, in_form, of_form, selected

LIMIT = 64 * 2**20  # of JSON, and of all form fields together
MOST = 128  # n: images allow 10, chat 128
MOST_TOKENS = 10_000_000  # no model is known to write a tenth of that
CAPABILITIES: dict[Kind, Capability] = {
    "generate": "image",
    "edit": "image",
    "variation": "image",
    "chat": "text",
    "completion": "text",
    "response": "text",
    "embedding": "embeddings",
    "audio": "audio",
    "realtime": "audio",
}
FREE = frozenset(("chat", "completion", "response", "embedding", "moderation"))  # to repeat, but for what they draw
DRAWING = frozenset(("generate", "edit", "variation"))
COUNTED = DRAWING | {"chat", "completion"}  # where n means something
ALWAYS = ("model", "user", "safety_identifier")  # what must be text wherever it stands
DRAWN = ("size", "quality", "background", "output_format", "response_format")  # and what must be where it prices
STRINGS = (*ALWAYS, *DRAWN)
MAXIMA: dict[Kind, tuple[str, ...]] = {  # what says how much may be written at most; of two, upstream takes either
    "chat": ("max_tokens", "max_completion_tokens"),
    "completion": ("max_tokens",),
    "response": ("max_output_tokens",),
}
NUMBERS = ("n", "max_tokens", "max_completion_tokens", "max_output_tokens", "best_of", "partial_images")
DECIDING = frozenset((*STRINGS, *NUMBERS, "stream", "prompt"))
_LITERAL = re.compile(r"-?[0-9.]{1,20}|true|false|null")  # what JSON would not have as a string
_COUNT = re.compile(r"[1-9][0-9]{0,8}")


class Tool(NamedTuple):
    """A tool that a model is given; for "image_generation", also what it is to draw with."""

    path: str
    type: str
    model: str | None = None
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    response_format: str | None = None  # no service knows that of a tool: it is asked of us
    partials: int | None = None  # partial pictures that it is to show


@dataclass(frozen=True, slots=True, repr=False)
class Operation:
    """What one request asks. What was not given is None; what can't be seen is named in `unseen`."""

    kind: Kind
    capability: Capability
    paid: bool  # may it cost again to ask again?
    model: str | None = None
    n: int = 1
    choices: int = 1  # answers that a model writes: n, and for each of several prompts
    most: int | None = None  # tokens that each may have
    given: int = 0  # tokens that stand as numbers in the place of a text
    partials: int = 0  # partial pictures of each picture
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    response_format: str | None = None
    stream: bool = False
    drawn: bool = False  # must a good answer hold a picture?
    tied: bool = False  # it speaks of what one upstream keeps: another would not know it
    user: str | None = None
    safety_identifier: str | None = None
    texts: tuple[Text, ...] = ()  # every text that a model reads
    images: tuple[Image, ...] = ()  # every picture that it is given
    tools: tuple[Tool, ...] = ()
    unseen: tuple[Unseen, ...] = ()
    _named: tuple[Model, ...] = field(default=(), compare=False)  # in path, query and form
    _document: Any = field(default=None, compare=False)  # the JSON, in which few ask for more than `model`

    @property
    def models(self) -> tuple[Model, ...]:
        """Every model that the request names: in path and query, in `model`, tools, fallbacks and wherever else."""
        return (*self._named, *selected(self._document))

    @property
    def prompts(self) -> tuple[Text, ...]:
        """The texts in the user's name: what is asked for, rather than what is said around it."""
        return tuple([text for text in self.texts if text.role == "user"])

    def __repr__(self) -> str:
        # What somebody asks a model for is not for logs.
        held = f"{len(self.texts)} texts, {len(self.images)} images, {len(self.unseen)} unseen"
        return f"Operation({self.kind}, model={self.model!r}, n={self.n}, {held})"


async def operation(request: Request, *, limit: int = LIMIT, prefix: str = "/v1") -> Operation:
    """What this request asks; asked again, the same answer without reading again.

    Raises Rejected for what its readers could read differently, and for an encoding that can't be read here. JSON over
    the limit is not read: that is in `unseen`. The request may be forwarded afterwards, as it is.
    """
    body = request.body
    named = request.headers.getall
    key = (request.method, request.target, named("content-type"), named("content-encoding"), limit, prefix)
    if (seen := body.seen) is not None and seen[0] == key:
        return seen[1]  # type: ignore[no-any-return]
    told = asked(request, prefix)
    texts = Texts()
    if body.length == 0:
        found = _made(request, told, {}, texts)
    elif (how := form(request, told.kind)) == "json":
        found = await _json(request, told, limit)
    elif how == "multipart":
        found = await _multipart(request, told, limit)
    else:
        texts.unseen.append(Unseen("", "the body: it is neither JSON nor a form"))
        found = _made(request, told, {}, texts)
    if body is not EMPTY:
        body.seen = (key, found)
    return found


async def _json(request: Request, told: Asked, limit: int) -> Operation:
    reading = await gather(request.body, limit)
    if reading is None:
        texts = Texts()
        texts.unseen.append(Unseen("", f"the body: it is larger than {limit} bytes"))
        return _made(request, told, {}, texts)
    texts = Texts(reading.nonce, reading.holes)
    fields = reading.value
    if type(fields) is dict:
        for name in fields:
            if name not in DECIDING:
                _case(name)
    elif told.kind == "other":
        fields = {"": fields}
    else:
        raise Rejected("The body is not a JSON object.")
    texts.fields(fields)
    return _made(request, told, fields, texts, document=fields)


async def _multipart(request: Request, told: Asked, limit: int) -> Operation:
    texts = Texts()
    fields: dict[str, Any] = {}
    if request.body.length is not None and request.body.length > KEPT:
        texts.unseen.append(Unseen("", f"the body: it is larger than {KEPT} bytes"))
        return _made(request, told, {}, texts)
    names: set[str] = set()
    named: list[Model] = []
    left = limit
    content_type = request.headers.get("content-type")
    async for part in parts(kept(request.body), content_type):
        name = part.name
        if name in names and not name.endswith("[]"):
            raise Rejected(f"The form field {short(name)} is given twice; give it once.", param=name[:64])
        names.add(name)
        value = await _value(part, left)
        if (model := in_form(name, value)) is not None:
            named.append(model)
        if value is None:
            _upload(part, told.kind, texts)
            continue
        left -= len(value)
        base, bracket, _ = name.partition("[")
        if base in DECIDING:
            if bracket:
                raise Rejected(f"The form field {base!r} takes one value; send it without brackets.", param=base)
            fields[base] = _typed(base, value, told.kind)
        else:
            _case(base)
        if name == "_charset_":  # RFC 7578 §4.6
            plain({"charset": value.encode()})
        elif base in PICTURES:
            texts.image(value, name)
        elif base in ELSEWHERE:
            texts.fields({base: value})
        elif base == "prompt" or not (_setting(name) or _LITERAL.fullmatch(value)):
            texts.text(value, name, "user")
    whole = of_form(named, quality=fields.get("quality"), output_format=fields.get("output_format"))
    return _made(request, told, fields, texts, named=whole)


async def _value(part: Part, limit: int) -> str | None:
    """The text of a form field; None for an upload, whose bytes are passed over."""
    kind, found = parameters(part.content_type) if part.content_type else ("text/plain", {})
    if part.filename is None and (kind.startswith("text/") or kind == "application/json"):
        plain(found)
        try:
            return (await part.body.read(limit)).decode()
        except UnicodeDecodeError:
            raise Rejected(f"The form field {short(part.name)} is not UTF-8.", param=part.name[:64]) from None
    base = part.name.partition("[")[0]
    if base.lower() in DECIDING or base in SETTINGS:
        raise Rejected(f"The form field {short(base)} must be text, not a file.", param=base)
    async for _ in part.body:
        pass
    return None


def _setting(name: str) -> bool:
    """Whether a form field says how, not what: `include[]`, `svg[model]`."""
    base, _, inner = name.removesuffix("[]").partition("[")
    return inner.rpartition("[")[2].rstrip("]") in MARKS if inner else base in SETTINGS


def _upload(part: Part, kind: Kind, texts: Texts) -> None:
    media = part.content_type.lower() if part.content_type else None
    if (kind in DRAWING and part.name.partition("[")[0] in PICTURES) or (media or "").startswith("image/"):
        place = (part.data, part.end - part.data)
        texts.images.append(Image(part.name, "upload", part.filename or "", media, *place))
    else:
        texts.unseen.append(Unseen(part.name, "an uploaded file"))


def _made(
    request: Request,
    told: Asked,
    fields: dict[str, Any],
    texts: Texts,
    *,
    named: Sequence[Model] = (),
    document: Any = None,
) -> Operation:
    """The whole, from what path, query and fields say."""
    kind, get = told.kind, fields.get
    drawing = kind in DRAWING
    said = {name: _string(fields[name], name, strict=drawing or name in ALWAYS) for name in STRINGS if name in fields}
    model = said.get("model")
    if model is not None and told.model is not None and model != told.model:
        raise Rejected("The query and the body name different models; name one.", param="model")
    n = (_whole(get("n"), "n", 1, MOST) if kind in COUNTED else None) or 1
    partials = (_whole(get("partial_images"), "partial_images", 0, MOST) if drawing else None) or 0
    choices, given = _answers(kind, n, fields)
    # Some take 0 for as much as they like.
    maxima = [_whole(fields[name], name, 0, MOST_TOKENS) or 0 for name in MAXIMA.get(kind, ()) if name in fields]
    most = max(maxima, default=0) or None
    stream = get("stream")
    if stream is not None and type(stream) is not bool:
        raise Rejected("'stream' must be true or false.", param="stream")
    prompt = get("prompt")
    if drawing:
        _string(prompt, "prompt")
    tools = _tools(fields["tools"]) if "tools" in fields else ()
    capability = CAPABILITIES.get(kind, "other")
    paid = kind not in FREE and request.method not in ("GET", "HEAD")
    if request.method == "GET" and kind in ("realtime", "response"):
        paid = True
        texts.unseen.append(Unseen("", SPOKEN))
    if kind == "realtime" and (request.method == "POST" or "call_id" in unquote(request.target).lower()):
        # A call is held between a browser and upstream, a session for a secret of its own by whoever gets that.
        texts.unseen.append(Unseen("", "a conversation that does not pass here"))
    modalities = get("modalities")
    if type(modalities) is list and ("image" in modalities or "audio" in modalities):
        paid = True
        capability = "image" if "image" in modalities else capability
    if tools and any(tool.type == "image_generation" for tool in tools):
        capability, paid = "image", True
    if type(prompt) is dict:  # a prompt that is kept upstream may bring tools of its own
        paid = True
    said["model"] = told.deployment or model or told.model
    return Operation(
        kind,
        capability,
        paid,
        n=n,
        choices=choices,
        most=most,
        given=given,
        partials=partials,
        stream=bool(stream),
        drawn=drawing or ("tool_choice" in fields and _forced(fields["tool_choice"], tools)),
        tied=(bool(texts.unseen) and any(one.kept for one in texts.unseen))
        or (bool(texts.images) and any(one.source == "file" for one in texts.images)),
        texts=tuple(texts.texts),
        images=tuple(texts.images),
        tools=tools,
        unseen=tuple(texts.unseen),
        _named=(*told.models, *named),
        _document=document,
        **said,
    )


def _tools(value: Any) -> tuple[Tool, ...]:
    found = []
    for index, tool in enumerate(value if type(value) is list else ()):
        sort = tool.get("type") if type(tool) is dict else None
        if sort == "image_generation":
            path = f"tools[{index}]"
            names = ("model", *DRAWN)
            said = [_string(tool.get(name), f"{path}.{name}") for name in names]
            partials = _whole(tool.get("partial_images"), f"{path}.partial_images", 0, MOST)
            found.append(Tool._make((path, sort, *said, partials)))
        elif type(sort) is str:
            found.append(Tool(f"tools[{index}]", sort))
    return tuple(found)


def _answers(kind: Kind, n: int, fields: dict[str, Any]) -> tuple[int, int]:
    """How many answers are written, and how many tokens are given as numbers."""
    if kind == "embedding":
        return 1, _numbers(fields.get("input"))
    if kind != "completion":
        return n, 0
    prompt = fields.get("prompt")
    prompts = len(prompt) if type(prompt) is list and prompt and type(prompt[0]) is not int else 1
    best = _whole(fields.get("best_of"), "best_of", 1, MOST) or 1  # so many are written, and the best n given
    return max(n, best) * prompts, _numbers(prompt)


def _numbers(value: Any) -> int:
    if type(value) is not list:
        return 0
    return sum([1 if type(one) is int else len(one) if type(one) is list else 0 for one in value])


def _forced(choice: Any, tools: tuple[Tool, ...]) -> bool:
    """Whether the model has no choice but to draw."""
    if type(choice) is dict:
        if choice.get("type") == "allowed_tools" and choice.get("mode") == "required":
            allowed = choice.get("tools")
            return type(allowed) is list and bool(allowed) and all(map(_draws, allowed))
        return _draws(choice)
    return choice == "required" and bool(tools) and all(tool.type == "image_generation" for tool in tools)


def _draws(tool: Any) -> bool:
    return type(tool) is dict and tool.get("type") == "image_generation"


def _string(value: Any, name: str, *, strict: bool = True) -> str | None:
    if value is None or type(value) is str:
        return value
    if strict:
        raise Rejected(f"'{name}' must be a string.", param=name)
    return None


def _whole(value: Any, name: str, least: int, most: int) -> int | None:
    if value is None or (type(value) is int and least <= value <= most):
        return value
    raise Rejected(f"'{name}' must be a whole number from {least} to {most}.", param=name)


def _typed(name: str, value: str, kind: Kind) -> str | int | bool:
    """A form field as what JSON would have made of it."""
    if name == "n" and kind in COUNTED:
        if not _COUNT.fullmatch(value):
            raise Rejected(f"'n' must be a whole number from 1 to {MOST}.", param="n")
        return int(value)
    if name == "partial_images" and kind in DRAWING:
        if not re.fullmatch(r"[0-9]{1,3}", value, re.ASCII):
            raise Rejected(f"'partial_images' must be a whole number from 0 to {MOST}.", param="partial_images")
        return int(value)
    if name == "stream":
        if value.lower() not in ("true", "false"):
            raise Rejected("'stream' must be true or false.", param="stream")
        return value.lower() == "true"
    return value


def _case(name: str) -> None:
    """Refuse a field that differs from a deciding one by its case: some upstreams take it for that one."""
    if name.lower() in DECIDING and name not in DECIDING:
        raise Rejected(f"The field {short(name)} can be read in two ways; write it {name.lower()!r}.", param=name)
