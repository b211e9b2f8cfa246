"""The promises of the README and of the tree, held by tests: one home for each thing, in step."""

import ast
import importlib
import os
import re

import pytest

from exercises import stubs
from exercises.stubs import hints

ROOT = stubs.ROOT
CHAPTERS = stubs.chapters()
OUTSIDE = {".venv", "runs", "build", "site"}
PYTHON = [p for p in ROOT.rglob("*.py") if not set(p.relative_to(ROOT).parts) & OUTSIDE]
PROSE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "tests/benchmarks/README.md")]


def text_of(path) -> str:
    return path.read_text(encoding="utf-8")


def short(path) -> str:
    return path.relative_to(ROOT).as_posix()


def checks_of(chapter: str) -> list:
    module = importlib.import_module(f"tests.exercises.test_{chapter}")
    return [test for test in vars(module).values() if hasattr(test, "exercise")]


# The tree


def test_one_stem_per_chapter_in_every_folder():
    for folder, prefix in (("course", ""), ("exercises", ""), ("tests/exercises", "test_")):
        stems = {path.stem.removeprefix(prefix) for path in (ROOT / folder).glob(f"{prefix}ch*.py")}
        assert stems == set(CHAPTERS), f"{folder} and solutions/ do not have the same chapters"
    numbers = {chapter[:4] for chapter in CHAPTERS}
    for folder in ("course/pictures", "tests/exercises/oracles"):
        found = {path.stem[:4] for path in (ROOT / folder).glob("ch*.py")}
        assert found <= numbers, f"{folder} has files of a chapter that is not there"


def most_lines(path) -> int | None:
    """How long a file may be: a module 300 lines, a file of checks 400, a chapter as it likes."""
    if short(path.parent) == "course" and path.stem.startswith("ch"):
        return None  # tests/course holds a chapter's limits: words, claims, pictures
    return 400 if short(path.parent) == "tests/exercises" else 300


def test_no_file_is_too_long():
    counts = {path: len(text_of(path).splitlines()) for path in PYTHON}
    long = {short(path): n for path, n in counts.items() if n > (most_lines(path) or n)}
    assert not long


def test_lines_end_at_column_100():
    for path in [*PYTHON, *PROSE]:
        for number, line in enumerate(text_of(path).splitlines(), 1):
            free = line.startswith(("|", "![")) or "](http" in line  # tables and links are one line
            assert len(line) <= 100 or free, f"{short(path)}, line {number}: {len(line)} columns"


def test_statements_are_plain():
    """No unpacking of a generator, no [x] * condition, no `raise a or b`, nothing switched off."""
    for path in PYTHON:
        assert not re.search(r"# (noqa|fmt: ?(off|skip))", text_of(path)), short(path)
        for node in ast.walk(ast.parse(text_of(path))):
            place = f"{short(path)}, line {getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Assign) and isinstance(
                node.value, ast.GeneratorExp | ast.ListComp
            ):
                names = getattr(node.targets[0], "elts", [])  # one name alone: it must be the only
                assert len(names) < 2, f"{place}: a generator is unpacked into names"
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
                condition = isinstance(node.right, ast.Compare | ast.BoolOp)
                assert not (isinstance(node.left, ast.List) and condition), f"{place}: [x] * test"
            if isinstance(node, ast.Raise):
                assert not isinstance(node.exc, ast.BoolOp | ast.IfExp), f"{place}: raise a or b"


def test_text_names_its_encoding():
    """Without one, Windows would take it for cp1252. Ruff looks at files; here also at processes,
    and at paths whose type it cannot see.
    """
    for path in PYTHON:
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.Call):
                method = getattr(node.func, "attr", "")
                named = {keyword.arg for keyword in node.keywords}
                process = method in ("run", "Popen", "check_output") and "text" in named
                is_text = process or method in ("read_text", "write_text")
                place = f"{short(path)}, line {node.lineno}"
                assert "encoding" in named or not is_text, f"{place}: no encoding"


def test_no_test_looks_at_the_clock():
    """A busy machine would fail it. What is fast enough is measured in tests/benchmarks. (To wait
    with a limit is another thing: that takes `monotonic`.)
    """
    clocks = {"perf_counter", "process_time", "perf_counter_ns", "process_time_ns"}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(text_of(path))):
            name = getattr(node, "attr", getattr(node, "id", ""))
            assert name not in clocks, f"{short(path)}, line {node.lineno}: {name}"


def test_no_function_in_two_places():
    """A name means one thing. Exercise files repeat solutions; programs have a `main` each."""
    homes = {}
    for folder in ("minitransformer", "solutions", "course", "course/pictures"):
        for path in (ROOT / folder).glob("*.py"):
            for node in ast.parse(text_of(path)).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name != "main":
                    homes.setdefault(node.name, []).append(short(path))
    assert not {name: places for name, places in homes.items() if len(places) > 1}


