"""Every tool on our model and on its copy in the other library: which lines does it need, how far
apart are the results? measured.json keeps the answer for those who do not have that library:

    python -m course.carry_over.measure
"""

import json
import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from minitransformer import Transformer, load

from .calls import ON_ARITHMETIC, ON_INDUCTION, Call
from .material import Sequences, Sums
from .their_library import LINES, their_model, version

PATH = Path(__file__).with_name("measured.json")
SAME = 1e-4  # results that are no further apart count as the same
MOST_LINES = 2
REASONS = {  # why a tool does not give the same with any two lines
    "training_step_by_hand": (
        "The heads of the other model have biases. They start at 0, and a step trains them: "
        "the loss before the step is the same, the one after it is not."
    )
}
SAYS_SAME, RAISES, SAYS_OTHER = "the same", "an error", "something else"


class Row(NamedTuple):
    """How one tool fared."""

    as_it_is: str  # what the unchanged tool gives on the other model: one of the three above
    lines: (
        list[str] | None
    )  # the fewest LINES with which it gives the same; None: no two are enough
    difference: float | None  # the largest, with these lines; None: there are none
    control: float  # the largest, with these lines, on a copy of a model with other weights


def measure() -> dict[str, Row]:
    """All tools: name -> row. Takes some seconds; needs the other library."""
    ours, sums = load("induction"), load("arithmetic")
    with torch.no_grad(), quiet():
        found = rows_of(ON_INDUCTION, ours, [shaken(ours), load("impostor")], Sequences(ours))
        return found | rows_of(ON_ARITHMETIC, sums, [shaken(sums)], Sums(sums))


def rows_of(
    calls: dict[str, Call], ours: Transformer, others: list[Transformer], material
) -> dict[str, Row]:
    """others: models of the same shape with other weights; a control is the largest of theirs."""
    found = {}
    for name, call in calls.items():
        truth = call(ours, material)
        as_it_is, lines, apart = tried(call, truth, ours, material)
        control = [attempt(call, truth, other, lines or [], material) for other in others]
        found[name] = Row(as_it_is, lines, apart, max(each or 0.0 for each in control))
    return found


def tried(
    call: Call, truth, ours: Transformer, material
) -> tuple[str, list[str] | None, float | None]:
    """What the tool gives as it is, the fewest lines that make it the same, the difference then."""
    bare = attempt(call, truth, ours, [], material)
    as_it_is = SAYS_OTHER if bare is not None else RAISES
    for count in range(MOST_LINES + 1):
        for names in combinations(LINES, count):
            apart = attempt(call, truth, ours, names, material)
            if apart is not None and apart <= SAME:
                return SAYS_SAME if count == 0 else as_it_is, list(names), apart
    return as_it_is, None, None


def attempt(call: Call, truth, model: Transformer, lines: Iterable[str], material) -> float | None:
    """How far the result on the copy in the other library is from the truth; None: it raises."""
    theirs = their_model(model)
    try:
        for name in lines:
            LINES[name][0](theirs)
        return difference(truth, call(theirs, material))
    except Exception:  # whatever: a tool that was not written for this model may fail in any way
        return None


def difference(first, second) -> float:
    """The largest difference between two results; infinite if they are not of one form."""
    ours, theirs = numbers(first), numbers(second)
    if [len(part) for part in ours] != [len(part) for part in theirs]:
        return math.inf
    ours, theirs = torch.cat(ours), torch.cat(theirs)
    apart = (ours - theirs).abs()
    apart[ours == theirs] = 0.0  # also where both are -inf, as a masked score is
    return apart.nan_to_num(nan=math.inf, posinf=math.inf).max().item()


def numbers(result) -> list[Tensor]:
    """All numbers of a result, whatever it is made of; text counts by its letters."""
    if isinstance(result, Tensor):
        return [result.detach().double().flatten()]
    if hasattr(result, "dense"):  # a product that is kept as two thin factors, chapter 7
        return numbers(result.dense)
    if isinstance(result, str):
        return [torch.tensor([ord(letter) for letter in result], dtype=torch.float64)]
    if isinstance(result, dict):
        return numbers(list(result.items()))
    if isinstance(result, Iterable):
        return [part for each in result for part in numbers(each)]
    return [torch.tensor([result], dtype=torch.float64)]


def shaken(model: Transformer) -> Transformer:
    """A copy with noise on every weight, three tenths as large as the weights are."""
    generator, other = torch.Generator().manual_seed(0), Transformer(model.cfg)
    for mine, theirs in zip(model.parameters(), other.parameters()):
        noise = torch.randn(mine.shape, generator=generator)
        theirs.copy_(mine + 0.3 * mine.std() * noise)
    return other


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that the other library logs when a call is not understood."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def stored() -> tuple[str, dict[str, Row]]:
    """(the version of the library, the rows) as they were measured last."""
    content = json.loads(PATH.read_text(encoding="utf-8"))
    return content["library"], {name: Row(*row) for name, row in content["rows"].items()}


def store(rows: dict[str, Row]) -> None:
    """One line per tool, so that a change of one is a change of one line."""
    lines = []
    for name, row in rows.items():
        short = [float(f"{each:.2g}") if isinstance(each, float) else each for each in row]
        lines.append(f"  {json.dumps(name)}: {json.dumps(short)}")
    text = f'{{\n "library": {json.dumps(version())},\n "rows": {{\n'
    PATH.write_text(text + ",\n".join(lines) + "\n }\n}\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    store(measure())
    print(f"written: {PATH}")
