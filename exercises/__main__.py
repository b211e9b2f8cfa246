"""Your desk: python -m exercises [check | watch | hint | reset].

python -m exercises                  one row per chapter, what is next and how long it takes
python -m exercises check [NAME]     check a function, a chapter (a number), or all you attempted
python -m exercises watch [NAME]     the same, again each time you save
python -m exercises hint [NAME] [N]  the first hint, or the N-th; no name: for the next exercise
python -m exercises reset CHAPTER    a fresh file for a whole chapter (a number); keeps the old one
"""

import argparse
import sys
import time
from pathlib import Path

from . import progress, stubs
from .attempts import UNUSABLE


def find(name: str | None) -> list[tuple[str, str]]:
    """The (chapter, exercise) pairs that a name stands for; None: all.

    name: of a function, or of a chapter (7, ch07 or its stem). Raises ValueError if nothing has it.
    """
    every = []
    for chapter in stubs.chapters():
        every += [(chapter, exercise) for exercise in stubs.exercise_names(chapter)]
    if name is None:
        return every
    start = f"ch{int(name):02d}_" if name.isdecimal() else f"{name}_"
    picked = [pair for pair in every if name in pair or pair[0].startswith(start)]
    if not picked:
        near = progress.nearest(name, every)
        raise ValueError(f"no exercise or chapter is called {name!r}. {near}")
    return picked


def show_progress() -> int:
    """One row per chapter: ✓ passes, ✗ fails, · not attempted; then what is next."""
    outcomes = progress.run(find(None))
    for chapter in stubs.chapters():
        names, entry = stubs.exercise_names(chapter), stubs.hints()[chapter]
        signs = "".join(outcomes[chapter, name].sign for name in names)
        print(f"{chapter[2:4]}  {stubs.title(chapter):66} {entry['minutes']:3} min  {signs}")
    following = first_open(outcomes)
    if following is None:
        print("\nEverything passes. You have taken a transformer apart.")
        return 0
    chapter, name = following
    minutes = stubs.hints()[chapter]["exercises"][name]["minutes"]
    print(f"\nnext: {name}, about {minutes} minutes, in exercises/{chapter}.py")
    print(f"      python -m exercises check {name}      python -m exercises hint {name}")
    return 0


def first_open(outcomes: dict[tuple[str, str], progress.Outcome]) -> tuple[str, str] | None:
    """The first (chapter, exercise) that does not pass."""
    return next((pair for pair, outcome in outcomes.items() if outcome.sign != "✓"), None)


def check(name: str | None) -> int:
    """Print each failure, and a line of what passes; 0 only if nothing failed."""
    outcomes = progress.run(find(name))
    failed = {pair: outcome for pair, outcome in outcomes.items() if outcome.sign == "✗"}
    unusable = set()  # chapters whose file cannot be read: said once, not for each exercise
    for (chapter, _), outcome in failed.items():
        if chapter not in unusable:
            print(outcome.text + "\n")
        if UNUSABLE in outcome.text:
            unusable.add(chapter)
    for (chapter, exercise), outcome in outcomes.items():
        if outcome.sign == "✓":
            print(f"✓ {exercise}. Now compare with the reference: solutions/{chapter}.py")
        elif outcome.sign == "·" and exercise not in stubs.written(chapter):
            print(f"· {exercise} is not in exercises/{chapter}.py: renamed or deleted?")
            print(f"  A fresh file: python -m exercises reset {int(chapter[2:4])}")
        elif name is not None and outcome.sign == "·":
            print(f"· {exercise} is not attempted yet: exercises/{chapter}.py")
    if name is None and all(outcome.sign == "·" for outcome in outcomes.values()):
        print("Nothing is attempted yet. `python -m exercises` says where to begin.")
    return 1 if failed else 0


def watch(name: str | None) -> int:
    """Check again whenever an exercise file is saved, until Ctrl-C."""
    paths = {stubs.exercise_path(chapter) for chapter, _ in find(name)}
    seen = None
    try:
        while True:
            now = {path: path.stat().st_mtime if path.exists() else 0 for path in paths}
            if now != seen:
                print(f"--- {time.strftime('%H:%M:%S')}, Ctrl-C ends", flush=True)
                check(name)
                seen = now
            time.sleep(0.3)
    except KeyboardInterrupt:
        return 0


def hint(name: str | None, number: int) -> int:
    """Print hint `number` of an exercise, and how to get the one after it."""
    chapter, name = find(name)[0] if name else next_open()
    texts = stubs.hints()[chapter]["exercises"][name]["hints"]
    if not 1 <= number <= len(texts):
        raise ValueError(
            f"{name} has hints 1 to {len(texts)}; the answer is in solutions/{chapter}.py."
        )
    print(f"{name}, hint {number} of {len(texts)}: {texts[number - 1]}")
    if number < len(texts):
        print(f"more: python -m exercises hint {name} {number + 1}")
    else:
        print(f"more: solutions/{chapter}.py")
    return 0


def next_open() -> tuple[str, str]:
    """The first (chapter, exercise) that does not pass, chapter by chapter: no more is run."""
    for chapter in stubs.chapters():
        pair = first_open(progress.run(find(chapter)))
        if pair:
            return pair
    return find(None)[0]


def reset(name: str) -> int:
    """Write a chapter's exercise file anew; what was there is kept as NAME.1.old, NAME.2.old."""
    chapter, exercise = find(name)[0]
    if name == exercise:
        number = int(chapter[2:4])
        raise ValueError(
            f"a whole chapter is reset, not one function: python -m exercises reset {number}"
        )
    path = stubs.exercise_path(chapter)
    fresh = stubs.stub_text(stubs.solution_path(chapter).read_text(encoding="utf-8"))
    if path.exists():
        number = next(n for n in range(1, 10_000) if not kept(path, n).exists())
        path.rename(kept(path, number))
        print(f"your file is kept as exercises/{kept(path, number).name}")
    path.write_text(fresh, encoding="utf-8")
    print(f"fresh: exercises/{path.name}")
    return 0


def kept(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number}.old")


def main(argv: list[str] | None = None) -> int:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m exercises", description=__doc__, formatter_class=raw
    )
    commands = parser.add_subparsers(dest="command")
    for command in ("check", "watch", "hint"):
        commands.add_parser(command).add_argument("name", nargs="?", metavar="NAME")
    commands.choices["hint"].add_argument("number", nargs="?", type=int, default=1, metavar="N")
    commands.add_parser("reset").add_argument("name", metavar="CHAPTER")
    args = parser.parse_args(argv)
    try:
        if args.command == "hint":
            return hint(args.name, args.number)
        actions = {"check": check, "watch": watch, "reset": reset}
        return actions[args.command](args.name) if args.command else show_progress()
    except ValueError as error:
        print(f"{error}", file=sys.stderr)
        return 2
    except OSError as error:  # a folder that may not be written
        reason = "The exercises need a folder that you may write to."
        print(f"{error.filename}: {error.strerror}. {reason}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
