"""Hostile pictures in a real Chromium. Beside each that does nothing stands the same one served carelessly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Error, Page, async_playwright

from .asking import house, kept
from .drawn import halves
from .hostile import POLYGLOTS, PROGRAM, RAN, RUNS, SVGS

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE = 10_000.0  # milliseconds; only what has gone wrong takes so long
Site = Callable[[str], str]  # HTML -> the URL of a page there
FRAMES = ('<iframe src="{}"></iframe>', '<object data="{}"></object>', '<embed src="{}">')
CSP = "default-src 'none'; sandbox"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(needs: Callable[[str], str]) -> AsyncIterator[Any]:
    program = needs("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program)
        yield browser
        await browser.close()


class Careless:
    """A server that hands out what it is given, under the headers that it is given and no others."""

    def __init__(self) -> None:
        self.given: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.base = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Careless]:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        async with server:
            # By another name than ours: another site, as the page that shows a picture mostly is.
            self.base = f"http://localhost:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            body, headers = self.given.get(head.split()[1].decode(), (b"", {}))
            lines = [f"{name}: {value}" for name, value in headers.items()]
            told = "\r\n".join(["HTTP/1.1 200 OK", *lines, f"Content-Length: {len(body)}", "Connection: close"])
            writer.write(f"{told}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def page(self, html: str) -> str:
        return self.put("/page", html.encode(), Content_Type="text/html")

    def put(self, path: str, body: bytes, **headers: str) -> str:
        self.given[path] = body, {name.replace("_", "-"): value for name, value in headers.items()}
        return self.base + path


class Eye:
    """A browser's page, and what is seen of programs that run in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.ran: list[str] = []
        self._runs = asyncio.Event()
        page.on("console", lambda message: self._saw(message.text == RAN, "console"))
        page.context.on("request", lambda request: self._saw("/ran" in request.url, request.url))

    def _saw(self, it: bool, where: str) -> None:
        if it:
            self.ran.append(where)
            self._runs.set()

    async def runs(self) -> None:
        """Wait until one has run."""
        await asyncio.wait_for(self._runs.wait(), 20)
        self._runs.clear()

    async def saves(self, url: str) -> str:
        """Open what is not shown but saved; under which name."""
        async with self.page.expect_download() as saving:
            with pytest.raises(Error):
                await self.page.goto(url)
        return (await saving.value).suggested_filename

    async def page_with(self, site: Site, html: str) -> None:
        """Open a page of that site with this in it, and let what wants to run there do so."""
        # From a server: a page that the browser is handed in another way may not ask this machine for anything.
        await self.page.goto(site(f"<!doctype html><title>mine</title><body>{html}</body>"))
        await self.settled()

    async def settled(self) -> None:
        """Programs run before a document has loaded, and animations begin with the first frame: have some drawn.

        From without, since in a sandbox no program of ours would run either.
        """
        line = await self.page.context.new_cdp_session(self.page)
        corner = {"x": 0, "y": 0, "width": 40, "height": 30, "scale": 1}
        drawn = 0
        async with asyncio.timeout(PATIENCE / 1000):
            while drawn < 2:
                try:
                    await line.send("Page.captureScreenshot", {"clip": corner})
                    drawn += 1
                except Error as error:
                    if "Unable to capture" not in str(
                        error
                    ):  # what a busy machine's browser says before its first frame
                        raise
        await line.detach()


@asynccontextmanager
async def eye(browser: Browser) -> AsyncIterator[Eye]:
    context = await browser.new_context()
    context.set_default_timeout(PATIENCE)
    try:
        yield Eye(await context.new_page())
    finally:
        await context.close()


@asynccontextmanager
async def shown() -> AsyncIterator[tuple[Site, Callable[[bytes], Awaitable[str]]]]:
    """A house: a way to get pages from there, and one to have pictures kept there, both by their whole URLs."""
    async with house() as served:
        base = f"http://127.0.0.1:{served.port}"

        def page(html: str) -> str:
            return f"{base}/v1/page?{quote(html)}"

        async def keep(data: bytes) -> str:
            return f"{base}{(await kept(served, data))['path']}"

        yield page, keep


async def test_an_svg_runs_where_nobody_hinders_it(browser: Browser) -> None:
    async with Careless().serving() as careless, eye(browser) as seen:
        for name in RUNS:
            await seen.page.goto(careless.put(f"/{name}", SVGS[name], Content_Type="image/svg+xml"))
            await seen.runs()
        # And may do what it likes with other pages of its site.
        await seen.page.goto(careless.page('<iframe src="/script"></iframe>'))
        await seen.page.wait_for_function("document.title === 'owned'")


