"""What a request may take at most, told before it is sent."""

from __future__ import annotations

import math

from ..model.prices import Demand, Expected, Share, Used
from ..model.quota import MOST
from .image_tokens import image_tokens
from .operation import DRAWING, MOST_TOKENS, Operation
from .operation_path import Kind

FIRST = 1_000  # output tokens of a model that nobody has heard yet, where the request sets no maximum
MODELS = 1024  # whose means are kept
SPAN = 50  # answers over which a mean runs
SPEAKING: frozenset[Kind] = frozenset(("chat", "completion", "response", "audio", "realtime"))

# English has some four characters to a token ("What are tokens and how to count them?", OpenAI's help), code and
# digits three, Chinese and Japanese one character, which is three bytes: bytes by three is on the high side of all.
BYTES = 3
AROUND = 4  # tokens that the frame of each message takes
UNSEEN = 1_000  # tokens of what can't be seen: a file, an earlier turn. Nobody knows; what was used comes afterwards
# A picture that a model looks at: 1,536 patches at 1.62 tokens (gpt-4.1-mini and its like); tiles make 1,445 at most.
LOOKED_AT = 2_489
# A picture that is drawn after: 65 tokens and 129 for each of three tiles, and 6,240 for high fidelity, which newer
# models always have. The small one never has it.
DRAWN_AFTER, DRAWN_AFTER_BY_MINI = 65 + 3 * 129 + 6_240, 65 + 3 * 129


class Means:
    """How many tokens each model writes where no maximum is set; for one thread. It is the house's, not a config's."""

    def __init__(self, most: int = MODELS) -> None:
        self._most = most
        self._known: dict[str, tuple[float, int]] = {}  # mean, and of how many answers; those last heard of at the end

    def of(self, model: str | None) -> int:
        """What is to be expected of that model, rounded up."""
        found = self._known.get(model or "")
        return FIRST if found is None else math.ceil(found[0])

    def learn(self, demand: Demand, used: Used) -> None:
        """Heed what came of a request that set no maximum, where the answer told."""
        if not (demand.guessed and used.shares and used.shares[0].told):
            return
        model, each = demand.model or "", min(MOST_TOKENS, used.shares[0].text_out / demand.choices)
        mean, count = self._known.pop(model, (0.0, 0))
        count = min(SPAN, count + 1)
        self._known[model] = (mean + (each - mean) / count, count)
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]


def demand(operation: Operation, means: Expected) -> Demand:
    """The most that this request may take: of each thing that it leaves open, the dearest."""
    kind, model = operation.kind, operation.model
    if kind in DRAWING:
        return _drawn(operation, means)
    speaks = kind in SPEAKING or (kind == "other" and model is not None)
    if not speaks and kind not in ("embedding", "moderation"):
        return Demand(1, 0, 0)
    text_in = _texts(operation)
    image_in = min(MOST, len(operation.images) * LOOKED_AT)
    if not speaks:
        own = Share(model, text_in, image_in)
        return Demand(1, 0, own.tokens, (own,) if kind == "embedding" else ())  # moderations are free
    each = means.of(model) if operation.most is None else operation.most
    tools = [tool for tool in operation.tools if tool.type == "image_generation"]
    own = Share(model, text_in, image_in, min(MOST, each * operation.choices))
    if operation.capability == "image" and not tools:  # by its modalities: the model that speaks draws, too
        images = operation.choices
        drawn = images * image_tokens(model, operation.size, operation.quality)
        own = own._replace(images=images, image_out=drawn, draws=True, size=operation.size, quality=operation.quality)
    # How often a tool is called is the model's affair. Mostly it is once, and one is what is held for it: what it draws
    # beyond counts when the answer has shown it.
    shares = (
        own,
        *(
            Share(
                tool.model,
                text_in,
                min(MOST, len(operation.images) * DRAWN_AFTER),
                image_out=image_tokens(tool.model, tool.size, tool.quality, tool.partials or 0),
                images=1,
                draws=True,
                size=tool.size,
                quality=tool.quality,
            )
            for tool in tools
        ),
    )
    return _of(shares, operation.choices, operation.most is None)


def _drawn(operation: Operation, means: Expected) -> Demand:
    model, n = operation.model, operation.n
    each = image_tokens(model, operation.size, operation.quality, operation.partials)
    image_in = DRAWN_AFTER_BY_MINI if model is not None and "mini" in model else DRAWN_AFTER
    text_in = _texts(operation)
    own = Share(
        model,
        text_in,
        len(operation.images) * image_in,
        image_out=n * each,
        images=n,
        draws=True,
        size=operation.size,
        quality=operation.quality,
    )
    if (operation.output_format or "").lower() != "svg":
        return _of((own,))
    # A second model writes the picture down, and is paid apart.
    named = [one.name for one in operation.models if one.path in ("svg.model", "svg[model]")]
    writer = named[0] if named else None
    return _of((own, Share(writer, text_in, DRAWN_AFTER, means.of(writer))))


def _of(shares: tuple[Share, ...], choices: int = 1, guessed: bool = False) -> Demand:
    images = tokens = 0
    for share in shares:
        images += share.images
        tokens += share.tokens
    return Demand(1, min(MOST, images), min(MOST, tokens), shares, choices, guessed)


def _texts(operation: Operation) -> int:
    """The tokens of all that is written in it, and a guess for what can't be seen."""
    size = 0
    for one in operation.texts:
        text = one.text
        size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    unseen = len(operation.unseen)
    if unseen and operation.images:  # those that are elsewhere count as pictures
        paths = {image.path for image in operation.images}
        unseen = sum(one.path not in paths for one in operation.unseen)
    return -(-size // BYTES) + AROUND * len(operation.texts) + operation.given + UNSEEN * unseen
