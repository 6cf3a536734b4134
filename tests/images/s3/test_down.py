"""S3 is down, slow, or says no. What could not be kept is still there for who wanted it kept."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from proxy.images.base import Images
from proxy.images.s3 import S3
from proxy.images.s3_client import READERS
from proxy.model.images import ImageStoreError
from proxy.testkit import TurnedClock
from proxy.testkit.watch import LogKept

from ..pictures import png
from ..shelf import content, keep, references, shelf, spools
from .store import Moto, door, refusal
from .test_keeping import far, impatient, there

KEYS = ("framegate-secret-key-of-a-test", "AKIAFRAMEGATETESTKEY")


async def refused(images: Images, why: str) -> str:
    """A picture can't be kept, and nothing is left of it but its bytes; what was said."""
    before = await references(images)
    async with images.spool() as spool:
        spool.write(png(50_000))
        with pytest.raises(ImageStoreError, match=why) as caught:
            await spool.commit()
        assert b"".join([piece async for piece in spool.read()]) == png(50_000)
    assert not spools(images) and await references(images) == before
    return "".join(traceback.format_exception(caught.value))


async def test_one_that_refuses_connections_and_comes_back(tmp_path: Path, moto: Moto) -> None:
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as images:
        before = await keep(images, png(seed=1))
        await way.down()
        await refused(images, r"can't be used: (S3 can't be reached|.* broke .*)\.")
        with pytest.raises(ImageStoreError):
            await images.body(before.name)
        with pytest.raises(ImageStoreError):
            await images.collector.collect()
        await way.up()
        assert await content(images, before.name) == png(seed=1)
        assert await content(images, (await keep(images, png())).name) == png()


async def test_one_that_never_answers(tmp_path: Path, moto: Moto) -> None:
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as images:
        before = await keep(images, png(seed=1))
        way.shut()
        with impatient(images):
            await refused(images, r"S3 did not answer within 0\.3 s")
            with pytest.raises(ImageStoreError, match="did not answer"):
                await images.body(before.name)
        assert isinstance(images.blobs, S3) and images.blobs._client.readers._value == READERS
        way.go.set()
        assert await content(images, before.name) == png(seed=1)
        assert await content(images, (await keep(images, png())).name) == png()


async def test_one_that_stops_in_the_middle(tmp_path: Path, moto: Moto) -> None:
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as images:
        before = await keep(images, png(500_000))
        for way.ends, why in ((False, "sent nothing for|did not answer"), (True, "broke|less than it said")):
            way.most = 200_000
            with impatient(images), pytest.raises(ImageStoreError, match=why):
                await content(images, before.name)
            way.most = None
            assert isinstance(images.blobs, S3) and images.blobs._client.readers._value == READERS
        assert await content(images, before.name) == png(500_000)


async def test_one_that_has_trouble_is_asked_again_but_not_for_ever(tmp_path: Path, moto: Moto) -> None:
    async with door(moto) as way, far(tmp_path, moto, port=way.port, timeout=8.0) as images:
        way.answer, way.times = refusal(500, "InternalError"), 1
        assert await content(images, (await keep(images, png())).name) == png() and way.said(b"PUT") == 2
        way.answer, way.times = refusal(503, "SlowDown"), 100
        await refused(images, r"S3 refuses \(SlowDown\)")
        assert way.times == 97
        way.answer = None
        assert await content(images, (await keep(images, png(50_000))).name) == png(50_000)


HINTED = [
    (403, "SignatureDoesNotMatch", "the secret key is not the access key's"),
    (403, "RequestTimeTooSkewed", "the clock of this machine is wrong"),
    (301, "PermanentRedirect", "is it the bucket's region?"),
    (404, "NoSuchBucket", "there is no such bucket"),
    (403, "what? secret!", "no reason given"),
]


