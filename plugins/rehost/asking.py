"""What a request asks of us, and not of upstream: URLs. And old parameters, in today's words."""

from __future__ import annotations

from proxy.api import Caller, Operation, Request, with_field, without_field

DRAWING = frozenset(("generate", "edit", "variation"))
ASKING = DRAWING | {"chat", "response"}  # elsewhere response_format speaks of other things
QUALITY = {"standard": "medium", "hd": "high"}
ALONE = ("dall-e-3",)  # models that made one picture at a time
GONE = "(left out)"
BACKSLASH = b"\\"[0]


def told(caller: Caller | None) -> str | None:
    """Whose the pictures are."""
    return caller.id if caller is not None else None


def may_speak_of_pictures(request: Request) -> bool:
    """Whether the request may ask for URLs or bring one of ours; a glance, so that others need not be parsed."""
    data = request.body.now()
    if data is None:
        return request.body.length != 0
    # Not `b"..." in data`: Python takes bytes for a number first, and makes an error that nobody sees, 0.3 us each.
    if data.find(b'"url"') >= 0 or data.find(b"/files/") >= 0:
        return True
    if BACKSLASH in data and (data.find(b"/files\\/") >= 0 or data.find(b"\\u") >= 0):
        return True
    return data[:1] != b"{" and data.find(b"response_format") >= 0  # in a form, a value has no quotes


async def wanted(request: Request, asked: Operation, *, compat: bool) -> tuple[Request, bool, list[str]]:
    """The request as upstream is to hear it, whether URLs are wanted, and what has changed, in words."""
    changes: list[str] = []
    if asked.kind not in ASKING:
        return request, False, changes
    urls = asked.response_format == "url"
    if urls:
        request = await without_field(request, "response_format")
        changes.append(f"response_format: url -> {GONE}")
    for tool in asked.tools:
        if tool.response_format == "url":
            request = await without_field(request, f"{tool.path}.response_format")
            changes.append(f"{tool.path}.response_format: url -> {GONE}")
            urls = True
    if compat and asked.kind in DRAWING:
        urls = asked.response_format != "b64_json"
        request = await _renewed(request, asked, changes)
    return request, urls, changes


async def _renewed(request: Request, asked: Operation, changes: list[str]) -> Request:
    """The request without what only DALL-E knew."""
    if asked.response_format is not None and asked.response_format != "url":
        request = await without_field(request, "response_format")
        changes.append(f"response_format: {asked.response_format[:32]} -> {GONE}")
    if asked.quality in QUALITY:
        request = await with_field(request, "quality", QUALITY[asked.quality])
        changes.append(f"quality: {asked.quality} -> {QUALITY[asked.quality]}")
    if asked.n > 1 and (asked.model in ALONE or asked.output_format == "svg"):
        request = await with_field(request, "n", 1)
        changes.append(f"n: {asked.n} -> 1")
    before = request.body
    request = await without_field(request, "style")
    if request.body is not before and request.body is not before.kept:
        changes.append(f"style: {GONE}")
    return request
