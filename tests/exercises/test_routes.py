"""Routes: each can be gone without what it leaves out, and the chapters say what it skips."""

import ast
import functools
import re

import pytest

from course import reading
from exercises import __main__ as desk
from exercises import progress, routes, runner, stubs, watch
from exercises.commands import find
from tests.exercises.learner import CHAPTER, RIGHT, Learner

WAYS = [name for name in routes.names() if name != routes.ALL]
CHAPTERS = stubs.chapters()
SKIP = re.compile(r"\*Route `(\w+)`: on to (.+?)\.\*")


def source(chapter: str) -> str:
    return stubs.solution_path(chapter).read_text(encoding="utf-8")


# What stands in hints.toml


def test_every_exercise_is_on_the_route_all_and_the_others_are_shorter():
    every = [(chapter, name) for chapter in CHAPTERS for name in stubs.exercise_names(chapter)]
    assert routes.exercises(routes.ALL) == every
    assert routes.names() == ["core", "causes", "arithmetic", "all"]
    for route in WAYS:
        assert set(routes.exercises(route)) < set(every)
        assert 0 < routes.minutes(route) < routes.minutes(routes.ALL)


@pytest.mark.parametrize("route", WAYS)
def test_a_route_names_chapters_exercises_and_headings_that_are_there(route):
    table = dict(routes.table(route))
    assert table.pop("about").endswith(".")
    for chapter, part in table.items():
        assert chapter in CHAPTERS, f"routes.{route}: there is no chapter {chapter}"
        assert set(part) <= {"exercises", "read"}, f"routes.{route}.{chapter}: {list(part)}"
        names, headings = stubs.exercise_names(chapter), list(routes.sections(chapter))
        for wanted, known in (("exercises", names), ("read", headings)):
            listed = part.get(wanted, [])
            in_order = [name for name in known if name in listed]
            assert listed == in_order, f"routes.{route}.{chapter}, {wanted}: not there, or no order"


def test_core_is_an_afternoon():
    """About fifteen exercises, three hours to write them, one to read, from all that is core."""
    core = routes.exercises("core")
    assert 13 <= len(core) <= 17 and routes.writing(core) <= 180
    assert routes.minutes("core") <= 250
    assert {int(chapter[2:4]) for chapter, _ in core} == {1, 2, 3, 5, 6, 7, 8, 9}


# What a route leaves out is not needed


