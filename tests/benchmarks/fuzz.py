"""Does anything that is typed end badly? python -m tests.benchmarks.fuzz

Random mutations (bytes, tokens, indentation) of right answers go through `check`: there must be one
verdict for each, no traceback, no other file changed, and an end in time. Then random command lines
go to the three programs: they must end with 0, 1, 2 or 130 and print no traceback; one that still
runs after some seconds gets a Ctrl-C. All of it happens in a copy of the project.
"""

import argparse
import collections
import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
from pathlib import Path

from exercises import commands, limits, progress, stubs
from tests.minitransformer.bad_input import fingerprint, stamp

OUTSIDE = shutil.ignore_patterns(".*", "runs", "figures", "__pycache__", "site")
PATIENCE = 4.0  # seconds, then Ctrl-C
ENDS = (0, 1, 2, 130)
SIGNS = "()[]{}:;,.=+-*/@%'\"#\\\n\t 0aé\0\ufeff"

# ---- mutations


def mutated(text: str, name: str, draw: random.Random) -> bytes:
    """A chapter's file with one to three changes inside the answer to `name`."""
    lines, node = text.splitlines(keepends=True), stubs.functions(text)[name]
    before, after = lines[: node.lineno - 1], lines[node.end_lineno :]
    answer = "".join(lines[node.lineno - 1 : node.end_lineno])
    changed = answer.encode()
    for _ in range(draw.choice([1, 1, 2, 3])):
        change = draw.choice([change_bytes, change_tokens, change_indentation])
        changed = change(changed, draw)
    return "".join(before).encode() + changed + "".join(after).encode()


def change_bytes(text: bytes, draw: random.Random) -> bytes:
    """One byte flipped, a stretch of bytes removed, doubled, or put in."""
    start = draw.randrange(len(text) + 1)
    end = min(len(text), start + draw.choice([1, 1, 2, 5, 40]))
    middle = draw.choice(
        [
            bytes(draw.randrange(256) for _ in range(end - start)),
            b"",
            text[start:end] * 2,
            draw.choice(SIGNS).encode() + text[start:end],
        ]
    )
    return text[:start] + middle + text[end:]


def change_tokens(text: bytes, draw: random.Random) -> bytes:
    """One token removed, doubled, or exchanged with another one of the same answer."""
    try:
        every = list(tokenize.tokenize(io.BytesIO(text).readline))
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
        return change_bytes(text, draw)
    words = [token for token in every if token.string.strip() and token.start[0] == token.end[0]]
    words = [token for token in words if token.type != tokenize.ENCODING]
    if not words:
        return change_bytes(text, draw)
    here, there = draw.choice(words), draw.choice(words)
    lines = text.decode("utf-8", "replace").splitlines(keepends=True)
    line, (row, start), (_, end) = lines[here.start[0] - 1], here.start, here.end
    new = draw.choice(["", f"{here.string} {here.string}", there.string])
    lines[row - 1] = line[:start] + new + line[end:]
    return "".join(lines).encode()


def change_indentation(text: bytes, draw: random.Random) -> bytes:
    """One line moved to the right or to the left."""
    lines = text.splitlines(keepends=True) or [b"\n"]
    row = draw.randrange(len(lines))
    shift = draw.choice([b" ", b"    ", b"\t", None])
    lines[row] = lines[row].lstrip(b" ") if shift is None else shift + lines[row]
    return b"".join(lines)


def try_mutations(count: int, draw: random.Random, home: Path) -> None:
    """Check mutated answers, one of each chapter at a time, and print what came of them."""
    stubs.FOLDER, limits.SECONDS, limits.GRACE = home / "answers", 2, 2
    stubs.FOLDER.mkdir()
    signs, bad, longest, left = collections.Counter(), [], 0.0, count
    whole = fingerprint(home, stamp)
    while left > 0:
        wanted = []
        for chapter in stubs.chapters()[:left]:
            text = stubs.solution_path(chapter).read_text(encoding="utf-8")
            name = draw.choice(stubs.exercise_names(chapter))
            stubs.exercise_path(chapter).write_bytes(mutated(text, name, draw))
            wanted.append((chapter, name))
        left -= len(wanted)
        began = time.perf_counter()
        outcomes, said = checked(wanted)
        longest = max(longest, time.perf_counter() - began)
        for (chapter, name), outcome in outcomes.items():
            signs[outcome.sign] += 1
            if verdicts(said, name) != 1 or "Traceback" in outcome.text:
                kept = home / f"bad-{len(bad)}.py"
                kept.write_bytes(stubs.exercise_path(chapter).read_bytes())
                bad.append(f"{name}: {outcome.text!r}")
        for path in stubs.FOLDER.iterdir():
            path.unlink()
        print(f"{count - left} of {count}: {dict(signs)}, {len(bad)} bad", flush=True)
    changed = fingerprint(home, stamp) != whole
    print(f"\n{count} mutations: {dict(signs)}; {len(bad)} without one clean verdict")
    print(f"other files changed: {'yes' if changed else 'none'}")
    print(f"the slowest batch of {len(wanted)}: {longest:.1f} s")
    print("\n".join(bad))


