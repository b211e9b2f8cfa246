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
FOLDER = ROOT / "exercises"  # where the learner's files are
MARK = re.compile(r"^( *)# YOUR CODE: .*$", re.MULTILINE)


def chapters() -> list[str]:
    """The stems of all chapters that have exercises, in order: ch01_transformer, ..."""
    return sorted(path.stem for path in (ROOT / "solutions").glob("ch*.py"))


@functools.cache
def hints() -> dict:
    """What hints.toml says of each chapter and exercise: minutes, difficulty (1 to 3), hints."""
    return {name: table for name, table in tables().items() if name != "routes"}


@functools.cache
def tables() -> dict:
    """All of hints.toml: the routes, and a table per chapter."""
    return tomllib.loads((ROOT / "exercises" / "hints.toml").read_text(encoding="utf-8"))


def title(chapter: str) -> str:
    """A chapter's title: what its first line says, after the number if it has one."""
    first = (ROOT / "course" / f"{chapter}.py").read_text(encoding="utf-8").splitlines()[1]
    return re.sub(r"^# # (\d+\. )?", "", first)


def passage(chapter: str, name: str) -> str:
    """The part of a chapter's text that asks for an exercise, up to the next code."""
    cells = (ROOT / "course" / f"{chapter}.py").read_text(encoding="utf-8").split("\n# %%")
    texts = [cell for cell in cells if cell.lstrip("# %").startswith("[markdown]")]
    asks = re.compile(rf"\*\*Exercises?[^*]*`{name}`[^*]*\*\*")
    texts = [re.sub(r"^# ?", "", text.partition("\n")[2], flags=re.MULTILINE) for text in texts]
    found = [text for text in texts if asks.search(" ".join(text.split()))]
    return (found or [text for text in texts if f"`{name}`" in text] or texts)[0].strip()


def solution_path(chapter: str) -> Path:
    return ROOT / "solutions" / f"{chapter}.py"


def exercise_path(chapter: str) -> Path:
    return FOLDER / f"{chapter}.py"


def functions(text: str, name: str = "<unknown>") -> dict[str, ast.FunctionDef]:
    """The top-level functions of a Python text, by name. Raises SyntaxError, which says the `name`
    of the text.
    """
    return {
        node.name: node for node in parsed(text, name).body if isinstance(node, ast.FunctionDef)
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


def is_stub(node: ast.stmt) -> bool:
    """True while a function has a docstring and `raise NotImplementedError`, nothing else: it was
    not attempted.
    """
    if not isinstance(node, ast.FunctionDef):
        return False
    *before, last = node.body
    if not isinstance(last, ast.Raise) or len(before) > (ast.get_docstring(node) is not None):
        return False
    name = last.exc.func if isinstance(last.exc, ast.Call) else last.exc
    return isinstance(name, ast.Name) and name.id == "NotImplementedError"


def source(path: Path) -> str:
    """The text of a learner's file. Raises SyntaxError, with the reason, if it has none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:  # a folder of that name, for example
        raise SyntaxError(error.strerror, (shown(path), None, None, None)) from None
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 text, see byte {error.start}"
        raise SyntaxError(reason, (shown(path), None, None, None)) from None
    if "\0" in text:
        reason = "source code string cannot contain null bytes"
        raise SyntaxError(reason, (shown(path), None, None, None))
    return text


def shown(path: Path) -> str:
    """How a learner's file is called in messages."""
    return f"exercises/{path.name}"


def bindings(text: str) -> dict[str, list[ast.stmt]]:
    """What a text gives a name to, outside of functions and classes: name -> the statements that
    do, in order. Raises SyntaxError.
    """
    tree = parsed(text)
    found = {}
    for node in statements(tree.body):
        for name in names_given(node):
            found.setdefault(name, []).append(node)
    return found


def parsed(text: str, name: str = "<unknown>") -> ast.Module:
    """Raises SyntaxError if Python cannot read a text, for whatever reason."""
    try:
        return ast.parse(text, name)
    except (RecursionError, MemoryError):
        raise SyntaxError("it is nested too deeply", (name, None, None, None)) from None
    except ValueError as error:
        raise SyntaxError(str(error), (name, None, None, None)) from None


def statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """All statements, also those under an `if`, a `try` or a `with`, in order."""
    found = []
    for node in body:
        found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = [getattr(node, part, []) for part in ("body", "orelse", "finalbody")]
            inner += [part.body for part in getattr(node, "handlers", [])]
            for part in inner:
                found += statements(part)
    return found


def names_given(node: ast.stmt) -> list[str]:
    """The names that one statement binds: those of a function, a class, an import, a value."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    targets = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign) and node.value:
        targets = [node.target]
    return [
        part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
    ]


def written(chapter: str) -> dict[str, list[ast.stmt]]:
    """What stands in a chapter's exercise file, by name; nothing if there is no file. Raises
    SyntaxError if it cannot be read.
    """
    path = exercise_path(chapter)
    try:
        return bindings(source(path)) if path.exists() else {}
    except SyntaxError as error:
        error.filename = shown(path)
        raise


def attempted(chapter: str) -> list[str]:
    """The exercises of a chapter that stand in its file as anything but a stub. Raises SyntaxError
    if the file cannot be read.
    """
    found = written(chapter)
    names = exercise_names(chapter)
    return [name for name in names if not all(map(is_stub, found.get(name, [])))]


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