def names_in(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


@functools.cache
def known(chapter: str) -> tuple[dict[str, ast.FunctionDef], list[str]]:
    """The functions of a solution file, and which of them are exercises."""
    return stubs.functions(source(chapter)), stubs.exercise_names(chapter)


@functools.cache
def homes(chapter: str) -> dict[str, str]:
    """Where the functions come from that a solution file may call: name -> chapter."""
    found = dict.fromkeys(known(chapter)[0], chapter)
    for node in ast.parse(source(chapter)).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("solutions."):
            home = node.module.removeprefix("solutions.")
            found |= dict.fromkeys([alias.name for alias in node.names], home)
    return found


@functools.cache
def exercises_needed(chapter: str, name: str) -> set[tuple[str, str]]:
    """The exercises, of any chapter, that a function of a solution file calls, and those that what
    it calls and was given with it calls. (What a given class calls depends on its use: the learner
    below finds out.)
    """
    found = set()
    for called in (names_in(known(chapter)[0][name]) & set(homes(chapter))) - {name}:
        home = homes(chapter)[called]
        functions, exercises = known(home)
        if called in exercises:
            found.add((home, called))
        elif called in functions:
            found |= exercises_needed(home, called)
    return found


@pytest.mark.parametrize("route", routes.names())
def test_an_exercise_calls_only_what_comes_before_it_on_the_route(route):
    done = []
    for chapter, name in routes.exercises(route):
        needs = exercises_needed(chapter, name) - set(done) - {(chapter, name)}
        assert not needs, f"route {route}: {name} of {chapter} calls {sorted(needs)}"
        done.append((chapter, name))


def test_a_call_through_a_given_function_is_found():
    assert ("ch09_ablation", "mean_ablate") in exercises_needed("ch13_faithfulness", "run_circuit")
    needed = exercises_needed("ch05_finding_heads", "find_heads")
    assert ("ch05_finding_heads", "duplicate_token_score") in needed


class Kept(list):
    """Reports of runner.py, run in this very process."""

    def add(self, **report) -> None:
        self.append(report)


def answered(chapter: str, names: list[str]) -> str:
    """A chapter's exercise file in which only these are written, as the solutions have them."""
    lines = source(chapter).splitlines()
    for name, node in reversed(stubs.functions(source(chapter)).items()):
        if name in stubs.exercise_names(chapter) and name not in names:
            stub = f"    raise NotImplementedError({name!r})"
            lines[node.body[0].end_lineno : node.end_lineno] = [stub]
    return "\n".join(lines) + "\n"


IN_PART = [(way, chapter) for way in WAYS for chapter, part in routes.parts(way).items() if part]


@pytest.mark.parametrize("route, chapter", IN_PART)
def test_a_route_can_be_written_without_the_rest(route, chapter, tmp_path, monkeypatch):
    """All checks of a route's exercises pass while those that it leaves out are stubs."""
    monkeypatch.setattr(stubs, "FOLDER", tmp_path)
    mine = [name for where, name in routes.exercises(route) if where == chapter]
    stubs.exercise_path(chapter).write_text(answered(chapter, mine), encoding="utf-8")
    assert stubs.attempted(chapter) == mine
    reports = Kept()
    runner.run_chapter(chapter, mine, {}, reports)
    done = [report for report in reports if "done" in report]
    assert len(done) == len(mine)
    for report in done:
        assert report["passed"] and not report["message"], report["message"]


@pytest.mark.parametrize("route", WAYS)
def test_a_hint_speaks_of_no_exercise_that_the_route_leaves_out(route):
    """`forward` and `centre` are English words, too: only what has a `_` is surely a name."""
    names, done = {name for _, name in routes.exercises(routes.ALL) if "_" in name}, set()
    for chapter, name in routes.exercises(route):
        done.add(name)
        for hint in stubs.hints()[chapter]["exercises"][name]["hints"]:
            unknown = set(re.findall(r"\w+", hint)) & names - done
            assert not unknown, f"route {route}, a hint of {name}: {sorted(unknown)}"


# What the chapters say of it


def skips_said(chapter: str) -> dict[tuple[str, str], str]:
    """(route, heading) -> where to go on, by the lines that begin with *Route."""
    title, found = routes.START, {}
    text = (stubs.ROOT / "course" / f"{chapter}.py").read_text(encoding="utf-8")
    for line in text.splitlines():
        heading = routes.HEADING.match(line)
        title = heading[1] if heading else title
        for route, target in SKIP.findall(line):
            found[route, title] = target
    return found


def skips_made(route: str) -> dict[tuple[str, str], str]:
    """(chapter, heading) -> where a route goes on, wherever it leaves the text."""
    mine, found, left = routes.parts(route), {}, None
    places = [(chapter, title) for chapter in CHAPTERS for title in routes.sections(chapter)]
    read = {chapter: routes.to_read(route, chapter) for chapter in mine}
    first = next(chapter for chapter in mine if read[chapter])
    for chapter, title in places[places.index((first, routes.START)) :]:
        if title in read.get(chapter, []):
            if left:
                same = chapter == left[0]
                found[left] = f'"{title}"' if same else f"chapter {int(chapter[2:4])}"
            left = None
        else:
            left = left or (chapter, title)
    return found


@pytest.mark.parametrize("route", WAYS)
def test_the_chapters_say_where_a_route_skips(route):
    made = skips_made(route)
    said = {
        (chapter, title): target
        for chapter in CHAPTERS
        for (of, title), target in skips_said(chapter).items()
        if of == route
    }
    assert said == made, f"what chapters say of the route {route}, and what hints.toml says"


@pytest.mark.parametrize("route", WAYS[1:])
def test_a_chapter_that_is_all_of_a_route_says_so(route):
    for chapter, part in routes.parts(route).items():
        text = (stubs.ROOT / "course" / f"{chapter}.py").read_text(encoding="utf-8")
        assert (f"# *Route: `{route}`.*\n" in text) == (not part), chapter


# At the desk


@pytest.fixture
def learner(tmp_path, monkeypatch) -> Learner:
    return Learner(tmp_path, monkeypatch)


@pytest.fixture
def short_way(monkeypatch) -> list[str]:
    """A route on which two of chapter 1's exercises are left."""
    names = ["attention_pattern", "forward"]
    part = {"exercises": names, "read": ["Who looks at whom?"]}
    tables = {"short": {"about": "A test.", CHAPTER: part}, "all": {"about": "Everything."}}
    real = stubs.tables()
    monkeypatch.setattr(stubs, "tables", lambda: real | {"routes": tables})
    return names


@pytest.fixture
def passing(monkeypatch) -> set[str]:
    """The exercises that pass, whatever stands in the files."""
    names = set()

    def run(wanted: list) -> dict:
        return {pair: progress.Outcome(passed=int(pair[1] in names)) for pair in wanted}

    monkeypatch.setattr(progress, "run", run)
    return names


def test_progress_shows_the_route_what_is_next_and_what_is_left(
    learner, short_way, passing, capsys
):
    assert desk.main(["--route", "short"]) == 0
    out = capsys.readouterr().out
    assert "min  ··\n" in out and "next: attention_pattern" in out
    both = routes.minutes("short")
    assert f"left of the route short: about {both} minutes, exercises: 2" in out
    passing.add("attention_pattern")
    assert desk.main(["--route", "short"]) == 0
    out = capsys.readouterr().out
    assert "min  ✓·\n" in out and "next: forward" in out
    assert f"left of the route short: about {both - 15} minutes, exercises: 1" in out
    assert desk.main([]) == 0
    out = capsys.readouterr().out
    assert "min  ✓···\n" in out and "a shorter way: --route short" in out


def test_a_route_that_is_done_says_so(learner, short_way, passing, capsys):
    passing.update(short_way)
    assert desk.main(["--route", "short"]) == 0
    assert "Everything on the route short passes." in capsys.readouterr().out


def test_hint_is_about_the_next_of_the_route(learner, short_way, passing, capsys):
    passing.add("attention_pattern")
    assert desk.main(["hint", "--route", "short"]) == 0
    assert "forward, hint 1" in capsys.readouterr().out


def test_a_route_may_stand_before_the_command_or_after_it():
    for words in (["--route", "core", "check", "7"], ["check", "7", "--route", "core"]):
        args = desk.parser().parse_args(words)
        assert (args.route, args.command, args.name) == ("core", "check", "7")
    assert desk.parser().parse_args(["check"]).route == routes.ALL


def test_check_leaves_out_what_the_route_leaves_out(learner, short_way, capsys):
    learner.answers(RIGHT)
    learner.answers("return x", name="head_output")
    assert desk.main(["check"]) == 1 and "head_output" in capsys.readouterr().out
    assert desk.main(["check", "--route", "short"]) == 0
    out = capsys.readouterr().out
    assert "✓ attention_pattern" in out and "head_output" not in out
    assert desk.main(["check", "head_output", "--route", "short"]) == 2
    assert "head_output is not on the route short" in capsys.readouterr().err


def test_the_key_n_goes_along_the_route(learner, short_way, capsys):
    at = watch.Watch(None, "short")
    assert at.wanted == find(None, "short") == [(CHAPTER, name) for name in short_way]
    at.press("n")
    assert at.current == (CHAPTER, "forward")
    at.press("n")
    assert "this is the last one" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [[], ["check"], ["hint"], ["watch"], ["reset", "1"]], ids=lambda words: " ".join(words)
)
def test_an_unknown_route_gets_a_sentence_with_the_list(capsys, words):
    assert desk.main(["--route", "scenic", *words]) == 2
    said = capsys.readouterr().err
    assert said == "there is no route 'scenic'. Routes: core, causes, arithmetic, all.\n"


def test_the_list_of_chapters_says_what_to_read(learner, short_way, passing, capsys):
    reading.list_chapters("short")
    out = capsys.readouterr().out
    assert "exercises 0 of 2" in out and "read:  the introduction\n             Who looks" in out
    assert "write: attention_pattern, forward\n" in out
    assert "Looking inside: hooks" not in out
    reading.list_chapters()
    assert "exercises 0 of 4" in capsys.readouterr().out


def test_an_exercise_knows_its_routes():
    assert routes.of("ch09_ablation", "zero_ablate") == ["core", "causes", "all"]
    assert routes.of("ch08_composition", "stretch_stream") == ["all"]
