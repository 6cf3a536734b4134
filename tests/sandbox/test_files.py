"""Uploads to the sandbox."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from proxy.sandbox import stored

from .asking import ask
from .running import running


def test_a_file_is_kept_told_of_given_back_and_forgotten() -> None:
    async def story(client: AsyncOpenAI) -> None:
        made = await client.files.create(file=("a.jsonl", b'{"a": 1}\n'), purpose="batch")
        assert (made.filename, made.bytes, made.purpose, made.status) == ("a.jsonl", 9, "batch", "processed")
        assert made.expires_at is None
        assert await client.files.retrieve(made.id) == made
        assert (await client.files.content(made.id)).content == b'{"a": 1}\n'
        gone = await client.files.delete(made.id)
        assert (gone.id, gone.deleted) == (made.id, True)
        for call in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError) as caught:
                await call(made.id)
            assert caught.value.param == "id"

    ask(story)


def test_lists_newest_first_a_page_at_a_time_and_by_purpose() -> None:
    async def story(client: AsyncOpenAI) -> None:
        assert [file async for file in client.files.list()] == []
        made = [
            (await client.files.create(file=b"x", purpose="vision" if number % 2 else "batch")).id
            for number in range(5)
        ]
        page = await client.files.list(limit=2)
        assert ([file.id for file in page.data], page.has_more) == ([made[4], made[3]], True)
        assert [file.id async for file in client.files.list(limit=2)] == made[::-1]
        assert [file.id async for file in client.files.list(limit=2, order="asc")] == made
        assert [file.id async for file in client.files.list(purpose="vision")] == [made[3], made[1]]
        with pytest.raises(openai.BadRequestError) as caught:
            await client.files.list(limit=0)
        assert caught.value.param == "limit"

    ask(story)


def test_some_purposes_are_not_for_callers_eyes() -> None:
    async def story(client: AsyncOpenAI) -> str:
        made = await client.files.create(file=b"x", purpose="user_data")
        with pytest.raises(openai.BadRequestError) as caught:
            await client.files.content(made.id)
        return caught.value.message

    assert "Not allowed to download files of purpose: user_data" in ask(story)


def test_a_file_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(client: AsyncOpenAI) -> None:
        expiry: Any = {"anchor": "created_at", "seconds": 3600}
        made = await client.files.create(file=b"x", purpose="vision", expires_after=expiry)
        assert made.expires_at == made.created_at + 3600
        await client.files.retrieve(made.id)
        now = time.time
        monkeypatch.setattr(stored.time, "time", lambda: now() + 3601)
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(made.id)
        assert [file async for file in client.files.list()] == []

    ask(story)


def test_keeps_no_more_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_MOST_IN_FILES", 100_000)

    async def story(client: AsyncOpenAI) -> None:
        first = await client.files.create(file=b"x" * 60_000, purpose="vision")
        with pytest.raises(openai.APIStatusError) as caught:
            await client.files.create(file=b"x" * 60_000, purpose="vision")
        assert caught.value.status_code == 413
        assert "delete files first" in caught.value.message
        await client.files.delete(first.id)
        await client.files.create(file=b"x" * 60_000, purpose="vision")

    ask(story)


FORMS: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({"purpose": "batch"}, "file", "missing_required_parameter"),
    ({"file": b"x"}, "purpose", "missing_required_parameter"),
    ({"file": b"x", "purpose": "art"}, "purpose", "invalid_value"),
    ({"file": b"x", "purpose": "batch", "colour": "red"}, "colour", "unknown_parameter"),
    (
        {"file": b"x", "purpose": "batch", "expires_after[anchor]": "now", "expires_after[seconds]": "3600"},
        "expires_after[anchor]",
        "invalid_value",
    ),
    (
        {"file": b"x", "purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "60"},
        "expires_after[seconds]",
        "integer_below_min_value",
    ),
    (
        {"file": b"x", "purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "1h"},
        "expires_after[seconds]",
        "invalid_type",
    ),
    (
        {"file": b"x", "purpose": "batch", "expires_after[seconds]": "3600"},
        "expires_after[anchor]",
        "missing_required_parameter",
    ),
]


def test_refuses_a_form_that_is_wrong() -> None:
    async def main() -> list[tuple[int, Any, Any]]:
        found = []
        async with running() as base_url, aiohttp.ClientSession() as session:
            for form, _, _ in FORMS:
                data = aiohttp.FormData(default_to_multipart=True)
                for name, value in form.items():
                    data.add_field(name, value, filename="a.txt" if name == "file" else None)
                async with session.post(f"{base_url}/files", data=data) as response:
                    error = (await response.json())["error"]
                    found.append((response.status, error["param"], error["code"]))
        return found

    assert asyncio.run(main()) == [(400, param, code) for _, param, code in FORMS]


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "multipart/form-data; boundary=b"])
def test_refuses_what_is_no_form(content_type: str) -> None:
    async def main() -> tuple[int, Any]:
        async with running() as base_url, aiohttp.ClientSession() as session:
            headers = {"Content-Type": content_type}
            async with session.post(f"{base_url}/files", data=b"--x\r\n\r\n{}", headers=headers) as response:
                return response.status, await response.json()

    status, answer = asyncio.run(main())
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
