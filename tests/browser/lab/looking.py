"""What the tests of the lab read off the page."""


def loss(page) -> float:
    return float(page.inner_text("#loss-is").split()[0])


def cell(page, row: int, key: int):
    return page.locator(f'#grid [data-row="{row}"][data-column="{key}"]')


def word(page, row: int):
    """The word of a row, as something to click."""
    return page.locator(f'#grid .name[data-row="{row}"]')


def marks(page) -> str:
    return "".join(page.locator("#grid .mark").all_inner_texts())


def address(page) -> str:
    """It follows the state after a moment."""
    page.wait_for_timeout(250)
    return page.evaluate("location.hash")


def until(page, holds) -> None:
    """Wait until holds() is true, at most five seconds. (The page's own rules forbid the
    browser's way to wait for an expression: it would have to evaluate text.)
    """
    for _ in range(100):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError("waited in vain")
