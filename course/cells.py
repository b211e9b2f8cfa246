"""A chapter is a Python file in cells: `# %%` begins code, `# %% [markdown]` begins text. Run it,
or make a notebook.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple


class Cell(NamedTuple):
    """One cell of a chapter: `kind` is "code" or "markdown", `line` is where its text begins in the
    file (from 0).
    """

    kind: str
    text: str
    line: int


def cells(chapter: str) -> list[Cell]:
    """The cells of a chapter's text, in order, empty ones left out. The text before the first `#
    %%` is code.
    """
    found, kind, start, lines = [], "code", 0, chapter.splitlines()
    for number, line in enumerate([*lines, "# %%"]):
        if line.startswith("# %%"):
            body = lines[start:number]
            if kind == "markdown":
                body = [text.removeprefix("#").removeprefix(" ") for text in body]
            if any(text.strip() for text in body):
                found.append(Cell(kind, "\n".join(body), start))
            kind, start = "markdown" if "[markdown]" in line else "code", number + 1
    return found


def run(
    path: Path,
    wait: Callable[[], None] | None = None,
    before_code: Callable[[], None] | None = None,
) -> None:
    """Print the text of a chapter and run its code, cell by cell, in one fresh namespace.

    wait: called after each paragraph that asks for a guess. before_code: before each cell of code.
    """
    names = namespace(path)
    for cell in cells(path.read_text(encoding="utf-8")):
        if cell.kind == "markdown":
            tell(cell.text, wait)
        else:
            if before_code:
                before_code()
            execute(cell, path, names)


def namespace(path: Path) -> dict:
    """What a chapter's code finds when it begins: the names of a script."""
    return {"__name__": "__main__", "__file__": str(path)}


def execute(cell: Cell, path: Path, names: dict) -> None:
    """Run a cell of code in a namespace. Empty lines in front keep the line numbers of error
    messages true.
    """
    exec(compile("\n" * cell.line + cell.text, str(path), "exec"), names)


def tell(text: str, wait: Callable[[], None] | None) -> None:
    """Print a cell's paragraphs; wait where one asks for a guess."""
    print()
    for paragraph in text.strip().split("\n\n"):
        print(paragraph + "\n", flush=True)
        if wait and "*Predict" in paragraph:
            wait()


def notebook_path(path: Path, folder: Path, mine: bool = False) -> Path:
    """Where the notebook of a chapter is written; the one on the learner's functions has a name of
    its own.
    """
    return folder / (f"{path.stem}_mine.ipynb" if mine else f"{path.stem}.ipynb")


def write_notebook(
    path: Path, folder: Path, mine: bool = False, models: Sequence[str] = ()
) -> Path:
    """Write a chapter as a Jupyter notebook to `folder`. Raises ValueError rather than write over
    an existing one.

    mine, models: as on the command line; the first cell of code says so, and may be changed.
    """
    target = notebook_path(path, folder, mine)
    if target.exists():
        raise ValueError(
            f"{target.name} exists already, perhaps with your notes in it; move it away first."
        )
    title, *others = cells(path.read_text(encoding="utf-8"))
    parts = [title, Cell("code", opening(path.stem, mine, models), 0), *others]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": [notebook_cell(number, cell) for number, cell in enumerate(parts)],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def opening(chapter: str, mine: bool, models: Sequence[str]) -> str:
    """The first cell of code in a notebook: it does what the options of the command line do."""
    options = [json.dumps(chapter)]  # JSON's texts and lists are Python's, too
    comment = "# Run this first, from the course's folder (the one that `course/` is in)."
    if mine:
        options.append("mine=True")
        comment += "\n# Then edit exercises/, save, and run any cell again: it uses what you saved."
    if models:
        options.append(f"models={json.dumps(list(models), ensure_ascii=False)}")
    return f"{comment}\nfrom course import notebooks\n\nnotebooks.begin({', '.join(options)})"


def notebook_cell(number: int, cell: Cell) -> dict:
    """One cell in the form of nbformat 4.5."""
    code = {"execution_count": None, "outputs": []} if cell.kind == "code" else {}
    source = cell.text.strip().splitlines(keepends=True)
    return {
        "cell_type": cell.kind,
        "id": f"cell-{number}",
        "metadata": {},
        "source": source,
        **code,
    }
