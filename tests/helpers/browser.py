"""The endpoint's page in Chromium."""

import re
import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium (apt install chromium)")


@contextmanager
def started_browser():
    """Chromium, which waits long enough for a busy machine."""
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        expect.set_options(timeout=30_000)
        yield browser
        browser.close()


@contextmanager
def opening(browser):
    """Yields a function that opens the page of a server, with a token if it wants one.

    At the end nothing was logged, and nothing asked elsewhere.
    """
    contexts, told, hosts, servers = [], [], set(), set()

    def open_page(server, token=None):
        typed = {"username": "me", "password": token} if token else None  # as the browser asks
        rights = ["clipboard-read", "clipboard-write"]
        contexts.append(browser.new_context(permissions=rights, http_credentials=typed))
        page = contexts[-1].new_page()
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        servers.add(f"127.0.0.1:{server.port}")
        page.goto(f"http://127.0.0.1:{server.port}/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    refused = re.compile(r"Failed to load resource: .* status of (400|401) ")  # Chromium says so
    unexpected = [line for line in told if not refused.match(line)]
    assert not unexpected, unexpected
    assert hosts == servers


def paste(page, text):
    """Paste a text as the series."""
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    page.get_by_label("Series", exact=True).focus()
    page.keyboard.press("Control+A")
    page.keyboard.press("Control+V")
