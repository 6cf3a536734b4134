"""What the supervisor and its workers say to each other, over a socket of which nobody else holds an end.

The supervisor says `serve`, `prepare`, `commit`, `discard`, `drain`, `hurry`; a worker says `ready`, `failed`,
`prepared`, `refused`, `committed`. What is said of a reload carries its number, for an answer may come when the next
is under way.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..model.values import Secret

if TYPE_CHECKING:
    from ..core.config import Config

HEAD = struct.Struct("!BI")  # the length of the word, and of what follows it


def frame(word: str, payload: bytes = b"") -> bytes:
    """A message as it is sent."""
    return HEAD.pack(len(word), len(payload)) + word.encode() + payload


def frames(buffer: bytearray) -> Iterator[tuple[str, bytes]]:
    """Take the messages off the buffer that are there whole."""
    while len(buffer) >= HEAD.size:
        word, payload = HEAD.unpack_from(buffer)
        end = HEAD.size + word + payload
        if len(buffer) < end:
            return
        message = bytes(buffer[HEAD.size : end])
        del buffer[:end]
        yield message[:word].decode(), message[word:]


class _Packer(pickle.Pickler):
    """Packs secrets too, which otherwise are never pickled: these bytes go into a worker's memory and nowhere else."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Secret):
            return type(value), (value.reveal(),)
        return NotImplemented


def pack(config: Config) -> bytes:
    """A config as it is handed over: as it was read, so that no worker can read another."""
    packed = io.BytesIO()
    _Packer(packed).dump(config)
    return pickle.dumps((sys.path, packed.getvalue()))


def unpack(packed: bytes) -> Config:
    """The config that was handed over. Plugins that it names are imported from where the supervisor found them."""
    path, rest = pickle.loads(packed)
    sys.path += [folder for folder in path if folder not in sys.path]
    config: Config = pickle.loads(rest)
    return config
