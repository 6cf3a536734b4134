"""A bucket of an S3-compatible store as the place where whole pictures lie.

S3 has no locks, so what a folder does under one is done here with marks in the store of names, which all processes
and replicas share. Who puts a picture: (1) writes its reference, (2) waits while there is a mark, (3) puts the object,
always anew, (4) writes its name. Who takes one away: (a) writes a mark, (b) looks for references and stops if there is
one, (c) deletes the object, (d) takes the mark away.

Why nothing that is named can be lost: every call on the store is atomic and seen by all who ask after it. Either (1)
came before (b): then (b) finds the reference, and nothing is deleted. Or (b) came before (1), and so did (a): then (2)
finds the mark until (d), that is until (c) is over, and (3) puts the object behind it. A second deletion can't begin
meanwhile: it would find the reference.

What S3 answers late or never is no way round that. Where it is not certain that a deletion is over (no answer, or more
than one attempt) the mark is not taken away: it stays for `GONE`, longer than a signed request is good (15 minutes) and
than anybody here waits. So does that of a process that was killed. Until then these very bytes can't be kept; whoever
tries still has them. One who was held up between (a) and (c) for longer than `LATE` gives up. An object that is put
late, by an attempt that had been given up, is what its key says; if it is nobody's by then, a later round takes it.

A look at the object behind (4) would prove nothing: the deletion may come behind the look. Nor does an old object tell
whether it is about to go. So the object is put each time, and nobody believes that it is there already.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)

from ..model.body import EMPTY, Body
from ..model.bucket import Account
from ..model.errors import BodyConsumed
from ..model.images import ImageStoreError, ImageType
from ..model.services import Clock
from ..model.store import Store
from .blobs import Needed, Write
from .files import Blob, translated
from .serving import MEDIA
from .spool import Finished, Placing, Spooling
from .upload import Upload, md5

GOING = "blobs-going"  # the space of the marks
GONE = 1800.0  # seconds that a mark stays when nobody knows what became of the deletion
LATE = 5.0  # seconds between a mark and its deletion at the most
WAIT = 5.0  # seconds that who puts a picture waits for a mark to go
AGAIN = 0.05  # seconds before he looks again
LOOK = 5.0  # seconds for a look whether S3 is there at all, when we start
CONNECT = 5.0  # seconds for a connection
ATTEMPTS = 3  # of each request, while there is time
WRITERS = 16  # pictures going up at a time: each holds some 200 KiB
READERS = 128  # pictures being read at a time; slow clients hold theirs, and must not keep others from putting any
OTHERS = 8
PIECE = 2**16
MISSING = frozenset(("NoSuchKey", "NotFound", "404", "InvalidRange", "416"))
SUM = re.compile(r"[0-9a-f]{64}")
HINTS = {
    "AccessDenied": "these credentials may not do that",
    "AllAccessDisabled": "these credentials may not do that",
    "AuthorizationHeaderMalformed": "is it the bucket's region?",
    "BadDigest": "the bytes have changed on the way",
    "ExpiredToken": "the credentials have expired",
    "IllegalLocationConstraintException": "is it the bucket's region?",
    "InvalidAccessKeyId": "there is no such access key",
    "NoSuchBucket": "there is no such bucket",
    "PermanentRedirect": "is it the bucket's region?",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
    "SecondLevelDomainForbidden": "write &style=virtual in url",
    "SignatureDoesNotMatch": "the secret key is not the access key's",
    "301": "is it the bucket's region?",
    "403": "the keys are wrong, or may not do that",
}


class S3:
    """The objects of a bucket under a prefix. The client is made when it is first needed."""

    placing: Placing | None = None

    def __init__(self, account: Account, store: Store, clock: Clock) -> None:
        self.patience = account.timeout
        self._account = account
        self._bucket = account.bucket
        self._store = store
        self._clock = clock
        self._client: Any = None
        self._closed = False
        self._opening = asyncio.Lock()
        self._writers, self._readers, self._others = [asyncio.Semaphore(n) for n in (WRITERS, READERS, OTHERS)]

    async def prepare(self) -> None:
        """See that the bucket can be listed."""
        async with self._asking(self._others, min(LOOK, self.patience)) as client:
            await client.list_objects_v2(Bucket=self._bucket.name, Prefix=self._key(""), MaxKeys=1)

    async def put(self, spool: Spooling, finished: Finished, refer: Write, name: Write) -> None:
        """Put it whole, in one request, read from the spool's file as it goes. S3 compares it with its sum."""
        await refer()
        await self._put(spool, finished.sha256, finished.picture.type)
        await name()

    async def _put(self, spool: Spooling, sha256: str, type: ImageType) -> None:
        if self._bucket.endpoint is None:
            proof = {"ChecksumSHA256": base64.b64encode(bytes.fromhex(sha256)).decode()}
        else:
            # Not all that speak S3 know the newer header (R2 only for parts); this one they all do.
            try:
                proof = {"ContentMD5": await asyncio.to_thread(md5, spool.pread)}
            except OSError as error:
                raise translated(error) from error
        async with self._asking(self._writers) as client:
            await self._unmarked(sha256)
            await client.put_object(
                Bucket=self._bucket.name,
                Key=self._key(sha256),
                Body=Upload(spool.pread, spool.size),
                ContentLength=spool.size,
                ContentType=MEDIA[type].decode(),
                **proof,
            )

    async def open(self, sha256: str, size: int, first: int, length: int) -> Body | None:
        """One GET, with a range where a part is asked for; it is let go of with the body."""
        if not length:
            return EMPTY if await self.size(sha256) == size else None
        part = {"Range": f"bytes={first}-{first + length - 1}"} if length < size else {}
        held = False
        try:
            async with self._asking(None) as client:
                held = await self._readers.acquire()
                answer = await client.get_object(Bucket=self._bucket.name, Key=self._key(sha256), **part)
            body = Download(answer["Body"], length, self.patience, self._readers.release)
            held = False
        except _Missing:
            return None
        finally:
            if held:
                self._readers.release()
        whole = answer.get("ContentRange", "").rpartition("/")[2] == str(size) if part else True
        if whole and answer["ContentLength"] == length:
            return body
        await body.aclose()
        return None

    async def size(self, sha256: str) -> int | None:
        """One HEAD."""
        try:
            async with self._asking(self._others) as client:
                answer = await client.head_object(Bucket=self._bucket.name, Key=self._key(sha256))
                return int(answer["ContentLength"])
        except _Missing:
            return None

    async def drop(self, sha256: str, needed: Needed) -> bool:
        """Delete it, under a mark; see the module's own words."""
        began = self._clock.now()
        if not await self._store.put(GOING, sha256, b"", ttl=GONE, new=True):
            return False  # somebody else is at it, or it is not known what became of that
        over = True
        try:
            if await needed(sha256) or self._clock.now() - began > LATE:
                return False
            over = False
            async with self._asking(self._others) as client:
                answer = await client.delete_object(Bucket=self._bucket.name, Key=self._key(sha256))
                over = not answer["ResponseMetadata"].get("RetryAttempts")
            return True
        except _Denied:
            over = True
            raise
        finally:
            if over:
                await self._store.delete(GOING, sha256)

    async def shard(self, begins: str) -> list[Blob]:
        """The objects whose sum begins with this digit, page by page; what is not ours is not seen."""
        found: list[Blob] = []
        more: dict[str, str] = {}
        while True:
            async with self._asking(self._others) as client:
                page = await client.list_objects_v2(Bucket=self._bucket.name, Prefix=self._prefix + begins, **more)
            for one in page.get("Contents", ()):
                sha256 = one["Key"].rpartition("/")[2]
                if SUM.fullmatch(sha256) and one["Key"] == self._key(sha256):
                    found.append(Blob(sha256, one["Size"], one["LastModified"].timestamp()))
            if not page.get("IsTruncated"):
                return found
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def place(self, sha256: str) -> str:
        """Its address, as the tools of AWS write it."""
        return f"s3://{self._bucket.name}/{self._key(sha256)}"

    async def aclose(self) -> None:
        """Close the client with its connections."""
        async with self._opening:
            client, self._client, self._closed = self._client, None, True
            if client is not None:
                await client.__aexit__(None, None, None)

    @property
    def _prefix(self) -> str:
        return f"{self._bucket.prefix}blobs/"

    def _key(self, sha256: str) -> str:
        return f"{self._prefix}{sha256[:2]}/{sha256}" if sha256 else self._prefix

    async def _unmarked(self, sha256: str) -> None:
        """Wait until nobody is taking these bytes away."""
        until = self._clock.now() + WAIT
        while await self._store.get(GOING, sha256) is not None:
            if self._clock.now() > until:
                raise _sorry("these very bytes are just being taken away; try again later")
            await asyncio.sleep(AGAIN)

    @asynccontextmanager
    async def _asking(self, slots: asyncio.Semaphore | None, seconds: float | None = None) -> AsyncIterator[Any]:
        """The client, for one request, for so long. Whatever goes wrong is one error, in words of ours.

        What S3 said is not repeated: where a signature is wrong it quotes all that was signed.
        """
        seconds = self.patience if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                if slots is None:
                    yield await self._ready()
                    return
                async with slots:
                    yield await self._ready()
        except ClientError as error:
            raise _refused(error) from None
        except TimeoutError:
            raise _sorry(f"S3 did not answer within {seconds:g} s") from None
        except (NoCredentialsError, PartialCredentialsError):
            raise _sorry("there are no credentials for S3; give access_key and secret_key in [images]") from None
        except (EndpointConnectionError, ConnectTimeoutError):
            raise _sorry("S3 can't be reached") from None
        except (BotoCoreError, aiohttp.ClientError, OSError) as error:
            raise _sorry(f"the connection to S3 broke ({type(error).__name__})") from None

    async def _ready(self) -> Any:
        async with self._opening:
            if self._closed:
                raise _sorry("it has been closed")
            if self._client is None:
                session = AioSession()
                session.register_component("data_loader", await asyncio.to_thread(_loader))
                self._client = await self._made(session).__aenter__()
                self._client.meta.events.register("before-call.s3", _stay)
            return self._client

    def _made(self, session: AioSession) -> Any:
        account, bucket = self._account, self._bucket
        keys = {}
        if account.access_key is not None and account.secret_key is not None:
            keys = {
                "aws_access_key_id": account.access_key.reveal(),
                "aws_secret_access_key": account.secret_key.reveal(),
            }
        config = AioConfig(
            signature_version="s3v4",
            connect_timeout=min(CONNECT, account.timeout),
            read_timeout=account.timeout,
            max_pool_connections=WRITERS + READERS + OTHERS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            # The environment is asked for credentials and for nothing else: no proxy, no other endpoint.
            proxies={},
            ignore_configured_endpoint_urls=True,
            # The sum is sent with the picture, and is signed: so its bytes need not be summed once more to be signed.
            s3={"addressing_style": bucket.style, "payload_signing_enabled": False},
            # What is newer is refused by R2, OSS and COS: a sum behind the body.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return session.create_client(
            "s3", region_name=bucket.region, endpoint_url=bucket.endpoint, config=config, **keys
        )


