"""python -m exercises watch: checks again each time a file is saved, and answers to keys."""

import time

from . import commands, progress, routes, stubs
from .keyboard import keyboard, on_terminal

KEYS = "n next exercise, h hint, r read the text, q quit"
PAUSE = 0.3  # seconds between two looks at the files


class Watch:
    """What is being watched, and which exercise the keys are about."""

    def __init__(self, name: str | None, route: str = routes.ALL):
        self.route = route
        self.turn_to(name)

    def turn_to(self, name: str | None) -> None:
        """Watch what a name stands for; None: the whole route."""
        self.name, self.wanted = name, commands.find(name, self.route)
        self.current, self.hints_given, self.seen = self.wanted[0], 0, None

    def look(self) -> None:
        """Check again if a file was saved since the last look."""
        paths = {stubs.exercise_path(chapter) for chapter, _ in self.wanted}
        now = {path: stamp(path) for path in paths}
        if now == self.seen:
            return
        self.seen = now
        outcomes = progress.run(self.wanted)
        following = commands.first_open(outcomes) or self.wanted[-1]
        if following != self.current:
            self.current, self.hints_given = following, 0
        print(
            f"--- {time.strftime('%H:%M:%S')}  {self.current[1]}: {commands.effort(self.current)}"
        )
        commands.show_outcomes(outcomes, attempted_only=self.name is None)
        print(KEYS if on_terminal() else "Ctrl-C ends", flush=True)

    def press(self, key: str) -> None:
        """Do what a key stands for; others mean nothing."""
        if key == "n":
            self.go_on()
        elif key == "h":
            self.give_hint()
        elif key == "r":
            print(f"\n{stubs.passage(*self.current)}\n", flush=True)

    def go_on(self) -> None:
        """Turn to the exercise after this one."""
        every = commands.find(None, self.route)
        place = every.index(self.current) + 1
        if place == len(every):
            print("this is the last one", flush=True)
            return
        self.turn_to(every[place][1])

    def give_hint(self) -> None:
        """One more each time; after the last one, the last one again."""
        chapter, name = self.current
        count = len(stubs.hints()[chapter]["exercises"][name]["hints"])
        self.hints_given = min(self.hints_given + 1, count)
        commands.hint(name, self.hints_given)


def stamp(path) -> tuple[int, int] | None:
    """Changes whenever a file is saved; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def watch(name: str | None, route: str = routes.ALL) -> int:
    """Check now, and whenever an exercise file is saved, until q or Ctrl-C."""
    at = Watch(name, route)
    with keyboard() as key:
        while True:
            at.look()
            pressed = key(PAUSE)
            if pressed == "q":
                return 0
            if pressed:
                at.press(pressed)
