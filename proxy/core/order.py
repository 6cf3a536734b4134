"""What must stand outside what in a chain, what is read in answers, and how a chain looks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ..model.plugin import Plugin
from ..model.reading import READS
from .settings import Complaint
from .words import nearest

Layers = Sequence[tuple[str, str, type[Plugin]]]  # name, kind and class, from the outside in


def complaints(layers: Layers, where: str) -> list[Complaint]:
    """All that is wrong with the order of a chain."""
    found: list[Complaint] = []
    for i, (name, _, plugin) in enumerate(layers):
        outer, further = layers[:i], layers[i + 1 :]
        if any(name == other for other, _, _ in outer):
            found.append(Complaint(where, f"'{name}' is in the chain twice; a second instance needs a name of its own"))
            continue
        for slot in plugin.needs:
            if any(slot in other.fills for _, _, other in outer):
                continue
            late = next((other for other, _, cls in further if slot in cls.fills), None)
            remedy = f"move '{late}' further up" if late else "put a plugin that fills it further up"
            found.append(Complaint(where, f"'{name}' needs the {slot.name}, which no layer outside it fills; {remedy}"))
        found += [
            Complaint(where, f"'{name}' must sit inside '{other}'; move it further down")
            for other, kind, _ in further
            if kind in plugin.inside
        ]
    return list(dict.fromkeys(found))


def reads(plugins: Iterable[Plugin]) -> tuple[str, ...]:
    """What these want seen in answers, in alphabetical order; raises ValueError for what nobody can see there."""
    found: set[str] = set()
    for plugin in plugins:
        if isinstance(plugin.reads, str):
            raise ValueError(f'reads "{plugin.reads}", which is a word and not several; write ("{plugin.reads}",)')
        for word in plugin.reads:
            if word not in READS:
                raise ValueError(f"reads '{word}', which nobody sees in an answer; {nearest(word, READS)}")
        found.update(plugin.reads)
    return tuple(sorted(found))


def drawing(
    match: str,
    chain: Sequence[str],
    inner: Mapping[str, Sequence[str]],
    *,
    reads: Collection[str] = (),
    width: int = 0,
) -> str:
    """A chain on one line, each further upstream on one of its own: `* /v1/*   keys || openai: credential > wire`.

    What is read in answers stands where the reader does: `keys > failover > (reads verdict) || ...`.
    """
    layers = [*chain, f"(reads {', '.join(reads)})"] if reads else chain
    outside = f"{match:<{width}}   {' > '.join(layers) or '(no plugins)'} || "
    lines = [f"{name}: {' > '.join(layers)}" for name, layers in inner.items()]
    return f"\n{'|| ':>{len(outside)}}".join([outside + lines[0], *lines[1:]]) if lines else outside.rstrip(" |")
