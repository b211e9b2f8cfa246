"""What the lab costs and how near it is to PyTorch: python -m tests.browser.lab.measured"""

import shutil
import tempfile
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright

from course.desk import print_table
from course.site import lab
from tests.browser.conftest import NAMES

from .test_parity import EACH, KINDS, MODELS, largest_differences

PASSES, KEYSTROKES = 200, 60

# Both in ms. A keystroke is one more sign in a full text, up to the layout of the page.
FORWARD = """([name, passes]) => {
  const { model } = lab.models[name], tokens = Array.from({ length: 32 }, (_, i) => i);
  for (let i = 0; i < passes; i++) lab.runBoth(model, tokens, {});
  const began = performance.now();
  for (let i = 0; i < passes; i++) lab.runBoth(model, tokens, {});
  return (performance.now() - began) / passes;
}"""
KEYSTROKE = """(count) => {
  const box = document.getElementById('text'), began = performance.now();
  for (let i = 0; i < count; i++) {
    box.value = 'a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d ' + i;
    box.dispatchEvent(new Event('input'));
    document.body.offsetHeight;
  }
  return (performance.now() - began) / count;
}"""


def measure(page) -> None:
    rows = []
    for name in MODELS:
        worst = largest_differences(page, name, EACH)
        forward = page.evaluate(FORWARD, [name, PASSES])
        rows.append([f"{worst[kind]:.1e}" for kind in KINDS] + [f"{forward:.1f} ms"])
    print_table(f"{EACH} sequences each", MODELS, [*KINDS, "forward pass"], rows)
    print(f"a keystroke: {page.evaluate(KEYSTROKE, KEYSTROKES):.0f} ms")


def main() -> None:
    torch.set_num_threads(1)
    program = next(path for name in NAMES if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        made = lab.write(Path(folder) / "lab.html", {})
        print(f"the file: {made.stat().st_size:,} bytes")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(made.as_uri())
        measure(page)
        browser.close()


if __name__ == "__main__":
    main()
