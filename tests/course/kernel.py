"""Notebooks in a real kernel: a copy of the project to run them in, and what came out."""

import base64
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from exercises import stubs

SECONDS = 600  # for one cell, however busy the machine is
PARTS = ("minitransformer", "course", "exercises", "solutions")
CLAIM = re.compile(r"^(?:  |! ).+: .+ \(.*\d+ others ", re.MULTILINE)


def copy_of_the_project(home: Path) -> Path:
    """The project in a folder of its own, every exercise unsolved."""
    for part in PARTS:
        skipped = shutil.ignore_patterns("__pycache__", "*.old")
        shutil.copytree(stubs.ROOT / part, home / part, ignore=skipped)
    for chapter in stubs.chapters():
        solution = stubs.solution_path(chapter).read_text(encoding="utf-8")
        path = home / "exercises" / f"{chapter}.py"
        path.write_text(stubs.stub_text(solution), encoding="utf-8")
    return home


def executed(notebook, folder: Path, allow_errors: bool = False):
    """The notebook (nbformat, or the path of one) with its outputs, run by a kernel in `folder`.

    Skips where Jupyter is not installed. Raises CellExecutionError at the first cell that fails,
    unless allow_errors.
    """
    why = "no Jupyter here, so no kernel ran: pip install -e '.[notebook]'"
    nbclient = pytest.importorskip("nbclient", reason=why)
    pytest.importorskip("ipykernel", reason=why)
    nbformat = pytest.importorskip("nbformat", reason=why)
    if isinstance(notebook, Path):
        notebook = nbformat.read(notebook, as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        allow_errors=allow_errors,
        resources={"metadata": {"path": str(folder)}},
    )
    client.create_kernel_manager()
    # this very Python, not the one that a kernel of this name was installed with
    client.km.kernel_spec.argv[0] = sys.executable
    environment = os.environ | {"PYTHONPATH": str(folder), "MPLBACKEND": ""}
    environment.pop("MPLBACKEND")
    return client.execute(env=environment)


def outputs(notebook, kind: str) -> list:
    """All outputs of one kind ("stream", "display_data", "error"), cell by cell."""
    found = []
    for cell in notebook.cells:
        found += [each for each in cell.get("outputs", []) if each.output_type == kind]
    return found


def printed(notebook) -> str:
    return "".join(output.text for output in outputs(notebook, "stream"))


def pictures(notebook) -> list[bytes]:
    """The pictures below the cells, in order, as PNG files."""
    shown = [output.data.get("image/png") for output in outputs(notebook, "display_data")]
    return [base64.b64decode(data) for data in shown if data]


def pictures_said(notebook) -> list[str]:
    """The paths of the pictures that the cells say they have written, in order."""
    return re.findall(r"^picture: (.+)$", printed(notebook), re.MULTILINE)
