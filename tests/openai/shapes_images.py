"""Answers of the images endpoints, whole and in streams, and what they answer instead."""

from __future__ import annotations

import json

from .shape import ERROR, LINK, SAID, SVG, USAGE, Drawn, Seen, Shape, stream, told


def images(size: int) -> dict[str, Shape]:
    one, two = Drawn(1, size), Drawn(2, size)
    svg = Drawn(3, size, b'<svg xmlns="http://www.w3.org/2000/svg">')
    here = one.begun('"b64_json":"')
    facts = {"usage": USAGE, **SAID}
    answer = {"created": 1, "background": "opaque", "data": [{"b64_json": one.text}], **SAID, "usage": USAGE}
    both = {**answer, "data": [{"b64_json": one.text, "revised_prompt": "a"}, {"b64_json": two.text}]}
    drawing = {"created": 1, "data": [{"b64_json": svg.text}], "output_format": "svg", "usage": USAGE, "svg_usage": SVG}
    slashes = told(answer).replace(b"/", b"\\/")
    lines = told(answer).replace(one.text[:30].encode(), one.text[:30].encode() + b"\\n")
    return {
        "one image": Shape("json", told(answer), "image", here, [one.seen()], facts),
        "two images": Shape("json", told(both), "image", here, [one.seen(), two.seen(index=1)], facts),
        "spread over lines": Shape(
            "json", json.dumps(answer, indent=2).encode(), "image", one.begun('"b64_json": "'), [one.seen()], facts
        ),
        "with a byte order mark": Shape("json", b"\xef\xbb\xbf" + told(answer), "image", here, [one.seen()], facts),
        "after blanks that keep it alive": Shape(
            "json", b" \n" * 20 + told(answer), "image", here, [one.seen()], facts
        ),
        "with escaped slashes": Shape("json", slashes, "image", here, [one.seen()], facts),
        "with broken lines": Shape("json", lines, "image", here, [one.seen()], facts),
        "an svg": Shape(
            "json",
            told(drawing),
            "image",
            svg.begun('"b64_json":"'),
            [svg.seen(sniffed="svg")],
            {"usage": USAGE, "svg_usage": SVG, "output_format": "svg"},
        ),
        "a url": Shape(
            "json",
            told({"created": 1, "data": [{"url": LINK}]}),
            "image",
            f'"{LINK}"'.encode(),
            [Seen(LINK, form="url", sniffed=None)],
        ),
        "a data url": Shape(
            "json",
            told({"data": [{"url": f"data:image/png;base64,{one.text}"}]}),
            "image",
            one.begun("base64,"),
            [one.seen()],
        ),
        "no images": Shape("json", told({"created": 1, "data": []}), "none"),
        "no data": Shape("json", told({"created": 1}), "none"),
        "null for an image": Shape(
            "json", told({"data": [{"b64_json": None}], "usage": USAGE}), "none", None, [], {"usage": USAGE}
        ),
        "an empty image": Shape("json", told({"data": [{"b64_json": ""}]}), "none"),
        "words about images": Shape(
            "json", told({"data": [{"revised_prompt": '"b64_json":"iVBORw0KGgoAAAAA"'}], "b64_json": one.text}), "none"
        ),
    }


