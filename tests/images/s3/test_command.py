"""`framegate images` on a bucket; and who loads a client for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.__main__ import main
from proxy.core.config import load
from proxy.images.base import Images
from proxy.images.s3 import S3
from proxy.model.bucket import Bucket
from proxy.model.images import Stored
from proxy.state import kept

from ..pictures import png
from ..shelf import ROOT, keep, on_images
from .store import NAME, Moto

FILE = """
[images]
url = "{url}"
access_key = "env:S3_KEY"
secret_key = "secret:bucket"
[upstreams.openai]
base_url = "https://api.openai.com/v1"
api_key = "env:NOT_SET_HERE"
"""
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(
    tmp_path: Path, moto: Moto, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run `framegate ... --config`, with the secrets of the bucket and no other; its status and what it said."""
    config = tmp_path / "framegate.toml"
    config.write_text(FILE.format(url=moto.url(f"t/{tmp_path.name}")))
    monkeypatch.setenv("S3_KEY", moto.access_key)
    monkeypatch.delenv("FRAMEGATE_MASTER_KEY", raising=False)

    def run(*words: str) -> tuple[int, str, str]:
        status = main([*words, "--config", str(config)])
        return status, *capsys.readouterr()

    with pytest.MonkeyPatch.context() as typed:
        typed.setattr("getpass.getpass", lambda *_: moto.secret_key)
        typed.setattr("sys.stdin.isatty", lambda: True)
        assert run("secrets", "set", "bucket")[0] == 0
    return run


def test_all_that_can_be_done_in_a_folder_can_be_done_in_a_bucket(say: Say, tmp_path: Path, moto: Moto) -> None:
    async def work(images: Images) -> list[Stored]:
        return [await keep(images, png(seed=n)) for n in range(4)]

    environ = {**os.environ, "NOT_SET_HERE": "x"}
    config = load(tmp_path / "framegate.toml", environ, kept=kept(os.environ))
    one, cut, gone, last = on_images(config, work)
    assert len(say("images", "list")[1].splitlines()) == 5
    told = json.loads(say("images", "show", one.name, "--json")[1])
    assert told["file"] == f"s3://{NAME}/t/{tmp_path.name}/blobs/{one.sha256[:2]}/{one.sha256}"
    assert say("images", "verify") == (0, "4 pictures whole\n", "")

    async def harm(images: Images) -> None:
        assert isinstance(images.blobs, S3)
        async with images.blobs._client.asking(None) as client:
            for stored, data in ((cut, png(99)), (last, png(seed=9))):
                await client.put_object(Bucket=NAME, Key=images.blobs._key(stored.sha256), Body=data)
            await client.delete_object(Bucket=NAME, Key=images.blobs._key(gone.sha256))

    on_images(config, harm)
    status, out, err = say("images", "verify")
    assert status == 1 and "3 pictures can't be served" in err
    assert set(out.splitlines()) == {
        f"{cut.name}  its file is damaged",
        f"{last.name}  its file is damaged",
        f"{gone.name}  its file is missing",
        "1 picture whole",
    }
    assert say("images", "delete", cut.name, gone.name, last.name)[0] == 0
    done = json.loads(say("images", "gc", "--json")[1])
    assert (done["removed"], done["kept"], done["kept_bytes"]) == (0, 1, 100)
    assert say("images", "verify")[0] == 0


def test_says_which_secret_is_missing(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("S3_KEY")
    status, out, err = say("images", "verify")
    assert (status, out) == (1, "") and "images.access_key: 'S3_KEY' is not here" in err


def test_says_what_s3_says(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_KEY", "AKIANOBODY")
    status, out, err = say("images", "gc")
    assert (status, out) == (1, "")
    assert err == "The store of pictures can't be used: S3 refuses (InvalidAccessKeyId: there is no such access key).\n"


def test_a_client_is_loaded_by_who_needs_it(tmp_path: Path) -> None:
    for name, images in (("near", ""), ("far", 'url = "s3://bucket?region=eu-central-1"')):
        text = f'[images]\n{images}\n[upstreams.a]\nbase_url = "http://a.invalid/v1"\n'
        (tmp_path / f"{name}.toml").write_text(text)
    code = """
import asyncio, os, sys
from pathlib import Path
from proxy.app import *
from proxy.core.clock import SystemClock
from proxy.core.config import load
from proxy.state import State

async def main():
    for name in ("near", "far"):
        config = load(Path(sys.argv[1]) / f"{name}.toml", os.environ)
        assert not {"aiobotocore", "botocore"} & set(sys.modules)
        state = State(config, os.environ, SystemClock())
        state.images(config)
        await state.aclose()
        print(name, sorted({"aiobotocore", "boto3"} & set(sys.modules)))

asyncio.run(main())
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "near []\nfar ['aiobotocore']\n", done.stderr


def test_what_the_page_says_can_be_read(tmp_path: Path) -> None:
    section = (ROOT / "docs/images.md").read_text().partition("\n## In S3\n")[2].partition("\n## ")[0]
    [table] = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    (tmp_path / "framegate.toml").write_text(
        table.replace("BUCKET", "bucket") + '[upstreams.a]\nbase_url = "http://a"\n'
    )
    images = load(tmp_path / "framegate.toml", {"S3_KEY": "a", "S3_SECRET": "b"}).images
    assert images is not None and images.account is not None and images.account.secret_key is not None
    urls = re.findall(r"^\| (\w+) \| `(s3://.*)` \|$", section, re.MULTILINE)
    for name, url in urls:
        bucket = Bucket.parse(url.replace("BUCKET-APPID", "bucket-1250000000").replace("BUCKET", "bucket"))
        assert (bucket.style, bucket.prefix) == ("virtual" if name in ("AWS", "OSS", "COS") else "path", "PREFIX/")
    assert len(urls) == 5
