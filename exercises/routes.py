"""Routes through the course: which exercises, which parts of the text, and how long both take.

Their home is hints.toml: under [routes.NAME] stand what a route is about and, by chapter, its
`exercises` and the headings that are to be `read`. Where it says neither, it takes all of them.
"""

import functools
import re

from . import stubs

Pair = tuple[str, str]  # (chapter, exercise)

ALL = "all"  # the route of those who did not ask for one
START = ""  # what a chapter says before its first heading: every route reads that
WORDS = 220  # read in a minute
PICTURE, CLAIM = 1, 0.1  # minutes for a picture, and for a number with its control
HEADING = re.compile(r"# ##? (?!\d+\. )(.+)")  # not the chapter's title, "# # 7. What a head does"


def names() -> list[str]:
    """The routes that there are, the shortest way first."""
    return list(stubs.tables()["routes"])


def table(route: str) -> dict:
    """What hints.toml says of a route. Raises ValueError if there is none of this name."""
    if route not in names():
        raise ValueError(f"there is no route {route!r}. Routes: {', '.join(names())}.")
    return stubs.tables()["routes"][route]


def about(route: str) -> str:
    """A route in one sentence."""
    return table(route)["about"]


def parts(route: str) -> dict[str, dict]:
    """The chapters of a route, in order, each with what the route says of it."""
    said = table(route)
    named = [chapter for chapter in stubs.chapters() if chapter in said]
    return {chapter: said.get(chapter, {}) for chapter in named or stubs.chapters()}


def exercises(route: str) -> list[Pair]:
    """The (chapter, exercise) pairs of a route, in the order in which they are done."""
    found = []
    for chapter, part in parts(route).items():
        every = stubs.exercise_names(chapter)
        wanted = part.get("exercises", every)
        found += [(chapter, name) for name in every if name in wanted]
    return found


def of(chapter: str, name: str) -> list[str]:
    """The routes that an exercise is on."""
    return [route for route in names() if (chapter, name) in exercises(route)]


@functools.cache
def sections(chapter: str) -> dict[str, float]:
    """The parts of a chapter's text, START first, then by heading, and the minutes to read each."""
    path = stubs.ROOT / "course" / f"{chapter}.py"
    minutes, title, prose = {START: 0.0}, START, False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# %%"):
            prose = "[markdown]" in line
        elif prose and HEADING.match(line):
            title = HEADING.match(line)[1]
            minutes[title] = 0.0
        elif prose:
            minutes[title] += len(line[1:].split()) / WORDS
        elif line.lstrip().startswith("show("):
            minutes[title] += PICTURE
        elif line.lstrip().startswith(("claim(", "claim_rate(")):
            minutes[title] += CLAIM
    return minutes


def to_read(route: str, chapter: str) -> list[str]:
    """The parts of a chapter that a route reads, as `sections` names them; none: only to write."""
    every = list(sections(chapter))
    wanted = parts(route)[chapter].get("read", every)
    return [title for title in every if title in [START, *wanted] and wanted]


def reading(route: str, chapter: str) -> int:
    """Minutes to read what a route reads of a chapter: its words, pictures and claims."""
    return round(sum(sections(chapter)[title] for title in to_read(route, chapter)))


def writing(pairs: list[Pair]) -> int:
    """Minutes to write these exercises."""
    hints = stubs.hints()
    return sum(hints[chapter]["exercises"][name]["minutes"] for chapter, name in pairs)


def minutes_of(route: str, chapter: str) -> int:
    """Minutes for a chapter on a route: to read, and to write its exercises."""
    if route == ALL:
        return stubs.hints()[chapter]["minutes"]
    mine = [pair for pair in exercises(route) if pair[0] == chapter]
    return reading(route, chapter) + writing(mine)


def minutes(route: str) -> int:
    """Minutes for a route in all."""
    return sum(minutes_of(route, chapter) for chapter in parts(route))
