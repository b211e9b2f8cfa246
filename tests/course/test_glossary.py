"""The glossary: each term once, in a line, and the chapter says it where the entry points."""

import functools
import re
import tomllib

import pytest

from course import cells
from exercises import stubs

GLOSSARY = stubs.ROOT / "course" / "site" / "glossary.toml"
TERMS = tomllib.loads(GLOSSARY.read_text(encoding="utf-8"))  # a term that comes twice: an error
CHAPTERS = [path.stem for path in sorted((stubs.ROOT / "course").glob("ch*.py"))]
LONGEST = 160  # characters of a line
TITLE = ""  # stands for the heading of what comes before the first one


def anchor(words: str) -> str:
    """What a heading is called in an address: the rule of course.site.chapter.slug, which needs
    libraries that these tests do without.
    """
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def folded(text: str) -> str:
    return " ".join(text.split())


@functools.cache
def sections(chapter: str) -> list[tuple[str, str]]:
    """A chapter's headings, its title first, each with the text below it."""
    path = stubs.ROOT / "course" / f"{chapter}.py"
    found = cells.cells(path.read_text(encoding="utf-8"))
    text = "\n\n".join([cell.text for cell in found if cell.kind == "markdown"])
    pieces = re.split(r"^#+ (.*)$", text, flags=re.MULTILINE)[1:]  # heading, text, heading, text
    return [(words, folded(below)) for words, below in zip(pieces[::2], pieces[1::2])]


@functools.cache
def parts_of(chapter: str) -> dict[str, str]:
    """The anchor of each heading, and the text below it, in the chapter's order."""
    (_, opening), *others = sections(chapter)
    return {TITLE: opening} | {anchor(words): text for words, text in others}


@pytest.mark.parametrize("term", TERMS)
def test_a_term_means_something_in_a_line(term):
    means = TERMS[term]["means"]
    assert means == folded(means) and 0 < len(means) <= LONGEST, f"{len(means)} characters"
    assert not means.endswith((".", ";", ",")), "a line, without a full stop"
    assert means.count("`") % 2 == 0 and not re.search(r"[<>]|\]\(", means), "words and `code`"
    assert not means.lower().startswith(term.lower()), "a term does not explain itself"


@pytest.mark.parametrize("term", TERMS)
def test_the_chapter_says_it_where_the_entry_points(term):
    entry = TERMS[term]
    assert set(entry) <= {"means", "chapter", "heading", "at"}
    assert entry["chapter"] in CHAPTERS, "no such chapter"
    parts, heading, words = parts_of(entry["chapter"]), entry.get("heading", TITLE), entry["at"]
    assert heading in parts, f"{entry['chapter']} has no such heading; it has {list(parts)}"
    elsewhere = [name for name in parts if words in parts[name]]
    assert words and words in parts[heading], f"{words!r} is not there; it is in {elsewhere}"


def test_a_term_has_an_address_of_its_own():
    addresses = [anchor(term) for term in TERMS]
    assert all(addresses) and len(set(addresses)) == len(addresses)


def test_the_terms_stand_in_the_order_of_the_chapters():
    places = {}
    for term, entry in TERMS.items():
        parts, heading = parts_of(entry["chapter"]), entry.get("heading", TITLE)
        at = parts[heading].find(entry["at"])
        places[term] = (entry["chapter"], list(parts).index(heading), at)
    assert list(places) == sorted(places, key=places.get)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_heading_is_found_by_its_anchor(chapter):
    """With two headings of one anchor, an entry would point at the first, whichever it means."""
    anchors = [anchor(words) for words, _ in sections(chapter)]
    assert all(anchors) and len(set(anchors)) == len(anchors)


# "is called a *gauge*", "This is **causal scrubbing**"
NAMED = re.compile(r"(?:called|This is|That is)(?: an?| the)? (\*{1,2})([^*`]+)\1")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_a_chapter_gives_a_name_is_a_term(chapter):
    for _, text in sections(chapter):
        for _, name in NAMED.findall(text):
            assert name in TERMS, f"{name!r} is not in {GLOSSARY.name}"


def test_the_pages_make_the_same_anchors():
    for library in ("markdown_it", "pygments"):
        pytest.importorskip(library, reason="pages need the extra: pip install -e '.[site]'")
    from course.site.chapter import slug

    for chapter in CHAPTERS:
        for words, _ in sections(chapter):
            assert slug(words) == anchor(words)