async def test_each_of_the_walls_would_do_alone(browser: Browser) -> None:
    async with Careless().serving() as careless, eye(browser) as seen:
        for name in RUNS:
            walled = careless.put(f"/{name}", SVGS[name], Content_Type="image/svg+xml", Content_Security_Policy=CSP)
            await seen.page.goto(walled)
            await seen.settled()
            assert not seen.ran, name
        saved = careless.put("/s", SVGS["script"], Content_Type="image/svg+xml", Content_Disposition="attachment")
        await seen.saves(saved)
        assert not seen.ran


async def test_an_svg_that_is_opened_is_saved(browser: Browser) -> None:
    async with shown() as (_, keep), eye(browser) as seen:
        for data in SVGS.values():
            url = await keep(data)
            assert await seen.saves(url) == url.rpartition("/")[2]
        assert await seen.saves(f"{url}?w=256") and not seen.ran


async def test_in_a_page_it_is_a_picture_and_nothing_else(browser: Browser) -> None:
    async with shown() as (ours, keep), Careless().serving() as careless:
        urls = {name: await keep(data) for name, data in SVGS.items()}
        urls["thumbnail"] = await keep(halves("jpeg")) + "?w=256"
        html = "".join([f'<img id="{name}" src="{url}">' for name, url in urls.items()])
        for site in (ours, careless.page):
            async with eye(browser) as seen:
                await seen.page_with(site, html)
                widths = "Object.fromEntries([...document.images].map(one => [one.id, one.naturalWidth]))"
                shown_so = await seen.page.evaluate(widths)
                assert shown_so == {**dict.fromkeys(SVGS, 40), "thumbnail": 256} and not seen.ran
                assert await seen.page.title() == "mine"


async def test_in_a_frame_it_is_not_even_shown(browser: Browser) -> None:
    async with shown() as (ours, keep), Careless().serving() as careless:
        urls = [await keep(SVGS[name]) for name in RUNS]
        for site in (ours, careless.page):
            async with eye(browser) as seen:
                await seen.page_with(site, "".join([tag.format(url) for tag in FRAMES for url in urls]))
                assert not seen.ran and await seen.page.title() == "mine"
        async with eye(browser) as seen:  # the same in the same way, with nobody to hinder it
            for tag in FRAMES:
                careless.put("/svg", SVGS["script"], Content_Type="image/svg+xml")
                await seen.page_with(careless.page, tag.format("/svg"))
                await seen.runs()


async def test_another_site_may_show_a_picture_and_not_read_it(browser: Browser) -> None:
    async with shown() as (_, keep), Careless().serving() as careless, eye(browser) as seen:
        url = await keep(halves())
        await seen.page_with(careless.page, f'<img id="it" src="{url}"><canvas id="c"></canvas>')
        assert await seen.page.evaluate("it.naturalWidth") == 600
        fetched = f"mode => fetch('{url}', {{mode}}).then(answer => answer.type, error => error.name)"
        assert await seen.page.evaluate(fetched, "cors") == "TypeError"
        assert await seen.page.evaluate(fetched, "no-cors") == "opaque"
        read = "c.getContext('2d').drawImage(it, 0, 0); try { c.toDataURL() } catch (error) { error.name }"
        assert await seen.page.evaluate(read) == "SecurityError"


async def test_a_picture_with_a_page_in_it_is_shown_as_a_picture(browser: Browser) -> None:
    async with shown() as (_, keep), Careless().serving() as careless, eye(browser) as seen:
        for name, (ending, data) in POLYGLOTS.items():
            await seen.page.goto(await keep(data))
            await seen.settled()
            sort = {"jpg": "image/jpeg"}.get(ending, f"image/{ending}")
            assert await seen.page.evaluate("document.contentType") == sort and not seen.ran, name
        for _, data in POLYGLOTS.values():
            await seen.page.goto(careless.put("/page", data, Content_Type="text/html"))
            await seen.runs()
            seen.ran.clear()


async def test_a_picture_that_is_a_program_is_not_run(browser: Browser) -> None:
    script = "<script src='{}' onerror='window.refused = true'></script>"
    async with shown() as (ours, keep), Careless().serving() as careless:
        url = await keep(PROGRAM)
        typed = {"Content_Type": "application/octet-stream"}
        walled = careless.put("/walled.js", PROGRAM, **typed, X_Content_Type_Options="nosniff")
        for site, source in ((ours, url), (careless.page, url), (careless.page, walled)):
            async with eye(browser) as seen:
                await seen.page_with(site, script.format(source))
                assert await seen.page.evaluate("window.refused") and not seen.ran
        async with eye(browser) as seen:
            bare = careless.put("/bare.js", PROGRAM, **typed)
            await seen.page_with(careless.page, script.format(bare))
            await seen.runs()
            assert await seen.page.title() == "owned"
