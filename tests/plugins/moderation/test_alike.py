"""Words that look alike are read alike by rules of the operator's own, in the whole house."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from .asking import user
from .house import CHAT, GENERATE, Moderating, blocked, moderating

pytestmark = pytest.mark.asyncio(loop_scope="module")
RULES = """
[[rule]]
category = "competitors"
words = ["falcon corp"]
"""
ALIKE = {
    "in capitals": "FALCON CORP",
    "in Cyrillic": "f\u0430l\u0441\u043en \u0441\u043er\u0440",
    "in Greek": "f\u03b1lc\u03bfn c\u03bfrp",
    "at full width": "\uff46\uff41\uff4c\uff43\uff4f\uff4e corp",
    "in mathematics": "\U0001d41f\U0001d41a\U0001d425\U0001d41c\U0001d428\U0001d427 corp",
    "with nothing between": "fal\u200bcon c\u200dorp",
    "with soft hyphens": "fal\u00adcon corp",
    "with marks": "fa\u0301lco\u0308n corp",
    "with other blanks": "falcon\u00a0\u2003corp",
    "spaced out": "f a l c o n  c o r p",
    "with dots": "f.a.l.c.o.n c.o.r.p",
    "over lines": "falcon\ncorp",
    "turned about": "\u202dfalcon\u202c corp",
    "in a word's middle": "the (falcon corp)s",
}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.toml"
    path.write_text(RULES)
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(rules: Path) -> AsyncIterator[Moderating]:
    async with moderating(f'rules = "{rules}"') as house:
        yield house


@pytest.mark.parametrize("name", ALIKE)
async def test_letters_that_look_alike_are_read_alike(local: Moderating, name: str) -> None:
    before = len(local.upstream.records)
    for body in ({"prompt": f"draw {ALIKE[name]}, please"}, user({"type": "text", "text": ALIKE[name]})):
        answer = await local.ask(GENERATE if "prompt" in body else CHAT, body)
        assert blocked(answer, "competitors")
        assert b"falcon" not in answer.body.lower() + b"".join(value for _, value in answer.headers).lower()
    assert await local.left(before) == []
    assert local.judge.records == type(local.judge.records)()  # and nobody else was asked


async def test_what_is_only_near_it_goes_on(local: Moderating) -> None:
    before = len(local.upstream.records)
    for text in ("a falcon", "corp of falcons", "falconcorporal", "a false con corp"):
        assert (await local.ask(GENERATE, {"prompt": text})).status == 200
    assert len(await local.left(before)) == 4
