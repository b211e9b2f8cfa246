"""Where a chapter's evidence goes. At a terminal: lines, and pictures as PNG files; in a notebook
each picture is shown, too. A web page has another such class: course/site/chapter.py.
"""

import webbrowser
from pathlib import Path
from typing import Protocol

from minitransformer.plots import Figure, save_figure


class Output(Protocol):
    """What the desk hands over. Texts and numbers come as they are to be read."""

    def claim(self, text: str, value: str, notes: dict[str, str], fault: str) -> None:
        """A claim; notes: what stands beside it, by kind; fault: what is wrong with it, or ""."""

    def note(self, text: str) -> None:
        """A remark on the last claim."""

    def others(self, text: str, count: str, band: str) -> None:
        """In how many other models (`count`, as "19 of 20") a claim lies in a band."""

    def table(self, title: str, rows: list[str], columns: list[str], cells: list) -> None:
        """A table of words: cells [row][column]; title stands above the names of the rows."""

    def picture(self, figure: Figure, name: str) -> None:
        """A finished picture; name: of its file, without a suffix."""


class Terminal:
    """Prints, and writes pictures to figures/. open_pictures: show each in a viewer (--show)."""

    def __init__(self, open_pictures: bool = False):
        self.open_pictures = open_pictures

    def claim(self, text: str, value: str, notes: dict[str, str], fault: str) -> None:
        brackets = f"   ({'; '.join(notes.values())})" if notes else ""
        print(f"{'! ' if fault else '  '}{text}: {value}{brackets}")

    def note(self, text: str) -> None:
        print(f"      {text}")

    def others(self, text: str, count: str, band: str) -> None:
        print(f"  {text}, other models: {count} {band}")

    def table(self, title: str, rows: list[str], columns: list[str], cells: list) -> None:
        first = max(len(name) for name in [title, *rows])
        width = max(len(text) for row in [columns, *cells] for text in row) + 2
        print(title.ljust(first) + "".join(name.rjust(width) for name in columns))
        for name, row in zip(rows, cells):
            print(name.ljust(first) + "".join(text.rjust(width) for text in row))

    def picture(self, figure: Figure, name: str) -> None:
        path = save_figure(figure, Path("figures") / f"{name}.png")
        if self.open_pictures:
            webbrowser.open(path.resolve().as_uri())


class Notebook(Terminal):
    """As at a terminal, and each picture stands below its cell."""

    def picture(self, figure: Figure, name: str) -> None:
        from IPython.display import Image, display

        super().picture(figure, name)
        display(Image(filename=Path("figures") / f"{name}.png"))


def usual() -> Output:
    """What fits where this runs: a Jupyter kernel, or anything else."""
    try:
        kernel = get_ipython().__class__.__name__ == "ZMQInteractiveShell"  # defined by IPython
    except NameError:
        kernel = False
    return Notebook() if kernel else Terminal()
