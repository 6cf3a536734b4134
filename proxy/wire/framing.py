"""Framing that can't be believed, though the parser let it pass: where one body ends and the next begins is told twice.

What two servers read differently is how requests and answers are smuggled (RFC 9112 §11.2).
"""

from __future__ import annotations

from typing import Any

LONGEST = 18  # digits of a length: from 2**63 on it is another number to some, and to aiohttp 2**64 - 1 is none at all
VERSIONS = ((1, 1), (1, 0))


def of_request(message: Any) -> str | None:
    """Why a request can't be believed that the parser let pass; None when it can."""
    if message.version not in VERSIONS:
        return "it is neither HTTP/1.1 nor HTTP/1.0"
    headers = message.headers
    if "Transfer-Encoding" in headers and (
        message.version != (1, 1) or [name.lower() for name in headers.getall("Transfer-Encoding")] != ["chunked"]
    ):
        # RFC 9112 §6.1: another server reads another body.
        return "its transfer coding is not chunked alone, in HTTP/1.1"
    if len(headers.get("Content-Length", "")) > LONGEST:
        return "its length is not one that a body can have"
    return None


def of_answer(message: Any) -> str | None:
    """Why an answer's framing can't be believed; None when it can. Both lengths at once is how answers are smuggled."""
    if message.code == 101:
        return "an upgrade that nobody asked for"
    headers = message.headers
    encoding = headers.get("Transfer-Encoding")
    if encoding is not None:
        if "Content-Length" in headers:
            return "an answer with two lengths"
        # llhttp takes `chunked` with a tab behind it for another coding, and would hand out the chunks' frames as body.
        strange = encoding.strip().lower() != "chunked" or not message.chunked
        if strange or len(headers.getall("Transfer-Encoding")) > 1:
            return "an answer in a transfer coding that nobody asked for"
    elif len(lengths := headers.getall("Content-Length", ())) > 1:
        return "an answer with two lengths"
    elif lengths and len(lengths[0]) > LONGEST:
        return "an answer of a length that no body can have"
    return None