def image_streams(size: int) -> dict[str, Shape]:
    early, late, one = Drawn(7, size), Drawn(8, size), Drawn(1, size)
    found: dict[str, Shape] = {}
    for which in ("image_generation", "image_edit"):
        partial = {"type": f"{which}.partial_image", "b64_json": early.text, "partial_image_index": 0, **SAID}
        second = {**partial, "b64_json": late.text, "partial_image_index": 1}
        completed = {"type": f"{which}.completed", "b64_json": one.text, "created_at": 1, **SAID, "usage": USAGE}
        found[f"{which} stream"] = Shape(
            "sse",
            stream(partial, second, completed),
            "image",
            one.begun(f'{which}.completed","b64_json":"'),
            [
                early.seen(kind="partial", index=None, partial=0),
                late.seen(kind="partial", index=None, partial=1),
                one.seen(index=None),
            ],
            {"usage": USAGE, **SAID},
        )
        only = [early.seen(kind="partial", index=None, partial=0)]
        found[f"{which} stream without an end"] = Shape("sse", stream(partial), "none", None, only, SAID)
    here = one.begun('"b64_json":"')
    images, facts = [one.seen(index=None)], {"usage": USAGE, **SAID}
    plain = stream(completed)
    found["stream with [DONE]"] = Shape("sse", stream(completed, done=True), "image", here, images, facts)
    found["stream without names"] = Shape("sse", stream(completed, named=False), "image", here, images, facts)
    found["stream with CRLF"] = Shape("sse", plain.replace(b"\n", b"\r\n"), "image", here, images, facts)
    found["stream with CR"] = Shape("sse", plain.replace(b"\n", b"\r"), "image", here, images, facts)
    found["stream with a byte order mark"] = Shape("sse", b"\xef\xbb\xbf" + plain, "image", here, images, facts)
    found["stream with keep-alives"] = Shape(
        "sse", b": keep-alive\n\n" * 5 + plain + b":\n\n", "image", here, images, facts
    )
    found["stream without a last empty line"] = Shape("sse", plain.rstrip(b"\n"), "image", here, images, facts)
    spread = json.dumps(completed, indent=1).encode()
    found["stream over many lines"] = Shape(
        "sse",
        b"".join(b"data: %b\n" % line for line in spread.split(b"\n")) + b"\n",
        "image",
        one.begun('"b64_json": "'),
        images,
        facts,
    )
    untyped = told({key: value for key, value in completed.items() if key != "type"})
    found["stream whose type is the event's name"] = Shape(
        "sse",
        b"event: image_edit.completed\ndata: " + untyped + b"\n\n",
        "image",
        untyped[-10:] + b"\n\n",
        images,
        facts,
    )
    found["stream that only keeps alive"] = Shape("sse", b": ping\n\n: ping\n\n", "unknown", complete=False)
    found["stream that is done at once"] = Shape("sse", b"data: [DONE]\n\n", "none", b"[DONE]\n\n")
    return found


def failures(size: int) -> dict[str, Shape]:
    one = Drawn(1, size)
    error = told({"error": ERROR})
    answer = told({"created": 1, "data": [{"b64_json": one.text}]})
    spoken = {"type": "error", "code": "moderation_blocked", "message": "Blocked.", "param": None}
    said = {"code": "moderation_blocked", "message": "Blocked."}
    end = told(ERROR)
    return {
        "an error": Shape("json", error, "error", end, [], {"error": ERROR}),
        "an error in a word": Shape(
            "json", told({"error": "invalid_grant"}), "error", b'"invalid_grant"', [], {"error": "invalid_grant"}
        ),
        "no error": Shape(
            "json",
            told({"error": None, "data": [{"b64_json": one.text}]}),
            "image",
            one.begun('"b64_json":"'),
            [one.seen()],
        ),
        "an event that is an error": Shape("sse", stream(spoken), "error", b'"type":"error"', [], {"error": said}),
        "an event with an error": Shape("sse", b"data: " + error + b"\n\n", "error", end, [], {"error": ERROR}),
        "an event named error": Shape(
            "sse", b'event: error\ndata: {"message":"x"}\n\n', "error", b'"x"}\n\n', [], {"error": {"message": "x"}}
        ),
        "an error after partial images": Shape(
            "sse",
            stream({"type": "image_generation.partial_image", "b64_json": one.text, "partial_image_index": 0}, spoken),
            "error",
            b'"type":"error"',
            [one.seen(kind="partial", index=None, partial=0)],
            {"error": said},
        ),
        "an error after the image": Shape(
            "sse",
            stream({"type": "image_generation.completed", "b64_json": one.text}, spoken),
            "image",
            one.begun('"b64_json":"'),
            [one.seen(index=None)],
            {"error": said},
        ),
        "an answer cut off before its image": Shape("json", answer[:25], "unknown", complete=False),
        "a page": Shape("json", b"<html>502</html>", "unknown", b"<", complete=False),
        "nothing": Shape("json", b"", "unknown", complete=False),
        "an event that is not JSON": Shape("sse", b"data: oops\n\n", "unknown", complete=False),
    }