@pytest.mark.parametrize(("status", "code", "hint"), HINTED)
async def test_one_that_says_no_is_quoted_by_its_code_alone(
    tmp_path: Path, moto: Moto, status: int, code: str, hint: str
) -> None:
    """Where a signature is wrong S3 quotes all that was signed, and a bad proxy before it whatever it has seen."""
    secret, access = KEYS
    async with door(moto) as way:
        account = moto.account("t", way.port, access_key=access, secret_key=secret)
        async with shelf(tmp_path, account=account) as images:
            way.answer = refusal(status, code, f"the key {access} with {secret} and AWS4-HMAC-SHA256")
            said = await refused(images, "S3 refuses")
            assert hint in said and secret not in said and access not in said and "AWS4" not in said
            assert all(secret.encode() not in head for head in way.heads)
            assert secret not in repr(account) + repr(images.rules) and access not in repr(images.rules)


async def test_a_forged_secret_is_refused(tmp_path: Path, moto: Moto) -> None:
    forged = moto.account("t", secret_key=KEYS[0])
    async with shelf(tmp_path, account=forged) as images:
        said = await refused(images, r"S3 refuses \(SignatureDoesNotMatch: the secret key is not the access key's\)")
        assert KEYS[0] not in said and moto.access_key not in said
        with pytest.raises(ImageStoreError, match="SignatureDoesNotMatch"):
            await images.blobs.prepare()
    unknown = moto.account("t", access_key=KEYS[1])
    async with shelf(tmp_path, account=unknown) as images:
        await refused(images, r"S3 refuses \(InvalidAccessKeyId: there is no such access key\)")


async def test_credentials_of_the_usual_chain(tmp_path: Path, moto: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    account = replace(moto.account(f"t/{tmp_path.name}"), access_key=None, secret_key=None)
    async with shelf(tmp_path, account=account) as images:
        await refused(images, r"no credentials for S3; give access_key and secret_key in \[images\]")
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = {moto.access_key}\naws_secret_access_key = {moto.secret_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    async with shelf(tmp_path, account=account) as images:
        assert await content(images, (await keep(images, png())).name) == png()
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.secret_key)
    async with shelf(tmp_path, account=account) as images:
        assert await there(images)


async def test_more_than_may_go_up_at_once_wait_no_longer_than_they_may(
    tmp_path: Path, moto: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.images.s3_client.WRITERS", 2)
    async with door(moto) as way, far(tmp_path, moto, port=way.port) as images:
        await images.blobs.prepare()
        way.shut(b"PUT")
        with impatient(images, 1.0):
            keeping = [asyncio.create_task(keep(images, png(seed=n))) for n in range(5)]
            while way.said(b"PUT") < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert way.said(b"PUT") == 2
            ended = await asyncio.gather(*keeping, return_exceptions=True)
        assert [type(one) for one in ended] == [ImageStoreError] * 5
        way.go.set()
        assert len({(await keep(images, png(seed=n))).sha256 for n in range(5)}) == 5


async def test_a_store_that_is_down_when_the_server_starts_is_told_of(tmp_path: Path, moto: Moto) -> None:
    from proxy.model.services import Services

    log, spawned = LogKept(), []
    clock = TurnedClock()
    async with door(moto) as way, far(tmp_path, moto, clock, port=way.port) as images:
        way.shut()

        def spawn(work: object, *, name: str) -> None:
            spawned.append(asyncio.ensure_future(work))  # type: ignore[call-overload]

        others: dict[str, Any] = dict.fromkeys([one.name for one in fields(Services)])
        services = Services(**{**others, "clock": clock, "log": log, "spawn": spawn})
        with impatient(images):
            running = images.running(services)
            await running.__aenter__()
        try:
            [line] = log.lines
            assert line["event"] == "images_unusable" and "did not answer" in line["why"]
            way.go.set()
            assert await content(images, (await keep(images, png())).name) == png()
        finally:
            await running.__aexit__(None, None, None)
        await asyncio.gather(*spawned)
