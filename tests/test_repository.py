"""The promises of the README and of the tree, held by tests: one home for each thing, everything in
step.
"""

import ast
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from course import __main__ as course
from course import cells
from exercises import stubs
from exercises.stubs import hints

ROOT = stubs.ROOT
CHAPTERS = stubs.chapters()
PYTHON = [
    path
    for path in ROOT.rglob("*.py")
    if not set(path.relative_to(ROOT).parts) & {".venv", "runs", "build"}
]


def test_one_stem_per_chapter_in_every_folder():
    for folder, prefix in (("course", ""), ("exercises", ""), ("tests/exercises", "test_")):
        stems = {
            path.stem.removeprefix("test_") for path in (ROOT / folder).glob(f"{prefix}ch*.py")
        }
        assert stems == set(CHAPTERS), f"{folder} and solutions/ do not have the same chapters"


def test_no_file_over_300_lines():
    long = {
        str(path.relative_to(ROOT)): n
        for path in PYTHON
        if (n := len(path.read_text().splitlines())) > 300
    }
    assert not long


def test_no_function_in_two_places():
    """A name means one thing. The exercise files repeat the solutions by design; command lines each
    have their `main`.
    """
    homes = {}
    for folder in ("minitransformer", "solutions", "course"):
        for path in (ROOT / folder).glob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name != "main":
                    homes.setdefault(node.name, []).append(f"{folder}/{path.name}")
    assert not {name: places for name, places in homes.items() if len(places) > 1}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_exercise_file_is_its_solution_without_the_answers(chapter):
    stub, mine = (
        stubs.stub_text(stubs.solution_path(chapter).read_text()),
        stubs.exercise_path(chapter).read_text(),
    )
    if os.environ.get("CI"):
        assert mine == stub, "regenerate with: python -m exercises.stubs"
    # a learner's file may differ, but not in what is asked for
    for name, node in stubs.functions(stub).items():
        written = stubs.functions(mine).get(name)
        assert written, f"{name} is missing"
        assert ast.unparse(written.args) == ast.unparse(node.args)
        assert ast.get_docstring(written) == ast.get_docstring(node)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_exercise_starts_unsolved(chapter):
    stub = stubs.functions(stubs.stub_text(stubs.solution_path(chapter).read_text()))
    names = stubs.exercise_names(chapter)
    assert names and all(stubs.is_stub(stub[name]) for name in names)
    assert not any(
        stubs.is_stub(node)
        for node in stubs.functions(stubs.solution_path(chapter).read_text()).values()
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_exercise_has_hints_minutes_and_a_check(chapter):
    names, entry = stubs.exercise_names(chapter), hints()[chapter]
    assert list(entry["exercises"]) == names, (
        "hints.toml lists other exercises, or in another order"
    )
    assert entry["title"] and entry["minutes"] > 0
    said = re.search(
        r"(\d+) minutes to read, (\d+) with the exercises",
        (ROOT / "course" / f"{chapter}.py").read_text(),
    )
    writing = sum(exercise["minutes"] for exercise in entry["exercises"].values())
    assert int(said[1]) + writing == int(said[2]) == entry["minutes"], (
        f"{said[1]} to read + {writing} to write"
    )
    for name, exercise in entry["exercises"].items():
        assert 0 < exercise["minutes"] <= 25 and exercise["difficulty"] in (1, 2, 3), name
        assert len(exercise["hints"]) >= 2 and all(exercise["hints"]), name
    checks = __import__(f"tests.exercises.test_{chapter}", fromlist=["*"])
    checked = {test.exercise: test for test in vars(checks).values() if hasattr(test, "exercise")}
    assert set(checked) == set(names), "exercises without a check, or checks without an exercise"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_exercise_rejects_a_named_mistake(chapter):
    """The checks prove, on the solutions' side, that each mistake is refused; here: that there are
    mistakes at all.
    """
    checks = __import__(f"tests.exercises.test_{chapter}", fromlist=["*"])
    mistakes = {}
    for test in vars(checks).values():
        if hasattr(test, "exercise"):
            mistakes.setdefault(test.exercise, set()).update(test.mistakes)
    assert all(mistakes[name] for name in stubs.exercise_names(chapter)), mistakes


def test_hints_and_chapters_are_in_order():
    assert list(hints()) == CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_runs_and_its_numbers_are_true(chapter, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    course.run_chapter(course.chapter_path(str(int(chapter[2:4]))))
    pictures = list((tmp_path / "figures").glob(f"{chapter}_*.png"))
    assert pictures and all(picture.stat().st_size > 5000 for picture in pictures)
    seconds = float(re.search(r"chapter \d\d: ([\d.]+) s", capsys.readouterr().out)[1])
    assert seconds < 40, (
        "a chapter should take 20 s at most; twice that is too long even on a busy machine"
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_is_a_notebook(chapter, tmp_path):
    path = cells.write_notebook(ROOT / "course" / f"{chapter}.py", tmp_path)
    notebook = json.loads(path.read_text())
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    assert kinds[0] == "markdown" and kinds.count("code") >= 3
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            ast.parse("".join(cell["source"]))
    with pytest.raises(ValueError, match="exists already"):
        cells.write_notebook(ROOT / "course" / f"{chapter}.py", tmp_path)


def test_every_file_and_command_in_the_readme_exists():
    readme = (ROOT / "README.md").read_text()
    tree = re.search(r"```\n(README\.md.*?)```", readme, re.DOTALL)[1]
    folder = ROOT
    for line in tree.splitlines():
        # the first line lists files
        names = [line.split()[0]] if line.startswith(" ") or "/ " in line else line.split()
        for name in (name for name in names if "NN" not in name):
            path = (folder if line.startswith(" ") else ROOT) / name
            assert path.exists(), f"the README's tree names {path.relative_to(ROOT)}"
            folder = path if name.endswith("/") and not line.startswith(" ") else folder
    for path in (
        path
        for name in ("minitransformer", "course", "exercises")
        for path in (ROOT / name).glob("*.py")
    ):
        named = path.name in tree or re.search(r"ch\d\d", path.name) or path.name.startswith("__")
        assert named, f"the README's tree leaves out {path.relative_to(ROOT)}"
    for target in re.findall(r"!\[[^]]*]\(([^)]+)\)|]\((?!http)([^)#]+)\)", readme):
        assert (ROOT / (target[0] or target[1])).exists(), target
    modules = set(re.findall(r"python -m ([a-z_.]+)", readme)) - {"pip", "venv", "pytest"}
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), (
            f"python -m {module}"
        )
    for target in re.findall(r"^    make (\w+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), (
            f"make {target}"
        )


def test_versions_are_exact():
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and line[0] != "#"
    ]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert set(wanted) <= {line.split("==")[0] for line in lines}


def test_no_interpretability_library():
    banned = "transformer_lens|nnsight|circuitsvis|baukit|captum|inseq|plotly|jaxtyping"
    for path in PYTHON:
        assert not re.search(rf"^\s*(import|from) ({banned})", path.read_text(), re.MULTILINE), path
    assert Path(ROOT / "LICENSE").exists()


def test_the_readme_counts_right():
    tests = [
        test
        for chapter in CHAPTERS
        for test in vars(__import__(f"tests.exercises.test_{chapter}", fromlist=["*"])).values()
        if hasattr(test, "exercise")
    ]
    exercises, mistakes = (
        {test.exercise for test in tests},
        {(test.exercise, name) for test in tests for name in test.mistakes},
    )
    sentence = f"{len(exercises)} exercises with {len(tests)} checks, which know {len(mistakes)} wrong answers by name"
    assert sentence in (ROOT / "README.md").read_text(), sentence
    titles = [f"| {int(chapter[2:4])} | " for chapter in CHAPTERS]
    assert all(title in (ROOT / "README.md").read_text() for title in titles)
