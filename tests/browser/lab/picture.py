"""The picture of the lab in the README, made anew: python -m tests.browser.lab.picture"""

import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from course.site import lab
from tests.browser.conftest import NAMES

WIDTH = 1100
TARGET = Path("course/figures/lab.png")


def draw(target: Path) -> None:
    """The experiment "Why there?", all but the small print below it."""
    program = next(path for name in NAMES if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        made = lab.write(Path(folder) / "lab.html", {})
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(f"{made.as_uri()}#experiment=why-there")
        height = page.locator("footer").bounding_box()["y"]
        shown = {"x": 0, "y": 0, "width": WIDTH, "height": height}
        page.screenshot(path=target, clip=shown, full_page=True)
        browser.close()
    few = Image.open(target).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    few.save(target, optimize=True)  # a third of the size; no colour is more than 6 of 255 off


if __name__ == "__main__":
    draw(TARGET)
    print(f"written: {TARGET}, {TARGET.stat().st_size:,} bytes")
