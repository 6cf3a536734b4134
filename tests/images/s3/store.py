"""A store that speaks S3, in a process of its own, and a door before it at which everything can go wrong."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from proxy.model.bucket import Account, Bucket
from proxy.model.values import Secret

NAME = "pictures"
# It checks no signature before so many actions: those with which the user is made who may do the rest. Sums that come
# with a body it believes; S3 compares them, and so it is done before it here.
SERVER = """
import base64, hashlib, io, json, logging, os, sys, threading
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "4"
import botocore.session
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

SUMS = (("HTTP_CONTENT_MD5", hashlib.md5), ("HTTP_X_AMZ_CHECKSUM_SHA256", hashlib.sha256))
store = DomainDispatcherApplication(create_backend_app)

def application(environ, start):
    given = [(environ[name], make) for name, make in SUMS if name in environ]
    if given and environ["REQUEST_METHOD"] == "PUT":
        data = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = io.BytesIO(data)
        if any(base64.b64encode(make(data).digest()).decode() != said for said, make in given):
            start("400 Bad Request", [("Content-Type", "application/xml"), ("Connection", "close")])
            return [b"<Error><Code>BadDigest</Code><Message>no</Message></Error>"]
    return store(environ, start)

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server("127.0.0.1", 0, application, True, request_handler=MotoRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
port = server.server_address[1]
session = botocore.session.Session()

def client(name):
    return session.create_client(name, region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id="nobody", aws_secret_access_key="nobody")

client("s3").create_bucket(Bucket="pictures")
iam = client("iam")
iam.create_user(UserName="framegate")
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="framegate", PolicyName="all", PolicyDocument=json.dumps(policy))
key = iam.create_access_key(UserName="framegate")["AccessKey"]
print(json.dumps([port, key["AccessKeyId"], key["SecretAccessKey"]]), flush=True)
sys.stdin.read()
os._exit(0)
"""


@dataclass(frozen=True)
class Moto:
    """Where it listens, and who we are to it."""

    port: int
    access_key: str
    secret_key: str

    def url(self, prefix: str, port: int | None = None) -> str:
        """The bucket as a config names it."""
        return f"s3://{NAME}/{prefix}?region=us-east-1&endpoint=http://127.0.0.1:{port or self.port}"

    def account(self, prefix: str, port: int | None = None, *, timeout: float = 20.0, **keys: str) -> Account:
        """The same for a store of pictures without a config."""
        bucket = Bucket.parse(self.url(prefix, port))
        access_key = Secret(keys.get("access_key", self.access_key))
        return Account(bucket, access_key, Secret(keys.get("secret_key", self.secret_key)), timeout)


@contextmanager
def moto() -> Iterator[Moto]:
    """Run it."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port, access_key, secret_key = json.loads(process.stdout.readline())
            yield Moto(port, access_key, secret_key)
        finally:
            process.kill()


HEAD = re.compile(rb"(GET|HEAD|PUT|DELETE) \S+ HTTP/1\.1\r\n")


@dataclass
class Door:
    """Passes on what is asked, as long as nothing is set that stands in the way."""

    target: int
    port: int = 0
    heads: list[bytes] = field(default_factory=list)  # of all requests that came
    answer: bytes | None = None  # said in place of the store's, to each request
    times: int = 10**6  # so often; then all is well again
    only: bytes = b""  # requests that begin so, alone
    go: asyncio.Event = field(default_factory=asyncio.Event)  # cleared: requests and answers wait here
    come: asyncio.Event = field(default_factory=asyncio.Event)  # set by a request that waits
    most: int | None = None  # bytes of the next answer that are passed on; then nothing comes, or the end
    ends: bool = False
    passed: int = 0  # bytes of answers
    open: int = 0  # connections
    closed: asyncio.Event = field(default_factory=asyncio.Event)  # set when there is none
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    def said(self, method: bytes) -> int:
        """How many requests of that method came."""
        return len([head for head in self.heads if head.startswith(method)])

    def shut(self, only: bytes = b"") -> None:
        """Let requests that begin so wait; `come` is set by the first."""
        self.only = only
        self.go.clear()
        self.come.clear()

    async def up(self) -> None:
        """Listen, again on the same port."""
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse connections, and cut those that there are."""
        assert self._server is not None
        self._server.close()
        for _ in range(10):  # those just accepted come to be tasks first
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        for _ in range(10):  # what was cut off is let go of
            await asyncio.sleep(0)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Have a task for a connection, which is let go of also where that is cancelled before it has begun."""
        self.open += 1
        self.closed.clear()
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            writer.transport.abort()
            self._tasks.discard(task)
            self.open -= 1
            if not self.open:
                self.closed.set()

        task.add_done_callback(ended)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        out: asyncio.StreamWriter | None = None
        try:
            store, out = await asyncio.open_connection("127.0.0.1", self.target, limit=2**16)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._answers(store, writer))
                await self._requests(reader, writer, out)
                raise EOFError
        except* (OSError, EOFError, asyncio.CancelledError):  # it is over either way
            pass
        finally:
            if out is not None:
                out.transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, out: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(2**16):
            if HEAD.match(data):
                self.heads.append(data.partition(b"\r\n\r\n")[0])
                if data.startswith(self.only):
                    self.come.set()
                    await self.go.wait()
                    if self.answer is not None and self.times:
                        self.times -= 1
                        head, blank, body = self.answer.partition(b"\r\n\r\n")
                        writer.write(head + blank + (b"" if data.startswith(b"HEAD") else body))
                        with suppress(OSError):
                            await writer.drain()
                            await reader.read(2**16)
                        return
            out.write(data)
            await out.drain()

    async def _answers(self, store: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await store.read(2**16):
            if self.most is not None:
                data, self.most = data[: self.most], self.most - len(data)
                if self.most <= 0:
                    writer.write(data)
                    if self.ends:
                        raise EOFError
                    await asyncio.Event().wait()
            writer.write(data)
            self.passed += len(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()  # until all of it is out
        raise EOFError


@asynccontextmanager
async def door(moto: Moto) -> AsyncIterator[Door]:
    """A door before it."""
    one = Door(moto.port)
    one.go.set()
    await one.up()
    try:
        yield one
    finally:
        await one.down()


def refusal(status: int, code: str, message: str = "no") -> bytes:
    """What S3 says when it won't."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body
