"""What every chapter uses to show its evidence: a model, a picture, a claim.

    model = the_model()                       # the shipped one, or yours with `python -m course 7 --model runs/mine`
    show(figure, "stripe")                    # figures/ch07_qk_ov_circuits_stripe.png
    claim("best previous-token score", score, low=0.9, measured=0.995)

A claim prints the value and asserts that it lies in the band that the text promises. `measured` is
what the shipped model gave when the text was written; it is printed, so that the reader can
compare, and asserted too on the shipped model."""

import math
import webbrowser
from pathlib import Path

from minitransformer import Transformer, load
from minitransformer.plots import Figure, plt, save_figure

__all__ = ["claim", "plt", "show", "the_model"]

ROOT = Path(__file__).resolve().parent.parent


class Session:
    """How the chapter at hand is being run; `python -m course` sets it."""

    chapter: str = "notebook"
    models: dict[str, str] = {}  # --model: shipped name -> the run folder in its place
    used: set[str] = set()  # those of them that the chapter asked for
    open_pictures: bool = False  # --show
    strict: bool = True  # a failed claim stops the chapter; not so on a learner's own model
    failed: list[str] = []


def the_model(name: str = "induction") -> Transformer:
    """A shipped model by name, or the learner's own of the same task if they asked for that."""
    Session.used.add(name)
    return load(Session.models.get(name, name))


def show(figure: Figure, name: str) -> None:
    """Write the picture to figures/, say where, and (in a notebook, or with --show) put it in front
    of the reader.
    """
    path = save_figure(figure, Path("figures") / f"{Session.chapter}_{name}.png")
    if in_notebook():
        from IPython.display import Image, display

        display(Image(filename=path))
    if Session.open_pictures:
        webbrowser.open(path.resolve().as_uri())


def in_notebook() -> bool:
    try:
        return get_ipython().__class__.__name__ == "ZMQInteractiveShell"  # defined by IPython alone
    except NameError:
        return False


def claim(
    text: str,
    value: float,
    low: float = -math.inf,
    high: float = math.inf,
    measured: float | None = None,
) -> None:
    """Print `text: value` with its band, and assert low <= value <= high.

    measured: the shipped model's value; off by more than 2 % of it (or .002) is an error there, so
    the text stays true."""
    value = float(value)
    inside = low <= value <= high
    if measured is not None and Session.strict:
        inside = inside and abs(value - measured) <= max(0.002, 0.02 * abs(measured))
    notes = [band(low, high)] * ((low, high) != (-math.inf, math.inf))
    notes += [] if measured is None else [f"the course's model: {measured:g}"]
    print(
        f"{'  ' if inside else '! '}{text}: {number(value)}"
        + (f"   ({'; '.join(notes)})" if notes else "")
    )
    if not inside:
        Session.failed.append(text)
        assert not Session.strict, f"{text}: {value} is not what the text says ({'; '.join(notes)})"


def band(low: float, high: float) -> str:
    """The promised band in words: "0.9 or more", "at most 0.1", "exactly 0", "0.2 to 0.4"."""
    if low == high:
        return f"exactly {low:g}"
    if high == math.inf:
        return f"{low:g} or more"
    return f"at most {high:g}" if low == -math.inf else f"{low:g} to {high:g}"


def number(value: float) -> str:
    """Four digits that matter, whole numbers whole."""
    return f"{value:.0f}" if abs(value) < 1e9 and value == round(value) else f"{value:.4g}"
