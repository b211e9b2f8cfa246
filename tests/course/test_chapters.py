"""Every chapter runs, its numbers are true, its form is what a reader can bear."""

import ast
import json
import re
from decimal import Decimal

import pytest

from course import cells, desk, evidence, reading
from course.desk import Session
from exercises import stubs

CHAPTERS = stubs.chapters()
WORDS, CLAIMS, LINES = 1300, 6, 120  # of a chapter; in a cell; between two pictures (two screens)


def text_of(chapter: str) -> str:
    return (stubs.ROOT / "course" / f"{chapter}.py").read_text(encoding="utf-8")


def cells_of(chapter: str, kind: str) -> list[str]:
    return [cell.text for cell in cells.cells(text_of(chapter)) if cell.kind == kind]


def calls_in(code: str, name: str) -> list[ast.Call]:
    """The calls of a function in a piece of code; a loop counts once."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == name]


def rounding(typed: float) -> float:
    """How far a value may lie from what is typed of it: half a unit of the last digit, and of the
    fourth, which is the last in evidence.json.
    """
    unit = 10.0 ** Decimal(str(typed)).as_tuple().exponent
    return max(0.501 * unit, 5.01e-4 * abs(typed))


@pytest.fixture
def typed(monkeypatch) -> dict[str, float]:
    """What a chapter types as `measured`, by the text of the claim."""
    promised, found = desk.promised, {}

    def noting(made, measured):
        found[made.text] = measured
        return promised(made, measured)

    monkeypatch.setattr(desk, "promised", noting)
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_runs_and_its_numbers_are_true(chapter, tmp_path, monkeypatch, typed):
    """Claims assert themselves; here also: evidence.json speaks of these very claims, and what is
    typed of a value are its digits.
    """
    monkeypatch.chdir(tmp_path)
    reading.run_chapter(reading.chapter_path(str(int(chapter[2:4]))))
    pictures = list((tmp_path / "figures").glob(f"{chapter}_*.png"))
    assert pictures and all(picture.stat().st_size > 5000 for picture in pictures)
    again = f"make it anew: python -m tests.benchmarks.claims {int(chapter[2:4])}"
    known = evidence.content().get(chapter, {})
    assert set(Session.claims) == set(known), f"evidence.json has other claims; {again}"
    for text, claim in Session.claims.items():
        off = abs(claim.value - known[text]["shipped"])
        assert off <= max(0.002, 0.02 * abs(claim.value)), f"evidence.json, {text!r}: {again}"
    for text, value in typed.items():
        measured = known[text]["shipped"]
        if value is not None:
            assert abs(value - measured) <= rounding(value), f"{text!r}: not {value}: {measured}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_can_be_read_in_half_an_hour(chapter):
    words = sum(len(text.split()) for text in cells_of(chapter, "markdown"))
    assert words <= WORDS, f"{words} words; a chapter has at most {WORDS}"
    for code in cells_of(chapter, "code"):
        claims = len(calls_in(code, "claim")) + len(calls_in(code, "claim_rate"))
        assert claims <= CLAIMS, f"{claims} claims in one cell, which begins {code[:60]!r}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_shows_a_picture_every_two_screens(chapter):
    lines = text_of(chapter).splitlines()
    shown = [i for i, line in enumerate(lines) if re.match(r"\s*show\(", line)]
    for before, after in zip([0, *shown], [*shown, len(lines)]):
        assert after - before <= LINES, f"lines {before + 1} to {after + 1} have no picture"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_is_a_notebook(chapter, tmp_path):
    path = cells.write_notebook(stubs.ROOT / "course" / f"{chapter}.py", tmp_path)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds[0] == "markdown" and kinds.count("code") >= 3
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))
    with pytest.raises(ValueError, match="exists already"):
        cells.write_notebook(stubs.ROOT / "course" / f"{chapter}.py", tmp_path)


# What is said of other models, and of papers

OTHERS = re.compile(
    r"\b(usually|always|most (?:models|seeds)|(?:other|new|more) (?:models|seeds)"
    r"|\d+ of (?:the )?\d+ (?:other |trained |new )?(?:models|seeds))\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_prose_says_of_other_models_only_what_evidence_json_holds(chapter):
    """`in_others` compares its second argument with the file; the prose must repeat it."""
    says = set()
    for code in cells_of(chapter, "code"):
        says |= {call.args[1].value for call in calls_in(code, "in_others")}
    for text in cells_of(chapter, "markdown"):
        for paragraph in text.split("\n\n"):
            found = OTHERS.search(paragraph)
            said = any(count in " ".join(paragraph.split()) for count in says)
            assert not found or said, f"{found[0]!r} without a count from in_others: {paragraph}"


# "Olsson et al. 2022", "Rushing & Nanda 2024", "(Haufe 2014)": a name or two, then a year.
CITED = re.compile(r"\b([A-Z][\w-]+)(?: et al\.| & [A-Z]\w+| and [A-Z]\w+)?,? \(?((?:19|20)\d\d)\b")
MONTHS = {"January", "June", "July", "Python"}


@pytest.mark.parametrize("folder", ["course", "solutions", "minitransformer"])
def test_a_citation_has_a_title(folder):
    """In each file, a work that is cited is given once with its title, in quotation marks."""
    missing = []
    for path in sorted((stubs.ROOT / folder).rglob("*.py")):
        text = re.sub(r"\n\s*#?\s*", " ", path.read_text(encoding="utf-8"))
        for author, year in sorted(set(CITED.findall(text))):
            titled = rf'{author}(?: et al\.| & \w+| and \w+)?,? \(?{year}\)?,? ["“]'
            if author not in MONTHS and not re.search(titled, text):
                missing.append(f"{path.relative_to(stubs.ROOT)}: {author} {year}")
    assert not missing, "\n".join(missing)
