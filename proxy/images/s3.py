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

from ..model.body import EMPTY, Body
from ..model.bucket import Account
from ..model.images import MEDIA, ImageType
from ..model.services import Clock
from ..model.store import Store
from .blobs import Needed, Write
from .files import Blob, translated
from .s3_client import Client, Denied, Download, Missing, sorry
from .spool import Finished, Placing, Spooling
from .upload import Upload, md5

GOING = "blobs-going"  # the space of the marks
GONE = 1800.0  # seconds that a mark stays when nobody knows what became of the deletion
LATE = 5.0  # seconds between a mark and its deletion at the most
WAIT = 5.0  # seconds that who puts a picture waits for a mark to go
AGAIN = 0.05  # seconds before he looks again
LOOK = 5.0  # seconds for a look whether S3 is there at all, when we start
SUM = re.compile(r"[0-9a-f]{64}")


class S3:
    """The objects of a bucket under a prefix."""

    placing: Placing | None = None

    def __init__(self, account: Account, store: Store, clock: Clock) -> None:
        self.patience = account.timeout
        self._bucket = account.bucket
        self._client = Client(account)
        self._store = store
        self._clock = clock

    async def prepare(self) -> None:
        """See that the bucket can be listed."""
        async with self._client.asking(self._client.others, min(LOOK, self._client.patience)) as client:
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
        async with self._client.asking(self._client.writers) as client:
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
            async with self._client.asking(None) as client:
                held = await self._client.readers.acquire()
                answer = await client.get_object(Bucket=self._bucket.name, Key=self._key(sha256), **part)
            body = Download(answer["Body"], length, self._client.patience, self._client.readers.release)
            held = False
        except Missing:
            return None
        finally:
            if held:
                self._client.readers.release()
        whole = answer.get("ContentRange", "").rpartition("/")[2] == str(size) if part else True
        if whole and answer["ContentLength"] == length:
            return body
        await body.aclose()
        return None

    async def size(self, sha256: str) -> int | None:
        """One HEAD."""
        try:
            async with self._client.asking(self._client.others) as client:
                answer = await client.head_object(Bucket=self._bucket.name, Key=self._key(sha256))
                return int(answer["ContentLength"])
        except Missing:
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
            async with self._client.asking(self._client.others) as client:
                answer = await client.delete_object(Bucket=self._bucket.name, Key=self._key(sha256))
                over = not answer["ResponseMetadata"].get("RetryAttempts")
            return True
        except Denied:
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
            async with self._client.asking(self._client.others) as client:
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
        """Hang up."""
        await self._client.aclose()

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
                raise sorry("these very bytes are just being taken away; try again later")
            await asyncio.sleep(AGAIN)