def checked(wanted: list) -> tuple[dict, str]:
    """The outcomes of one batch, and what `check` prints of them."""
    printed = io.StringIO()
    outcomes = progress.run(wanted)
    with contextlib.redirect_stdout(printed):
        for pair, outcome in outcomes.items():
            commands.show_outcomes({pair: outcome}, attempted_only=False)
    return outcomes, printed.getvalue()


def verdicts(said: str, name: str) -> int:
    """How many lines begin as a verdict about this exercise does."""
    starts = (f"✓ {name}.", f"{name}: ", f"· {name} is not")
    return sum(line.startswith(starts) for line in said.splitlines())


# ---- command lines


WORDS = [
    *("train evaluate look check watch hint reset notebook dance --help -h --").split(),
    *("--preset --seed --seeds --steps --out --resume --device --model --mine --show").split(),
    *("--pause --route --version -x --=1 --seed=3 --steps=2 --out= --model=").split(),
    *("loop induction arithmetic fast one-layer impostor nowhere run/x auto cpu cuda").split(),
    *("0 1 2 3 7 17 18 99 -1 1e9 007 ² ٣ ch01 ch07_ 99999999999999999999").split(),
    *("attention_pattern forward find_heads forwrd ch01_transformer").split(),
    *("", " ", "*", "..", "/", "/dev/null", "a b", "ρ", "x" * 300, "\udcff", "'", "\n"),
]
FIRST = {
    "minitransformer": ["train", "evaluate", "look"],
    "course": ["1", "7", "notebook", "3"],
    "exercises": ["check", "watch", "hint", "reset"],
}


def command_line(draw: random.Random) -> tuple[str, list[str]]:
    program = draw.choice(list(FIRST))
    words = [draw.choice(WORDS) for _ in range(draw.choice([0, 1, 1, 2, 3, 5]))]
    if draw.random() < 0.7:
        words.insert(0, draw.choice(FIRST[program]))
    return program, words


def try_lines(count: int, draw: random.Random, home: Path) -> None:
    """Give random command lines to the programs, and print how they ended."""
    ends, bad = collections.Counter(), []
    for number in range(count):
        program, words = command_line(draw)
        folder = home / f"line-{number}"
        folder.mkdir()
        status, said = ended(program, words, home, folder)
        ends[status] += 1
        if status not in ENDS or "Traceback" in said:
            bad.append(f"python -m {program} {words}: {status}\n{said[-1500:]}")
        shutil.rmtree(folder, ignore_errors=True)
        if number % 50 == 49:
            print(f"{number + 1} of {count}: {dict(ends)}, {len(bad)} bad", flush=True)
    print(f"\n{count} command lines: exit statuses {dict(ends)}; {len(bad)} ended badly")
    print("\n".join(bad))


def ended(program: str, words: list[str], home: Path, folder: Path) -> tuple[int, str]:
    """(the exit status, what was printed) of one command line, Ctrl-C after PATIENCE."""
    environment = os.environ | {"PYTHONPATH": str(home / "project")}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = [sys.executable, "-m", program, *words]
    process = subprocess.Popen(command, cwd=folder, env=environment, **pipes)
    try:
        said, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            said, _ = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    return process.returncode, said.decode("utf-8", "replace")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fuzz")
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        home = Path(temporary).resolve()
        shutil.copytree(stubs.ROOT, home / "project", ignore=OUTSIDE, symlinks=True)
        if args.lines:
            try_lines(args.lines, random.Random(args.seed), home)
        if args.mutations:
            try_mutations(args.mutations, random.Random(args.seed), home)


if __name__ == "__main__":
    main()
