"""Are the checks sharp? python -m tests.benchmarks.mutants [CHAPTER or EXERCISE ...]

For every exercise, break the reference answer in one place, automatically: operands swapped, a
transpose dropped, a slice or an index off by one, another axis, a factor forgotten, a sign changed,
a comparison shifted. Each such mutant goes through the checks as a learner's answer would. It
should be refused. A mutant that is let through is either *equivalent* (on all that the checks tried
it gives what the reference gives) or a *survivor*: a hole in the checks, printed below.
"""

import ast
import copy
import importlib
import sys
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch

from exercises import limits, stubs
from tests.exercises import checking
from tests.exercises.diagnosis import Outcomes, apart

GOAL = 0.95
limits.SECONDS = 5  # a mutated loop may never end
SWAPPED = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
OPPOSITE = {ast.Add: ast.Sub, ast.Sub: ast.Add}


def variants(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What people might have written instead of this node: (what is wrong, the node with it)."""
    match node:
        case ast.BinOp(left, op, right):
            if not isinstance(op, ast.Add | ast.Mult):  # for those the order makes no difference
                yield "operands swapped", ast.BinOp(right, op, left)
            if isinstance(op, ast.Mult | ast.Div):
                yield "factor forgotten", left
            if type(op) in OPPOSITE:
                yield "sign changed", ast.BinOp(left, OPPOSITE[type(op)](), right)
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield "sign changed", operand
        case ast.Attribute(value, "T" | "mT"):
            yield "transpose dropped", value
        case ast.Call(ast.Attribute(value, "transpose")):
            yield "transpose dropped", value
        case ast.Call(ast.Name("einsum"), [first, second, *rest], keywords):
            yield "operands swapped", ast.Call(node.func, [second, first, *rest], keywords)
        case ast.Constant(value) if type(value) is int:
            yield "off by one", ast.Constant(value + 1)
            yield "off by one", ast.Constant(value - 1)
        case ast.Compare(left, [op], right) if type(op) in SWAPPED:
            yield "comparison shifted", ast.Compare(left, [SWAPPED[type(op)]()], right)


class Place(NamedTuple):
    """Where a node hangs in a tree."""

    parent: ast.AST
    field: str
    index: int | None  # in the field, if that is a list

    def node(self) -> ast.AST:
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def places(function: ast.FunctionDef, first_line: int) -> list[Place]:
    """Every expression below the YOUR CODE mark."""
    found = []
    for parent in ast.walk(function):
        for field, value in ast.iter_fields(parent):
            if isinstance(value, list):
                found += [Place(parent, field, index) for index in range(len(value))]
            else:
                found.append(Place(parent, field, None))
    expressions = [place for place in found if isinstance(place.node(), ast.expr)]
    return [place for place in expressions if place.node().lineno > first_line]


def mutants(chapter: str, name: str) -> Iterator[tuple[str, object]]:
    """All mutants of an exercise's reference answer: (description, function)."""
    text = stubs.solution_path(chapter).read_text(encoding="utf-8")
    original = stubs.functions(text)[name]
    lines = list(enumerate(text.splitlines(), start=1))[original.lineno : original.end_lineno]
    mark = next(number for number, line in lines if stubs.MARK.match(line))
    module = importlib.import_module(f"solutions.{chapter}")
    for number, place in enumerate(places(original, mark)):
        for which in range(len(list(variants(place.node())))):
            function = copy.deepcopy(original)
            copied = places(function, mark)[number]
            node = copied.node()
            what, new = list(variants(node))[which]
            change = f"{what}: {ast.unparse(node)} -> {ast.unparse(new)}"
            copied.put(new)
            namespace = dict(vars(module))
            tree = ast.fix_missing_locations(ast.Module([function], []))
            exec(compile(tree, f"<mutant of {name}>", "exec"), namespace)
            yield f"line {node.lineno}: {change}", namespace[name]


def is_refused(checks: list, mutant) -> bool | None:
    """True if some check refuses the mutant; None if it is equivalent on all that the checks tried;
    False: a survivor.
    """
    different = False
    for test, reference in checks:
        guarded = checking.watched(mutant, test.check, stubs.ROOT)
        try:
            if checking.verdict(test.check, guarded, reference):
                return True
        except Exception:
            return True
        mine, truth, again = Outcomes(mutant), Outcomes(reference), Outcomes(reference)
        # a model that counts its calls answers otherwise each time, also to the reference
        steady = [call for call in guarded.calls if not apart(again, truth, [call], truth)]
        different = different or apart(mine, truth, steady, truth)
    return False if different else None


def judge(chapter: str, name: str) -> tuple[int, int, int]:
    """(mutants that change something, those refused, equivalent ones); survivors are printed."""
    tests = vars(importlib.import_module(f"tests.exercises.test_{chapter}")).values()
    reference = getattr(importlib.import_module(f"solutions.{chapter}"), name)
    checks = [(test, reference) for test in tests if getattr(test, "exercise", None) == name]
    outcomes = []
    for description, mutant in mutants(chapter, name):
        outcomes.append(is_refused(checks, mutant))
        if outcomes[-1] is False:
            print(f"    survivor in {name}, {description}")
    return len(outcomes) - outcomes.count(None), outcomes.count(True), outcomes.count(None)


def main(wanted: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    total = torch.zeros(3, dtype=torch.long)
    for chapter in stubs.chapters():
        for name in stubs.exercise_names(chapter):
            if not wanted or chapter in wanted or name in wanted:
                counted, refused, equivalent = judge(chapter, name)
                total += torch.tensor([counted, refused, equivalent])
                outcome = f"refused {refused:3} of {counted:3}, equivalent {equivalent}"
                print(f"{chapter} {name:34} {outcome}", flush=True)
    counted, refused, equivalent = total.tolist()
    share = f"{refused / max(1, counted):.1%} (goal {GOAL:.0%})"
    print(f"\n{refused} of {counted} mutants refused: {share}; {equivalent} equivalent")


if __name__ == "__main__":
    main(sys.argv[1:])