class Download(Body):
    """An object's bytes as S3 sends them: no faster than they are read, as aiohttp holds at most 128 KiB."""

    __slots__ = ("_left", "_patience", "_read", "_stream", "length")
    length: int

    def __init__(self, stream: Any, length: int, patience: float, left: Callable[[], None]) -> None:
        self._stream = stream
        self._patience = patience
        self._left: Callable[[], None] | None = left
        self._read = False
        self.length = length

    def now(self) -> None:
        """Never here: it has to come."""
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes. Raises ImageStoreError when S3 stops in the middle."""
        if self._read or self._left is None:
            raise BodyConsumed
        self._read = True
        rest = self.length
        while rest:
            try:
                async with asyncio.timeout(self._patience):
                    piece = await self._stream.read(min(PIECE, rest))
            except TimeoutError:
                raise _sorry(f"S3 sent nothing for {self._patience:g} s") from None
            except (BotoCoreError, aiohttp.ClientError, OSError) as error:
                raise _sorry(f"the connection to S3 broke ({type(error).__name__})") from None
            if not piece:
                raise _sorry("S3 sent less than it said")
            rest -= len(piece)
            yield piece
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the connection; one in the middle of an object is closed."""
        left, self._left = self._left, None
        if left is not None:
            self._stream.close()
            left()
        await super().aclose()


