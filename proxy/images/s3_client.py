"""The client of S3: one for all requests, each with its time, and whatever goes wrong in words of ours."""

from __future__ import annotations

import asyncio
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

from ..model.body import Body
from ..model.bucket import Account
from ..model.errors import BodyConsumed
from ..model.images import ImageStoreError

CONNECT = 5.0  # seconds for a connection
ATTEMPTS = 3  # of each request, while there is time
WRITERS = 16  # pictures going up at a time: each holds some 200 KiB
READERS = 128  # pictures being read at a time; slow clients hold theirs, and must not keep others from putting any
OTHERS = 8
PIECE = 2**16
MISSING = frozenset(("NoSuchKey", "NotFound", "404", "InvalidRange", "416"))
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


class Client:
    """Made when it is first needed. `writers`, `readers` and `others` are how many requests of a sort run at a time."""

    def __init__(self, account: Account) -> None:
        self.patience = account.timeout  # seconds for a request that says nothing else
        self._account = account
        self._client: Any = None
        self._closed = False
        self._opening = asyncio.Lock()
        self.writers, self.readers, self.others = [asyncio.Semaphore(n) for n in (WRITERS, READERS, OTHERS)]

    @asynccontextmanager
    async def asking(self, slots: asyncio.Semaphore | None, seconds: float | None = None) -> AsyncIterator[Any]:
        """The client, for one request, for so long. Whatever goes wrong is one error, in words of ours.

        What S3 said is not repeated: where a signature is wrong it quotes all that was signed.
        """
        seconds = self.patience if seconds is None else seconds
        try:
            async with asyncio.timeout(seconds):
                if slots is None:
                    yield await self.ready()
                    return
                async with slots:
                    yield await self.ready()
        except ClientError as error:
            raise _refused(error) from None
        except TimeoutError:
            raise sorry(f"S3 did not answer within {seconds:g} s") from None
        except (NoCredentialsError, PartialCredentialsError):
            raise sorry("there are no credentials for S3; give access_key and secret_key in [images]") from None
        except (EndpointConnectionError, ConnectTimeoutError):
            raise sorry("S3 can't be reached") from None
        except (BotoCoreError, aiohttp.ClientError, OSError) as error:
            raise sorry(f"the connection to S3 broke ({type(error).__name__})") from None

    async def aclose(self) -> None:
        """Close the client with its connections."""
        async with self._opening:
            client, self._client, self._closed = self._client, None, True
            if client is not None:
                await client.__aexit__(None, None, None)

    async def ready(self) -> Any:
        """aiobotocore's own client."""
        async with self._opening:
            if self._closed:
                raise sorry("it has been closed")
            if self._client is None:
                session = AioSession()
                session.register_component("data_loader", await asyncio.to_thread(_loader))
                self._client = await self._made(session).__aenter__()
                self._client.meta.events.register("before-call.s3", _stay)
            return self._client

    def _made(self, session: AioSession) -> Any:
        account, bucket = self._account, self._account.bucket
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
                raise sorry(f"S3 sent nothing for {self._patience:g} s") from None
            except (BotoCoreError, aiohttp.ClientError, OSError) as error:
                raise sorry(f"the connection to S3 broke ({type(error).__name__})") from None
            if not piece:
                raise sorry("S3 sent less than it said")
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


class Denied(ImageStoreError):
    """S3 has said no to the first attempt, and so has done nothing."""


class Missing(Denied):
    """There is no such object, or not that part of it."""


def _refused(error: ClientError) -> ImageStoreError:
    said, told = str(error.response.get("Error", {}).get("Code", "")), error.response.get("ResponseMetadata", {})
    kind = ImageStoreError if told.get("RetryAttempts") or told.get("HTTPStatusCode", 500) >= 500 else Denied
    code = said if re.fullmatch(r"[A-Za-z0-9.]{1,60}", said) else "no reason given"
    hint = HINTS.get(code)
    return sorry(f"S3 refuses ({code}{'' if hint is None else ': ' + hint})", Missing if said in MISSING else kind)


def sorry(why: str, kind: type[ImageStoreError] = ImageStoreError) -> ImageStoreError:
    """The one error for S3, with why."""
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
