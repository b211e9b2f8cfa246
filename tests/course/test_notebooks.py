"""Chapters as notebooks: how they are written, and that a real kernel runs them as a reader would.

All chapters, with every function the learner's own: python -m tests.benchmarks.notebooks
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from course import __main__ as course
from course import cells
from exercises import stubs
from tests.course import kernel
from tests.exercises.learner import CHAPTER, RIGHT

STUB = 'raise NotImplementedError("{}")'


def code_of(path: Path) -> list[str]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def answer(home: Path, body: str, name: str = "attention_pattern", chapter: str = CHAPTER) -> None:
    """Put an answer in the place of a stub of the copied project."""
    path = home / "exercises" / f"{chapter}.py"
    text, stub = path.read_text(encoding="utf-8"), STUB.format(name)
    assert stub in text
    path.write_text(text.replace(stub, body.strip().replace("\n", "\n    ")), encoding="utf-8")


def notebook_of(*code: str):
    """A notebook of these cells of code."""
    nbformat = pytest.importorskip("nbformat", reason="no Jupyter here")
    parts = [nbformat.v4.new_code_cell(each) for each in code]
    return nbformat.v4.new_notebook(cells=parts)


@pytest.fixture
def home(tmp_path) -> Path:
    return kernel.copy_of_the_project(tmp_path / "course ü")


# Writing


@pytest.mark.parametrize(
    "words, call",
    [
        ([], f'notebooks.begin("{CHAPTER}")'),
        (["--mine"], f'notebooks.begin("{CHAPTER}", mine=True)'),
        (["--model", "impostor"], f'notebooks.begin("{CHAPTER}", models=["impostor"])'),
    ],
)
def test_the_first_cell_of_code_does_what_the_options_say(tmp_path, monkeypatch, words, call):
    monkeypatch.chdir(tmp_path)
    assert course.main(["notebook", "1", *words]) == 0
    (path,) = tmp_path.glob("*.ipynb")
    assert path.stem == f"{CHAPTER}_mine" if "--mine" in words else CHAPTER
    first, *others = code_of(path)
    assert first.splitlines()[-1] == call
    text = (stubs.ROOT / "course" / f"{CHAPTER}.py").read_text(encoding="utf-8")
    assert others == [cell.text.strip() for cell in cells.cells(text) if cell.kind == "code"]


def test_all_writes_what_is_missing_and_keeps_what_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / f"{CHAPTER}.ipynb"
    own.write_text("my notes", encoding="utf-8")
    assert course.main(["notebook", "all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [f"{path.stem}.ipynb" for path in sorted((stubs.ROOT / "course").glob("ch*.py"))]
    assert lines[0] == f"kept, as it exists already: {own.name}"
    assert lines[1:-1] == [f"written: {name}" for name in names[1:]]
    assert own.read_text(encoding="utf-8") == "my notes"
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert course.main(["notebook", "all"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("none was written")


def test_a_notebook_on_the_learner_s_functions_stands_beside_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert course.main(["notebook", "1"]) == course.main(["notebook", "1", "--mine"]) == 0
    assert course.main(["notebook", "1"]) == course.main(["notebook", "1", "--mine"]) == 2


@pytest.mark.parametrize(
    "words, says",
    [(["--model", "nowhere"], "no model at"), (["--pause"], "no --show and no --pause")],
)
def test_what_a_notebook_cannot_do_is_refused_and_nothing_written(
    tmp_path, monkeypatch, capsys, words, says
):
    monkeypatch.chdir(tmp_path)
    assert course.main(["notebook", "all", *words]) == 2
    assert says in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_first_cell_also_runs_without_a_kernel(tmp_path):
    code = f"from course import notebooks\nnotebooks.begin({CHAPTER!r}, mine=True)\n"
    code += "from course.desk import Session\nprint(Session.chapter)"
    environment = os.environ | {"PYTHONPATH": str(stubs.ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path)
    assert done.stdout.split()[-1] == CHAPTER.encode(), done.stderr


# In a kernel


def run_chapter(home: Path, number: int, *words: str):
    """Write a chapter by the command line, and run it."""
    command = [sys.executable, "-m", "course", "notebook", f"{number}", *words]
    subprocess.run(command, cwd=home, check=True, capture_output=True)
    return kernel.executed(next(home.glob("*.ipynb")), home)


def holds_what_the_terminal_shows(done, home: Path, chapter: str) -> None:
    """Each picture stands below its cell, called after its chapter; claims know other models."""
    said, shown = kernel.pictures_said(done), kernel.pictures(done)
    text = (home / "course" / f"{chapter}.py").read_text(encoding="utf-8")
    assert len(said) == len(shown) == text.count("\nshow(")
    assert shown == [(home / path).read_bytes() for path in said]
    assert all(Path(path).name.startswith(f"{chapter}_") for path in said)
    assert kernel.CLAIM.search(kernel.printed(done))
    assert not kernel.outputs(done, "error")


def test_a_chapter_runs_in_a_kernel(home):
    done = run_chapter(home, 7)
    holds_what_the_terminal_shows(done, home, "ch07_qk_ov_circuits")
    assert "yours in this chapter" not in kernel.printed(done)


def test_a_chapter_runs_in_a_kernel_on_the_learner_s_functions(home):
    answer(home, "print('mine was called')\n" + RIGHT)
    done = run_chapter(home, 1, "--mine")
    holds_what_the_terminal_shows(done, home, CHAPTER)
    said = kernel.printed(done)
    assert "yours in this chapter: attention_pattern\n" in said and "mine was called" in said


PREPARE = f"""
import torch
from pathlib import Path
from course import notebooks
notebooks.begin("{CHAPTER}", mine=True)

