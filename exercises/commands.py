"""What one can ask for at the desk: progress, check, hint, reset. Each gives the exit status."""

from pathlib import Path

from . import progress, routes, stubs
from .attempts import UNUSABLE

Pair = tuple[str, str]  # (chapter, exercise)

DONE = "Everything passes. You have taken a transformer apart."


def find(name: str | None, route: str = routes.ALL) -> list[Pair]:
    """The (chapter, exercise) pairs of a route that a name stands for; None: all of the route.

    name: of a function, or of a chapter (7, ch07 or its stem). Raises ValueError if nothing has it,
    or nothing on this route.
    """
    wanted = routes.exercises(route)
    if name is None:
        return wanted
    every = routes.exercises(routes.ALL)
    start = f"ch{int(name):02d}_" if name.isdecimal() else f"{name}_"
    picked = [pair for pair in every if name in pair or pair[0].startswith(start)]
    if not picked:
        near = progress.nearest(name, every)
        raise ValueError(f"no exercise or chapter is called {name!r}. {near}")
    on_route = [pair for pair in picked if pair in wanted]
    if not on_route:
        raise ValueError(f"{name} is not on the route {route}; leave `--route` out for it.")
    return on_route


def show_progress(route: str = routes.ALL) -> int:
    """One row per chapter of the route: ✓ passes, ✗ fails, · not attempted; then what is next."""
    outcomes = progress.run(find(None, route))
    show_rows(route, outcomes)
    following = first_open(outcomes)
    if following is None:
        print(f"\n{DONE if route == routes.ALL else f'Everything on the route {route} passes.'}")
        return 0
    chapter, name = following
    print(f"\nnext: {name}, {effort(following)}, in exercises/{chapter}.py")
    print(f"      python -m exercises check {name}      python -m exercises hint {name}")
    show_way(route, outcomes)
    return 0


def show_rows(route: str, outcomes: dict[Pair, progress.Outcome]) -> None:
    for chapter in routes.parts(route):
        mine = [pair for pair in outcomes if pair[0] == chapter]
        signs = "".join([outcomes[pair].sign for pair in mine])
        minutes = routes.minutes_of(route, chapter)
        print(f"{chapter[2:4]}  {stubs.title(chapter):66} {minutes:3} min  {signs}")


def show_way(route: str, outcomes: dict[Pair, progress.Outcome]) -> None:
    """How much of a route is left; or, to those who are on none, that there are routes."""
    if route == routes.ALL:
        print(f"\na shorter way: --route {', '.join(routes.names()[:-1])}")
        return
    left = [pair for pair, outcome in outcomes.items() if outcome.sign != "✓"]
    minutes = routes.writing(left)
    minutes += sum(routes.reading(route, chapter) for chapter in {chapter for chapter, _ in left})
    print(f"\nleft of the route {route}: about {minutes} minutes, exercises: {len(left)}")
    print(f"      python -m course --route {route}      says which parts to read")


def effort(pair: Pair) -> str:
    """How long an exercise takes, and how hard it is, in words."""
    chapter, name = pair
    entry = stubs.hints()[chapter]["exercises"][name]
    return f"about {entry['minutes']} minutes, difficulty {entry['difficulty']} of 3"


def first_open(outcomes: dict[Pair, progress.Outcome]) -> Pair | None:
    """The first (chapter, exercise) that does not pass."""
    return next((pair for pair, outcome in outcomes.items() if outcome.sign != "✓"), None)


def check(name: str | None, route: str = routes.ALL) -> int:
    """Print each failure, and a line of what passes; 0 only if all that was asked for passes.

    name: None asks for what is attempted of the route.
    """
    return show_outcomes(progress.run(find(name, route)), attempted_only=name is None)


def show_outcomes(outcomes: dict[Pair, progress.Outcome], attempted_only: bool) -> int:
    show_failures(outcomes)
    passed = all([show_rest(*entry, attempted_only) for entry in outcomes.items()])
    if attempted_only and all(outcome.sign == "·" for outcome in outcomes.values()):
        print("Nothing is attempted yet. `python -m exercises` says where to begin.")
    return 0 if passed else 1


def show_failures(outcomes: dict[Pair, progress.Outcome]) -> None:
    unusable = set()  # chapters whose file cannot be read: said once, not for each exercise
    for (chapter, _), outcome in outcomes.items():
        if outcome.sign == "✗" and chapter not in unusable:
            print(outcome.text + "\n")
        if UNUSABLE in outcome.message:
            unusable.add(chapter)


def show_rest(pair: Pair, outcome: progress.Outcome, attempted_only: bool) -> bool:
    """Print what is to be said of an exercise that did not fail. -> is it as it should be?"""
    chapter, exercise = pair
    if outcome.sign == "✓":
        print(f"✓ {exercise}. Now compare with the reference: solutions/{chapter}.py")
        return True
    if outcome.sign == "✗":
        return False
    if exercise not in stubs.written(chapter):
        print(f"· {exercise} is not in exercises/{chapter}.py: renamed or deleted?")
        print(f"  A fresh file: python -m exercises reset {int(chapter[2:4])}")
        return False
    if not attempted_only:
        print(f"· {exercise} is not attempted yet: exercises/{chapter}.py")
    return attempted_only


def hint(name: str | None, number: int, route: str = routes.ALL) -> int:
    """Print hint `number` of an exercise, and how to get the one after it."""
    chapter, name = find(name, route)[0] if name else next_open(route)
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


def next_open(route: str) -> Pair:
    """The first (chapter, exercise) that does not pass, chapter by chapter: no more is run."""
    for chapter in routes.parts(route):
        pair = first_open(progress.run(find(chapter, route)))
        if pair:
            return pair
    return find(None, route)[0]


def reset(name: str | None) -> int:
    """Write a chapter's exercise file anew; what was there is kept as NAME.1.old, NAME.2.old."""
    if name is None:
        raise ValueError("which chapter? For example: python -m exercises reset 1")
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
