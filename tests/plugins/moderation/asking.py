"""Requests as they are written by who would like to get past."""

from __future__ import annotations

from typing import Any

FORM = "multipart/form-data; boundary=B"


def uploaded(*parts: tuple[str, bytes]) -> bytes:
    """A form: the rest of each part's first header, and its value."""
    told = [b"--B\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + data for head, data in parts]
    return b"\r\n".join([*told, b"--B--\r\n"])


def file(name: str, data: bytes, type: str = "image/png", filename: str = "a.png") -> tuple[str, bytes]:
    """An upload's part."""
    return f'name="{name}"; filename="{filename}"\r\nContent-Type: {type}', data


def field(name: str, text: str) -> tuple[str, bytes]:
    """A text's part."""
    return f'name="{name}"', text.encode()


def user(*parts: Any) -> dict[str, Any]:
    """A chat of one message."""
    return {"model": "m", "messages": [{"role": "user", "content": list(parts)}]}


def tool(**function: Any) -> dict[str, Any]:
    """A chat that brings a tool."""
    return {**user(), "tools": [{"type": "function", "function": {"name": "f", **function}}]}
