"""All pages, built as a reader builds them: links, form, and what one does with them."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from exercises import stubs

ROOT = stubs.ROOT


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder that `python -m course site` writes."""
    for name in ("markdown_it", "pygments"):
        pytest.importorskip(name, reason="no pages here: pip install -e '.[site]'")
    folder = tmp_path_factory.mktemp("pages")
    command = [sys.executable, "-m", "course", "site"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert [path.name for path in (folder / "site").rglob("*.png")] == ["lab.png"]  # all else: SVG
    return folder / "site"


class Links(HTMLParser):
    """What a page names (ids) and where it points (addresses)."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.addresses, self.pictures = [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        said = dict(attributes)
        self.ids += [said[name] for name in ("id",) if name in said]
        self.addresses += [said[name] for name in ("href", "src") if name in said]
        if tag == "img":
            self.pictures.append(said.get("alt", ""))


@pytest.fixture(scope="session")
def links(site) -> dict[Path, Links]:
    pages = [path for path in site.rglob("*.html") if path.name != "lab.html"]
    return {path: Links(path) for path in pages}


def test_every_link_leads_somewhere_inside(site, links):
    for page, found in links.items():
        for address in found.addresses:
            parts = urlsplit(address)
            assert not parts.scheme and not parts.netloc, f"{page.name} asks for {address}"
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.is_file(), f"{page.name}: {address} leads nowhere"
            if parts.fragment and target in links:
                assert parts.fragment in links[target].ids, f"{page.name}: no anchor {address}"


def test_an_anchor_stands_once_on_its_page(links):
    for page, found in links.items():
        assert len(found.ids) == len(set(found.ids)), f"{page.name} has an id twice"


def test_every_address_that_the_search_knows_exists(site, links):
    text = (site / "index.js").read_text(encoding="utf-8")
    found = re.findall(r'"([\w/]+\.html)(?:#([^"]+))?"', text)
    assert len(found) > 300  # chapters, parts, exercises, terms
    for name, anchor in found:
        page = links[site / name]
        assert not anchor or anchor in page.ids, f"search: no {name}#{anchor}"


def test_every_exercise_has_one_card(links, site):
    for chapter in stubs.chapters():
        ids = links[site / f"{chapter}.html"].ids
        missing = [name for name in stubs.exercise_names(chapter) if name not in ids]
        assert not missing, f"{chapter}: the text does not ask for {missing} in bold"


def test_every_picture_says_what_is_seen(links):
    every = [(page.name, alt) for page, found in links.items() for alt in found.pictures]
    assert len(every) > 90
    assert not [page for page, alt in every if len(alt.split()) < 3]


def test_the_pages_are_valid_html(links):
    html5lib = pytest.importorskip(
        "html5lib", reason="no html5lib here: pip install -e '.[browser]'"
    )
    for page in links:
        parser = html5lib.HTMLParser(strict=True)
        parser.parse(page.read_text(encoding="utf-8"))


# As people use them


def test_search_finds_titles_terms_and_exercises(site, open_page):
    page = open_page(site / "index.html")
    for words, address in [("which heads", "ch05"), ("copying_score", "#copying_score")]:
        page.get_by_role("searchbox").fill(words)
        first = page.locator("#found a").first
        assert address in first.get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ch07_qk_ov_circuits.html#copying_score")
    page.get_by_role("searchbox").fill("no such thing at all")
    assert "Nothing" in page.locator("#found").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#found").is_hidden()


def test_answers_are_closed_until_they_are_asked_for(site, open_page):
    page = open_page(site / "ch05_finding_heads.html")
    answers = page.locator("details.answer")
    assert answers.count() >= 4 and page.locator("details.answer[open]").count() == 0
    page.get_by_label("open all answers").check()
    assert page.locator("details.answer[open]").count() == answers.count()


@pytest.mark.parametrize("width", [1100, 400])
def test_no_page_is_wider_than_the_window(site, open_page, links, width):
    page = open_page(site / "index.html", width)
    for path in links:
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name


LINES = """cells => cells.map((cell) => {
  const text = document.createRange();
  text.selectNodeContents(cell);
  return [cell.innerText, new Set([...text.getClientRects()].map((box) => box.top)).size];
})"""


@pytest.mark.parametrize("width", [1100, 400])
def test_no_number_of_a_claim_and_no_arrow_is_broken(site, open_page, links, width):
    page = open_page(site / "index.html", width)
    for path in [path for path in links if path.parent == site]:
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        whole = '.claims td[data-of="value"], .claims td[data-of="the text says"], span.whole'
        broken = [text for text, lines in page.locator(whole).evaluate_all(LINES) if lines > 1]
        assert not broken, (path.name, broken)


def test_formulas_are_as_large_as_code(site, open_page):
    """Indented blocks of a text are code within pre: small once, not twice."""
    page = open_page(site / "ch06_logit_attribution.html")
    size = "nodes => nodes.map((node) => getComputedStyle(node).fontSize)"
    formulas = set(page.locator("main > pre > code, .answer > pre > code").evaluate_all(size))
    assert formulas == set(page.locator(".code .python pre").evaluate_all(size))


def test_dark_follows_the_system(site, open_page):
    """Light text on a dark ground, and the other way round."""
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    assert max(open_page(site / "index.html", dark=True).evaluate(ground)) < 60
    assert min(open_page(site / "index.html").evaluate(ground)) > 200


def test_one_goes_from_chapter_to_chapter(site, open_page):
    page = open_page(site / "index.html")
    page.get_by_role("link", name=stubs.title(stubs.chapters()[0])).first.click()
    for chapter in stubs.chapters()[1:3]:
        page.get_by_role("link", name=f"{stubs.title(chapter)} →").click()
        assert page.url.endswith(f"{chapter}.html")
