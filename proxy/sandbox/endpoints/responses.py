"""/v1/responses: words, pictures and tool calls as items, remembered for the next turn."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from typing import Any

import orjson
from aiohttp import web

from .. import field, usage
from ..answer import Answer, Events, Route, Said, told
from ..refusal import Refusal
from ..stored import STORED, Stored, Turn
from ..talk import imaging, plan, speech, unfolding
from ..talk.plan import Plan
from ..talk.tools import Call
from ..talk.verdict import rider
from . import files

# An image URL is told again only to who asks for it.
_HIDDEN_URL = "message.input_image.image_url"
_USUAL_PAGE, _LONGEST_PAGE = 20, 100


async def create(request: web.Request) -> Said:
    """Answers at once or as a stream."""
    body = await field.read(request)
    stored = request.app[STORED]
    wanted = plan.read(body, stored)
    if wanted.job is not None:
        # Before the first event, while a picture that is rotten inside can still be refused.
        wanted.forbidden = await asyncio.to_thread(imaging.forbidden, wanted.job)
    if body.get("stream") is True:
        return Events(_unfolded(wanted, stored, unfolding.Sequence()), billed=True)
    # An answer in one piece is what is there at the end of a stream that nobody listened to.
    async for _ in _unfolded(wanted, stored, unfolding.Sequence(silent=True)):
        pass
    return told(wanted.response, billed=True)


async def _unfolded(wanted: Plan, stored: Stored, sequence: unfolding.Sequence) -> AsyncIterator[bytes]:
    """Fills the answer item by item, and tells of each step."""
    response = wanted.response
    output = response["output"]
    yield sequence.frame("response.created", response=response)
    yield sequence.frame("response.in_progress", response=response)
    said = None
    if wanted.job is not None:
        name = f"ig_{uuid.uuid4().hex}"
        for frame in unfolding.drawing(sequence, wanted.job.item(name, "in_progress"), 0):
            yield frame
        item, states = await asyncio.to_thread(_draw, wanted.job, wanted.forbidden, name, response["id"])
        if item["status"] == "completed":
            response["tool_usage"]["image_gen"] = wanted.job.usage()
            said = "Here is the picture."
        else:
            said = "The picture can't be drawn: the safety system does not allow it."
        output.append(item)
        for frame in unfolding.drawn(sequence, item, 0, states):
            yield frame
    if wanted.call is not None:
        output.append(_called(wanted.call))
        frames: Iterable[bytes] = unfolding.call(sequence, output[-1], len(output) - 1)
    else:
        output.append(_message(wanted, wanted.text or said))
        frames = unfolding.message(sequence, output[-1], len(output) - 1)
    for frame in frames:
        yield frame
    _finish(wanted, stored)
    yield sequence.frame(f"response.{response['status']}", response=response)


def _draw(
    job: imaging.Job, categories: tuple[str, ...], name: str, request_id: str
) -> tuple[dict[str, Any], list[str]]:
    if categories:
        return imaging.blocked(job, name, request_id, categories), []
    result, states = imaging.drawn(job)
    return job.item(name, "completed", result), states


def _message(wanted: Plan, text: str | None) -> dict[str, Any]:
    if text is None:
        text = speech.echo(wanted.conversation.last, tool=wanted.conversation.tool)
    text, short = speech.cut(text, wanted.response["max_output_tokens"])
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "status": "incomplete" if short else "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}],
    }


def _called(call: Call) -> dict[str, Any]:
    identity = uuid.uuid4().hex
    said = {"call_id": f"call_{identity[:24]}", "name": call.name}
    if call.custom:
        return {"id": f"ctc_{identity}", "type": "custom_tool_call", **said, "input": call.arguments}
    return {
        "id": f"fc_{identity}",
        "type": "function_call",
        "status": "completed",
        **said,
        "arguments": call.arguments,
    }


def _finish(wanted: Plan, stored: Stored) -> None:
    response, last = wanted.response, wanted.response["output"][-1]
    words = last["content"][0]["text"] if last["type"] == "message" else last.get("arguments") or last.get("input")
    spent, answered = wanted.conversation.tokens, usage.text_tokens(words)
    short = last.get("status") == "incomplete"
    response["status"] = "incomplete" if short else "completed"
    response["incomplete_details"] = {"reason": "max_output_tokens"} if short else None
    response["completed_at"] = None if short else int(time.time())
    response["usage"] = {
        "input_tokens": spent,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": answered,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent + answered,
    }
    if wanted.judge is not None:
        heard = ["\n".join(wanted.conversation.texts)]
        response["moderation"] = {"input": rider(wanted.judge, heard), "output": rider(wanted.judge, [words])}
    if wanted.store:
        weight = len(orjson.dumps(response)) + len(orjson.dumps(wanted.items))
        stored.keep(Turn(response, wanted.items, weight, spent + answered))


async def one(request: web.Request) -> Answer:
    """An answer that was given before."""
    response = _turn(request).response
    if request.query.get("stream") == "true":
        raise Refusal("This response can't be streamed: it was not created with background=true.", param="stream")
    return told(response)


async def items(request: web.Request) -> Answer:
    """What stood before an answer in its conversation, a page at a time."""
    found = request.app[STORED].before(_turn(request))
    if _HIDDEN_URL not in request.query.getall("include[]", []):
        found = [_without_urls(item) for item in found]
    return told(files.page(request, found, _USUAL_PAGE, _LONGEST_PAGE))


def _without_urls(item: dict[str, Any]) -> dict[str, Any]:
    if item["type"] != "message":
        return item
    parts = [{**part, "image_url": None} if part["type"] == "input_image" else part for part in item["content"]]
    return {**item, "content": parts}


async def delete(request: web.Request) -> Answer:
    """Forgets an answer."""
    name = _turn(request).response["id"]
    request.app[STORED].forget(name)
    return told({"id": name, "object": "response", "deleted": True})


async def cancel(request: web.Request) -> Answer:
    """Refuses: there is nothing that still runs."""
    _turn(request)
    raise Refusal("Cannot cancel a synchronous response.")


def _turn(request: web.Request) -> Turn:
    name = request.match_info["response"]
    found = request.app[STORED].responses.get(name)
    if found is None:
        raise Refusal(f"Response with id '{name}' not found.", status=404)
    return found


ROUTES: tuple[Route, ...] = (
    ("POST", "/v1/responses", create),
    ("GET", "/v1/responses/{response}", one),
    ("DELETE", "/v1/responses/{response}", delete),
    ("GET", "/v1/responses/{response}/input_items", items),
    ("POST", "/v1/responses/{response}/cancel", cancel),
)
