"""What must stand outside what in a chain, and how a chain looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..model.plugin import Plugin
from .settings import Complaint

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


def drawing(match: str, chain: Sequence[str], inner: Mapping[str, Sequence[str]], *, width: int = 0) -> str:
    """A chain on one line, each further upstream on one of its own: `* /v1/*   keys || openai: credential > wire`."""
    outside = f"{match:<{width}}   {' > '.join(chain) or '(no plugins)'} || "
    lines = [f"{name}: {' > '.join(layers)}" for name, layers in inner.items()]
    return f"\n{'|| ':>{len(outside)}}".join([outside + lines[0], *lines[1:]]) if lines else outside.rstrip(" |")