class _Denied(ImageStoreError):
    """S3 has said no to the first attempt, and so has done nothing."""


class _Missing(_Denied):
    """There is no such object, or not that part of it."""


def _refused(error: ClientError) -> ImageStoreError:
    said, told = str(error.response.get("Error", {}).get("Code", "")), error.response.get("ResponseMetadata", {})
    kind = ImageStoreError if told.get("RetryAttempts") or told.get("HTTPStatusCode", 500) >= 500 else _Denied
    code = said if re.fullmatch(r"[A-Za-z0-9.]{1,60}", said) else "no reason given"
    hint = HINTS.get(code)
    return _sorry(f"S3 refuses ({code}{'' if hint is None else ': ' + hint})", _Missing if said in MISSING else kind)


def _sorry(why: str, kind: type[ImageStoreError] = ImageStoreError) -> ImageStoreError:
    return kind(f"The store of pictures can't be used: {why}.")


def _stay(context: dict[str, Any], **_: Any) -> None:
    """Have a redirection be an error, as the region is given; the client would ask for it, and of whom?"""
    context.setdefault("s3_redirect", {})["redirected"] = True


@cache
def _loader() -> Any:
    """What a client for S3 is made of: a megabyte of JSON, read once, and by a thread lest it hold up all others."""
    loader = AioSession().get_component("data_loader")
    for name in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", name)
    for name in ("endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data(name)
    return loader
