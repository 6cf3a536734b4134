from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from proxy.core.config import load
from proxy.images.base import Images
from proxy.model.images import Stored

from ..images.pictures import SVG, png
from ..images.shelf import keep, on_images
from .conftest import FILE
from .desk import Say

TABLES = '[server]\npublic_url = "https://img.example.com"\n[images]\nttl = "1h"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "framegate.toml").write_text(TABLES + FILE)
    return tmp_path / "framegate.toml"


@pytest.fixture
def stored(config: Path) -> list[Stored]:
    """Three pictures, two of them the same."""

    async def work(images: Images) -> list[Stored]:
        first, second = [await keep(images, png(), owner=owner, request="r1") for owner in ("web", "lab")]
        return [first, second, await keep(images, SVG, ttl="forever")]

    return on_images(load(config, {"WEB_KEY": "x"}, kept=lambda _: lambda _: "x"), work)


def test_lists_pictures_for_people_and_for_programs(say: Say, stored: list[Stored]) -> None:
    status, table, _ = say("images", "list")
    rows = {row[0]: row for row in map(str.split, table.splitlines())}
    assert status == 0 and rows["name"] == ["name", "type", "size", "pixels", "owner", "created", "expires"]
    assert rows[stored[0].name][1:5] == ["png", "100", "64x48", "web"]
    assert rows[stored[2].name][4] == "-" and rows[stored[2].name][-1] == "never" and len(rows) == 4
    listed = json.loads(say("images", "list", "--json")[1])
    assert {one["name"] for one in listed} == {one.name for one in stored}
    assert [one["name"] for one in json.loads(say("images", "list", "--owner", "lab", "--json")[1])] == [stored[1].name]
    assert json.loads(say("images", "list", "--owner", "nobody", "--json")[1]) == []
    assert len(say("images", "list", "--owner", "lab")[1].splitlines()) == 2


def test_shows_all_that_is_known_of_one(say: Say, config: Path, stored: list[Stored]) -> None:
    told = json.loads(say("images", "show", stored[0].url + "?v=2", "--json")[1])
    assert told["url"] == stored[0].url == f"https://img.example.com/files/{stored[0].name}"
    assert (told["owner"], told["request"], told["sha256"]) == ("web", "r1", stored[0].sha256)
    assert Path(told["file"]).read_bytes() == png() and told["file"].startswith(str(config.parent / "state/images"))
    lines = say("images", "show", stored[2].name)[1].splitlines()
    assert f"name:     {stored[2].name}" in lines and "expires:  -" in lines
    status, out, err = say("images", "show", "a" * 26 + ".png")
    assert (status, out) == (1, "") and "there is no picture" in err


def test_deletes_names_and_the_file_with_the_last(say: Say, stored: list[Stored]) -> None:
    file = Path(json.loads(say("images", "show", stored[0].name, "--json")[1])["file"])
    status, out, err = say("images", "delete", stored[0].url, "nobody.png")
    assert status == 1 and out.startswith("1 picture deleted") and "no picture 'nobody.png'" in err
    assert file.exists()
    assert say("images", "delete", stored[1].name)[0] == 0
    assert not file.exists() and len(say("images", "list")[1].splitlines()) == 2


def test_clears_away_what_no_name_needs(say: Say, stored: list[Stored]) -> None:
    file = Path(json.loads(say("images", "show", stored[0].name, "--json")[1])["file"])
    for n in range(2):
        orphan = file.parent / (file.name[:2] + str(n) * 62)
        orphan.write_bytes(b"12345")
        os.utime(orphan, (1, 1))
    out = say("images", "gc")[1].splitlines()
    assert out == ["removed 2 files (10 bytes) that no name needs any more", f"kept 2 files ({100 + len(SVG)} bytes)"]
    done = json.loads(say("images", "gc", "--json")[1])
    assert (done["removed"], done["kept"], done["evicted"]) == (0, 2, 0)


def test_finds_what_is_missing_and_what_is_damaged(say: Say, stored: list[Stored]) -> None:
    assert say("images", "verify") == (0, "3 pictures whole\n", "")
    files = [Path(json.loads(say("images", "show", one.name, "--json")[1])["file"]) for one in stored[1:]]
    files[0].write_bytes(png(seed=1))
    files[1].unlink()
    status, out, err = say("images", "verify")
    assert status == 1 and "3 pictures can't be served" in err
    assert set(out.splitlines()) == {
        f"{stored[0].name}  its file is damaged",
        f"{stored[1].name}  its file is damaged",
        f"{stored[2].name}  its file is missing",
        "0 pictures whole",
    }
    told = json.loads(say("images", "verify", "--json")[1])
    assert told["whole"] == 0 and {one["owner"] for one in told["faults"]} == {"web", "lab", None}


def test_says_why_where_there_is_nothing_to_look_after(say: Say, config: Path) -> None:
    status, _, err = say("images", "list")
    assert status == 1 and "there is no store at" in err
    config.write_text(FILE + '[[routes]]\nmatch = "* /v1/*"\nchain = ["keys"]\n')
    status, _, err = say("images", "list")
    assert status == 1 and "the config has no [images] table" in err


def test_a_link_that_the_operator_is_shown_is_signed(say: Say, config: Path, stored: list[Stored]) -> None:
    config.write_text((TABLES + FILE).replace('ttl = "1h"', "sign = true"))
    assert "&signature=" in json.loads(say("images", "show", stored[0].name, "--json")[1])["url"]
