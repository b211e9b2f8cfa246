"""How an exercise is made from its solution: everything after `# YOUR CODE: ...` goes.

python -m exercises.stubs      # authors: write all exercise files anew; not if one holds an attempt
"""

import ast
import functools
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"^( *)# YOUR CODE: .*$", re.MULTILINE)


def chapters() -> list[str]:
    """The stems of all chapters that have exercises, in order: ch01_transformer, ..."""
    return sorted(path.stem for path in (ROOT / "solutions").glob("ch*.py"))


@functools.cache
def hints() -> dict:
    """What hints.toml says of each chapter and exercise: minutes, difficulty (1 to 3), hints."""
    return tomllib.loads((ROOT / "exercises" / "hints.toml").read_text(encoding="utf-8"))


def title(chapter: str) -> str:
    """A chapter's title: what its first line says after the number."""
    first = (ROOT / "course" / f"{chapter}.py").read_text(encoding="utf-8").splitlines()[1]
    return first.partition(". ")[2]


def solution_path(chapter: str) -> Path:
    return ROOT / "solutions" / f"{chapter}.py"


def exercise_path(chapter: str) -> Path:
    return ROOT / "exercises" / f"{chapter}.py"


def functions(text: str, name: str = "<unknown>") -> dict[str, ast.FunctionDef]:
    """The top-level functions of a Python text, by name. Raises SyntaxError, which says the `name`
    of the text.
    """
    return {
        node.name: node for node in ast.parse(text, name).body if isinstance(node, ast.FunctionDef)
    }


def exercise_names(chapter: str) -> list[str]:
    """The functions that the learner of this chapter is asked to write, in order."""
    text = solution_path(chapter).read_text(encoding="utf-8")
    return [name for name, node in functions(text).items() if MARK.search(source_of(text, node))]


def source_of(text: str, node: ast.FunctionDef) -> str:
    return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])


def stub_text(solution: str) -> str:
    """The exercise file for a solution file: in each function, the answer makes room for
    NotImplementedError.
    """
    lines = solution.splitlines()
    for node in reversed(functions(solution).values()):
        for number in range(node.lineno - 1, node.end_lineno):
            if found := MARK.match(lines[number]):
                lines[number + 1 : node.end_lineno] = [
                    f'{found[1]}raise NotImplementedError("{node.name}")'
                ]
                break
    return "\n".join(lines) + "\n"


def is_stub(node: ast.FunctionDef) -> bool:
    """True while a function has a docstring and `raise NotImplementedError`, nothing else: it was
    not attempted.
    """
    *before, last = node.body
    raised = (
        last.exc
        if isinstance(last, ast.Raise) and len(before) <= (ast.get_docstring(node) is not None)
        else None
    )
    name = raised.func if isinstance(raised, ast.Call) else raised
    return isinstance(name, ast.Name) and name.id == "NotImplementedError"


def written(chapter: str) -> dict[str, ast.FunctionDef]:
    """The functions in a chapter's exercise file, none if there is no file. Raises SyntaxError if
    it cannot be read.
    """
    path = exercise_path(chapter)
    name = f"exercises/{path.name}"
    try:
        return functions(path.read_text(encoding="utf-8"), name) if path.exists() else {}
    except (OSError, UnicodeDecodeError) as error:  # a folder of that name; another encoding
        reason = (
            error.strerror
            if isinstance(error, OSError)
            else f"it is not UTF-8 text, see byte {error.start}"
        )
        raise SyntaxError(reason, (name, None, None, None)) from None
    except SyntaxError as error:
        error.filename = name  # of null bytes, Python says only that there are some
        raise


def attempted(chapter: str) -> list[str]:
    """The exercises of a chapter whose stub has been replaced. Raises SyntaxError if the file
    cannot be read.
    """
    nodes = written(chapter)
    return [name for name in exercise_names(chapter) if name in nodes and not is_stub(nodes[name])]


def write_all() -> None:
    tried = [f"{chapter}.{name}" for chapter in chapters() for name in attempted(chapter)]
    if tried:
        advice = "Use: python -m exercises reset CHAPTER"
        sys.exit(f"these hold answers, nothing was written: {', '.join(tried)}. {advice}")
    for chapter in chapters():
        exercise_path(chapter).write_text(
            stub_text(solution_path(chapter).read_text(encoding="utf-8")), encoding="utf-8"
        )


if __name__ == "__main__":
    write_all()
