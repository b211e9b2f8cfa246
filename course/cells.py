"""A chapter is a Python file in cells: `# %%` begins code, `# %% [markdown]` begins text. Run it,
or make a notebook.
"""

import json
from collections.abc import Callable
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
    namespace = {"__name__": "__main__", "__file__": str(path)}
    for cell in cells(path.read_text(encoding="utf-8")):
        if cell.kind == "markdown":
            tell(cell.text, wait)
        else:  # the empty lines in front keep the line numbers of error messages true
            if before_code:
                before_code()
            exec(compile("\n" * cell.line + cell.text, str(path), "exec"), namespace)


def tell(text: str, wait: Callable[[], None] | None) -> None:
    """Print a cell's paragraphs; wait where one asks for a guess."""
    print()
    for paragraph in text.strip().split("\n\n"):
        print(paragraph + "\n", flush=True)
        if wait and "*Predict" in paragraph:
            wait()


def write_notebook(path: Path, folder: Path) -> Path:
    """Write a chapter as a Jupyter notebook to `folder`. Raises ValueError rather than write over
    an existing one.
    """
    target = folder / f"{path.stem}.ipynb"
    if target.exists():
        raise ValueError(
            f"{target.name} exists already, perhaps with your notes in it; move it away first."
        )
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": [
            notebook_cell(number, cell)
            for number, cell in enumerate(cells(path.read_text(encoding="utf-8")))
        ],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


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
