"""`framegate images`: what is kept, what goes, and whether it is whole."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import orjson

from ..core.config import Config
from ..images.base import Images
from ..model.images import Stored
from .ground import Refused, iso, known, on_state, unread

T = TypeVar("T")
SHOWN = ("name", "type", "size", "pixels", "owner", "created", "expires")
LINE = "{:<31} {:<5} {:>10} {:<11} {:<20} {:<20} {}"  # a name has 31 characters at the most


def _on_images(config: Config, work: Callable[[Images], Awaitable[T]]) -> T:
    if config.images is not None and config.images.access_key is not None and config.path is not None:
        config = known(config.path)
    if config.images is None:
        raise Refused("no pictures are kept: the config has no [images] table; is --config missing?")
    for name in ("access_key", "secret_key"):
        if (missing := unread(getattr(config.images, name))) is not None:
            raise Refused(f"images.{name}: '{missing}' is not here, and the pictures lie behind it")
    return on_state(config, lambda state: work(state.images(config)))


def _images_list(config: Config, options: Namespace) -> None:
    async def work(images: Images) -> None:
        """Page by page: the first of a hundred thousand stand there at once."""
        lead = "[\n  "
        if not options.json:
            print(LINE.format(*SHOWN))
        async for page in images.index.all():
            for stored in page:
                if options.owner is not None and stored.owner != options.owner:
                    continue
                if options.json:
                    print(lead, orjson.dumps(_told(stored)).decode(), sep="", end="")
                    lead = ",\n  "
                else:
                    print(LINE.format(*_cells(stored)))
        if options.json:
            print("[]" if lead.startswith("[") else "\n]")

    _on_images(config, work)


def _images_show(config: Config, options: Namespace) -> None:
    async def work(images: Images) -> tuple[Stored, str]:
        stored = await images.find(_typed(options.name))
        if stored is None:
            raise _no_such(options.name)
        return stored, images.blobs.place(stored.sha256)

    stored, file = _on_images(config, work)
    told = {**_told(stored), "url": stored.url, "file": file}
    if options.json:
        print(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return
    for key, value in told.items():
        print(f"{key + ':':<9} {'-' if value is None else value}")


def _images_delete(config: Config, options: Namespace) -> None:
    async def work(images: Images) -> list[str]:
        return [name for name in options.names if not await images.delete(_typed(name))]

    unknown = _on_images(config, work)
    if gone := len(options.names) - len(unknown):
        print(f"{gone} picture{'' if gone == 1 else 's'} deleted; what browsers and caches hold they hold for a day")
    if unknown:
        raise _no_such(unknown[0])


def _images_gc(config: Config, options: Namespace) -> None:
    done = _on_images(config, lambda images: images.collector.collect())
    if options.json:
        print(orjson.dumps(asdict(done)).decode())
        return
    print(f"removed {_many(done.removed, 'file')} ({done.removed_bytes} bytes) that no name needs any more")
    if done.abandoned:
        print(f"removed {_many(done.abandoned, 'half file')} of processes that were killed")
    if done.evicted:
        print(f"ended {_many(done.evicted, 'name')}, the oldest first: there was more than max_bytes")
    print(f"kept {_many(done.kept, 'file')} ({done.kept_bytes} bytes)")


def _images_verify(config: Config, options: Namespace) -> None:
    async def work(images: Images) -> tuple[int, list[tuple[Stored, str]]]:
        whole, bad = 0, []
        async for page in images.index.all():
            for stored in page:
                if why := await _fault(images, stored):
                    bad.append((stored, why))
                else:
                    whole += 1
        return whole, bad

    whole, bad = _on_images(config, work)
    if options.json:
        faults = [{"name": stored.name, "owner": stored.owner, "fault": why} for stored, why in bad]
        print(orjson.dumps({"whole": whole, "faults": faults}).decode())
    else:
        for stored, why in bad:
            print(f"{stored.name}  {why}")
        print(f"{_many(whole, 'picture')} whole")
    if bad:
        raise Refused(f"{_many(len(bad), 'picture')} can't be served; framegate images delete ends their names")


async def _fault(images: Images, stored: Stored) -> str | None:
    """What is wrong with the bytes that a name leads to."""
    size = await images.blobs.size(stored.sha256)
    body = None if size is None else await images.opened(stored, 0, stored.size)
    if body is None:
        return "its file is missing" if size is None else "its file is damaged"
    found = hashlib.sha256()
    try:
        async for piece in body:
            found.update(piece)
    finally:
        await body.aclose()
    return None if found.hexdigest() == stored.sha256 else "its file is damaged"


def _told(stored: Stored) -> dict[str, Any]:
    told = {key: value for key, value in asdict(stored).items() if key not in ("path", "url")}
    expires = None if stored.expires is None else iso(stored.expires)
    return {**told, "created": iso(stored.created), "expires": expires}


def _cells(stored: Stored) -> Sequence[object]:
    pixels = "-" if stored.width is None else f"{stored.width}x{stored.height}"
    expires = "never" if stored.expires is None else iso(stored.expires)
    return stored.name, stored.type, stored.size, pixels, stored.owner or "-", iso(stored.created), expires


def _typed(name: str) -> str:
    """The name in what was typed, which may be the whole URL."""
    return name.partition("?")[0].rpartition("/")[2]


def _no_such(name: str) -> Refused:
    return Refused(f"there is no picture '{_typed(name)}', or none any more; framegate images list shows them")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


COMMANDS: dict[str, Callable[[Config, Namespace], None]] = {
    "images list": _images_list,
    "images show": _images_show,
    "images delete": _images_delete,
    "images gc": _images_gc,
    "images verify": _images_verify,
}