from solutions import ch08_composition
from solutions.ch01_transformer import attention_pattern, head_output

def save(old, new, path=Path("exercises/{CHAPTER}.py")):
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(old, new), encoding="utf-8")

ones = torch.ones(1, 3, 2, 5)
print(attention_pattern(ones, ones)[0, 0, 2, 0].item())
"""
HEAD_OUTPUT = "print(head_output(1, 2, 3, 4), ch08_composition.head_output(1, 2, 3, 4))"


def test_a_saved_change_is_used_from_the_next_cell_on(home):
    """Also where it was a stub at first, and where another chapter's reference calls it."""
    steps = [PREPARE]
    for name, change, use in [
        ("attention_pattern", "return 'first'", "print(attention_pattern(1, 2))"),
        ("'first'", "'second'", "print(attention_pattern(1, 2))"),
        ("head_output", "return 'mine'", HEAD_OUTPUT),
        ("return 'second'", "return (", "print(attention_pattern(1, 2))"),
        ("return (", "return 'third'", "print(attention_pattern(1, 2))"),
    ]:
        old = STUB.format(name) if name.isidentifier() else name
        steps += [f"save({old!r}, {change!r})", use]
    done = kernel.executed(notebook_of(*steps), home, allow_errors=True)
    said = ["".join(out.get("text", "") for out in cell.outputs) for cell in done.cells[::2]]
    last_lines = [text.rstrip("\n").rpartition("\n")[2] for text in said]
    assert last_lines[0].startswith("0.333")
    assert last_lines[1:4] == ["first", "second", "mine mine"] and last_lines[5] == "third"
    (error,) = kernel.outputs(done, "error")
    assert error in done.cells[8].outputs
    (sentence,) = error.traceback
    assert sentence.startswith("the file cannot be read: '(' was never closed")


def test_a_false_claim_is_one_sentence_that_names_the_learner_s_function(home):
    answer(home, RIGHT.replace("q.shape[-1]", "9 * q.shape[-1]"))
    cells.write_notebook(home / "course" / f"{CHAPTER}.py", home, mine=True)
    done = kernel.executed(home / f"{CHAPTER}_mine.ipynb", home, allow_errors=True)
    first = kernel.outputs(done, "error")[0]
    (said,) = first.traceback
    assert "on the shipped model your functions must " in said
    assert "attention_pattern. See: python -m exercises check attention_pattern" in said


def test_other_errors_keep_their_traceback_and_a_missing_model_is_a_sentence(home):
    """Where the model is the learner's, it may be the reason, and that is said."""
    begin = 'from course import notebooks\nnotebooks.begin("{}", models={})'
    steps = [
        begin.format(CHAPTER, ["nowhere"]),
        begin.format(CHAPTER, []),
        "def f():\n    1 / 0\nf()",
    ]
    steps += [begin.format(CHAPTER, ["one-layer"]), "[][0]"]
    done = kernel.executed(notebook_of(*steps), home, allow_errors=True)
    missing, own, unfit = kernel.outputs(done, "error")
    assert len(missing.traceback) == 1 and "no model at 'nowhere'" in missing.traceback[0]
    assert len(own.traceback) > 1 and own.ename == "ZeroDivisionError"
    assert len(unfit.traceback) > 1
    (doubt,) = kernel.outputs(done, "stream")
    assert doubt in done.cells[-1].outputs and "need two layers" in doubt.text