# Exercises


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_exercise_file_is_its_solution_without_the_answers(chapter):
    stub = stubs.stub_text(text_of(stubs.solution_path(chapter)))
    mine = text_of(stubs.exercise_path(chapter))
    if os.environ.get("CI"):
        assert mine == stub, "regenerate with: python -m exercises.stubs"
    # a learner's file may differ, but not in what is asked for
    for name, node in stubs.functions(stub).items():
        written = stubs.functions(mine).get(name)
        assert written, f"{name} is missing from exercises/{chapter}.py: python -m exercises.stubs"
        assert ast.unparse(written.args) == ast.unparse(node.args)
        assert ast.get_docstring(written) == ast.get_docstring(node)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_exercise_starts_unsolved(chapter):
    solution = text_of(stubs.solution_path(chapter))
    stub, names = stubs.functions(stubs.stub_text(solution)), stubs.exercise_names(chapter)
    assert names, f"solutions/{chapter}.py has no `# YOUR CODE: ...` line"
    assert all(stubs.is_stub(stub[name]) for name in names)
    cut = re.search(r"# YOUR CODE: .*\n *(#.*)", solution)
    assert not cut, f"a stub keeps one line of `# YOUR CODE`, not {cut and cut[1]!r}"
    assert not any(stubs.is_stub(node) for node in stubs.functions(solution).values())


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_exercise_has_hints_minutes_and_a_check(chapter):
    assert chapter in hints(), f"exercises/hints.toml has no table [{chapter}]"
    names, entry = stubs.exercise_names(chapter), hints()[chapter]
    assert list(entry["exercises"]) == names, "hints.toml lists other exercises, or another order"
    for name, exercise in entry["exercises"].items():
        assert 0 < exercise["minutes"] <= 25 and exercise["difficulty"] in (1, 2, 3), name
        assert len(exercise["hints"]) >= 2 and all(exercise["hints"]), name
    checked = {test.exercise for test in checks_of(chapter)}
    assert checked == set(names), "exercises without a check, or checks without an exercise"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_minutes_of_a_chapter_add_up(chapter):
    """The chapter's first paragraph says "25 minutes to read, 110 with the exercises"."""
    text = text_of(ROOT / "course" / f"{chapter}.py")
    said = re.search(r"(\d+) minutes to read, (\d+) with the exercises", text)
    assert said, f"course/{chapter}.py does not say '... minutes to read, ... with the exercises'"
    entry = hints()[chapter]
    writing = sum(exercise["minutes"] for exercise in entry["exercises"].values())
    total = int(said[1]) + writing
    assert total == int(said[2]) == entry["minutes"], f"{said[1]} to read + {writing} to write"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_exercise_rejects_a_named_mistake(chapter):
    """The checks prove that each mistake is refused; here: that there are mistakes at all."""
    mistakes = {name: set() for name in stubs.exercise_names(chapter)}
    for test in checks_of(chapter):
        mistakes[test.exercise] |= set(test.mistakes)
    assert all(mistakes.values()), f"no named mistake: {[n for n in mistakes if not mistakes[n]]}"


def test_hints_and_chapters_are_in_order():
    assert list(hints()) == CHAPTERS


# The README


def section(title: str) -> str:
    """A part of the README, from its heading to the next."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", text_of(ROOT / "README.md"), re.M | re.S)
    assert found, f"the README has no section '{title}'"
    return found[1]


def test_the_readme_lists_the_chapters_by_their_titles():
    rows = re.findall(r"^\| (\d+) \| (.+?) \| ", section("What is inside"), re.MULTILINE)
    wanted = [(str(int(chapter[2:4])), stubs.title(chapter)) for chapter in CHAPTERS]
    assert rows == wanted, "the table under 'What is inside' must have each chapter's title"


def test_the_readme_counts_right():
    tests = [test for chapter in CHAPTERS for test in checks_of(chapter)]
    exercises = {test.exercise for test in tests}
    mistakes = {(test.exercise, name) for test in tests for name in test.mistakes}
    counted = f"{len(exercises)} exercises with {len(tests)} checks"
    sentence = f"{counted}, which know {len(mistakes)} wrong answers by name"
    assert sentence in " ".join(section("What is inside").split()), (
        f"the README must say: {sentence}"
    )


def test_the_tree_in_the_readme_is_the_tree():
    tree = re.search(r"```\n(README\.md.*?)```", text_of(ROOT / "README.md"), re.DOTALL)[1]
    folder = ROOT
    for line in tree.splitlines():
        inside = line.startswith(" ")
        names = [line.split()[0]] if inside or "/ " in line else line.split()
        for name in (name for name in names if "NN" not in name):
            path = (folder if inside else ROOT) / name
            assert path.exists(), f"the README's tree names {short(path)}"
            if name.endswith("/") and not inside:
                folder = path
    for folder in ("minitransformer", "course", "exercises"):
        for path in (ROOT / folder).glob("*.py"):
            plain = path.name.startswith("__") or re.match(r"ch\d\d", path.name)
            assert plain or path.name in tree, f"the README's tree leaves out {short(path)}"


@pytest.mark.parametrize("page", [path for path in PROSE if path.exists()], ids=short)
def test_what_a_page_names_is_there(page):
    text = text_of(page)
    for image, link in re.findall(r"!\[[^]]*]\(([^)]+)\)|]\((?!http)([^)#]+)", text):
        assert (page.parent / (image or link)).exists(), image or link
    for module in set(re.findall(r"python -m ([a-z_.]+)", text)) - {"pip", "venv", "pytest"}:
        path = ROOT / module.rstrip(".").replace(".", "/")
        there = path.with_suffix(".py").exists() or (path / "__main__.py").exists()
        assert there, f"python -m {module}"
    for target in re.findall(r"^    make (\w+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", text_of(ROOT / "Makefile"), re.MULTILINE), target


# What it depends on


def test_versions_are_exact():
    lines = [line for line in text_of(ROOT / "constraints.txt").splitlines() if line[:1] not in "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    wanted = ["torch", "numpy", "einops", "matplotlib", "tqdm", "pytest"]
    exact = {line.split("==")[0] for line in lines}
    assert set(wanted) <= exact


def test_no_interpretability_library():
    banned = "transformer_lens|nnsight|circuitsvis|baukit|captum|inseq|plotly|jaxtyping"
    for path in PYTHON:
        found = re.search(rf"^\s*(import|from) ({banned})", text_of(path), re.MULTILINE)
        assert not found, short(path)
    assert (ROOT / "LICENSE").exists()
