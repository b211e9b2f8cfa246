"""A real browser for the pages and the lab: the Chromium or Chrome that this machine has."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Chromium, headless. Skips where there is none, or no playwright to drive it."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="no playwright here: pip install -e '.[browser]'"
    )
    programs = [path for name in NAMES if (path := shutil.which(name))]
    if not programs:
        pytest.skip("no Chromium or Chrome here, so nothing was tried in a real browser")
    with api.sync_playwright() as playwright:
        # Without a sandbox, since Chromium refuses to start one as root, as in most containers.
        found = playwright.chromium.launch(executable_path=programs[0], args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable]:
    """open_page(path, width=1100, dark=False, fragment="") -> a Playwright page.

    The test fails if a page wrote to the console, threw an error, or asked for anything outside
    the folder that it lies in.
    """
    contexts, said = [], []

    def open_one(path: Path, width: int = 1100, dark: bool = False, fragment: str = ""):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        listen(page, path.resolve().parent.as_uri(), said)
        page.goto(path.resolve().as_uri() + fragment)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not said, f"the page said, or asked for: {said}"


def listen(page, folder: str, said: list[str]) -> None:
    """Note what a page writes to the console, throws, or asks for outside its folder."""

    def asked(request) -> None:
        if not request.url.startswith((folder, "data:", "blob:")):
            said.append(f"request: {request.url}")

    page.on("console", lambda message: said.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", asked)
