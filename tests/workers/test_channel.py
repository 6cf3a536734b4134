from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from proxy.core.config import load
from proxy.workers.channel import frame, frames, pack, unpack

ROOT = Path(__file__).parents[2]
KEY = "sk-hunter2-the-real-key-of-the-upstream"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_messages_come_whole_however_they_are_cut(size: int) -> None:
    sent = frame("prepare", b"1\n" + bytes(300)) + frame("commit", b"1") + frame("drain")
    buffer, heard = bytearray(), []
    for start in range(0, len(sent), size):
        buffer += sent[start : start + size]
        heard += list(frames(buffer))
    assert heard == [("prepare", b"1\n" + bytes(300)), ("commit", b"1"), ("drain", b"")]
    assert not buffer


def test_a_config_is_handed_over_whole_with_its_secrets_and_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(ROOT / "deploy" / "config" / "reference.toml", {"OPENAI_API_KEY": KEY})
    packed = pack(config)
    assert unpack(packed) == config
    assert unpack(packed).upstreams["openai"].api_key[0].reveal() == KEY
    with pytest.raises(TypeError, match="not pickled"):  # anywhere else
        pickle.dumps(config)


def test_plugins_beside_the_config_are_found_by_who_takes_it_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "handed_over.py").write_text(
        "from proxy.api import Plugin\n"
        "class Mine(Plugin):\n"
        '    word: str = "a"\n'
        "    async def __call__(self, exchange, request, forward):\n"
        "        return await forward(request)\n"
    )
    path = tmp_path / "framegate.toml"
    upstream = '[upstreams.a]\nbase_url = "https://a.example/v1"\n'
    path.write_text(
        f'{upstream}[plugins.mine]\nuse = "handed_over:Mine"\nword = "b"\n'
        '[[routes]]\nmatch = "* /v1/*"\nchain = ["mine"]\n'
    )
    packed = pack(load(path, {}))
    sys.path.remove(str(tmp_path))
    del sys.modules["handed_over"]
    found = unpack(packed).plugins["mine"]
    assert (found.plugin.__module__, found.settings) == ("handed_over", {"word": "b"})
    del sys.modules["handed_over"]
