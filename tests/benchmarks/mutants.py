"""Are the checks sharp? python -m tests.benchmarks.mutants [CHAPTER or EXERCISE ...]

For every exercise, break the reference answer in one place, automatically: operands swapped, a
transpose dropped, a slice or an index off by one, another axis, a factor forgotten, a sign changed,
a comparison shifted. Each such mutant goes through the checks as a learner's answer would. It
should be refused. A mutant that is let through is either *equivalent* (on all that the checks tried
it gives what the reference gives) or a *survivor*: a hole in the checks, printed below."""

import ast
import copy
import importlib
import sys
import warnings
from collections.abc import Iterator

import torch

from exercises import stubs
from exercises.attempts import Guarded
from tests.exercises import checking

GOAL = 0.95
checking.SECONDS = 5  # a mutated loop may never end
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
    if isinstance(node, ast.BinOp):
        if not isinstance(node.op, ast.Add | ast.Mult):  # for those the order makes no difference
            yield "operands swapped", ast.BinOp(node.right, node.op, node.left)
        if isinstance(node.op, ast.Mult | ast.Div):
            yield "factor forgotten", node.left
        if type(node.op) in OPPOSITE:
            yield "sign changed", ast.BinOp(node.left, OPPOSITE[type(node.op)](), node.right)
    elif (
        isinstance(node, ast.UnaryOp)
        and isinstance(node.op, ast.USub)
        and not isinstance(node.operand, ast.Constant)
    ):
        yield "sign changed", node.operand
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield "transpose dropped", node.value
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "transpose"
    ):
        yield "transpose dropped", node.func.value
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield "off by one", ast.Constant(node.value + 1)
        yield "off by one", ast.Constant(node.value - 1)
    elif (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "einsum"
    ):
        yield (
            "operands swapped",
            ast.Call(node.func, [node.args[1], node.args[0], *node.args[2:]], node.keywords),
        )
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in SWAPPED:
        yield (
            "comparison shifted",
            ast.Compare(node.left, [SWAPPED[type(node.ops[0])]()], node.comparators),
        )


def answer_nodes(
    function: ast.FunctionDef, first_line: int
) -> list[tuple[ast.AST, str, int | None]]:
    """Every place below the YOUR CODE mark: (parent, field, index in the field if it is a list)."""
    places = []
    for parent in ast.walk(function):
        for name, value in ast.iter_fields(parent):
            for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(child, ast.expr) and child.lineno > first_line:
                    places.append((parent, name, index))
    return places


def mutants(chapter: str, name: str) -> Iterator[tuple[str, object]]:
    """All mutants of an exercise's reference answer: (description, function)."""
    text = stubs.solution_path(chapter).read_text()
    original = stubs.functions(text)[name]
    mark = (
        next(
            n
            for n in range(original.lineno, original.end_lineno)
            if stubs.MARK.match(text.splitlines()[n])
        )
        + 1
    )
    module = importlib.import_module(f"solutions.{chapter}")
    for number in range(len(answer_nodes(original, mark))):
        for which in range(3):  # no node has more than three variants
            function = copy.deepcopy(original)
            parent, field, index = answer_nodes(function, mark)[number]
            value = getattr(parent, field)
            node = value if index is None else value[index]
            wrong = list(variants(node))
            if which >= len(wrong):
                break
            what, new = wrong[which]
            before = ast.unparse(node)
            setattr(parent, field, new) if index is None else value.__setitem__(index, new)
            namespace = dict(vars(module))
            tree = ast.fix_missing_locations(ast.Module([function], []))
            exec(compile(tree, f"<mutant of {name}>", "exec"), namespace)
            yield f"line {node.lineno}: {what}: {before} -> {ast.unparse(new)}", namespace[name]


def is_refused(checks: list, mutant) -> bool | None:
    """True if some check refuses the mutant; None if it is equivalent on all that the checks tried;
    False: a survivor.
    """
    different = False
    for test, reference in checks:
        guarded = Guarded(mutant, stubs.ROOT)
        try:
            if checking.verdict(test.check, guarded):
                return True
        except Exception:
            return True
        different = different or not guarded.behaves_like(reference)
    return False if different else None


def judge(chapter: str, name: str) -> tuple[int, int, int]:
    """(mutants that change something, those refused, equivalent ones) of one exercise; survivors
    are printed.
    """
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
                row = judge(chapter, name)
                total += torch.tensor(row)
                print(
                    f"{chapter} {name:34} refused {row[1]:3} of {row[0]:3}, equivalent {row[2]}",
                    flush=True,
                )
    counted, refused, equivalent = total.tolist()
    share = refused / max(1, counted)
    print(
        f"\n{refused} of {counted} mutants refused: {share:.1%} (goal {GOAL:.0%}); {equivalent} equivalent"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
