"""Your desk: python -m exercises [check | watch | hint | reset].

python -m exercises                  one row per chapter, what is next and how long it takes
python -m exercises check [NAME]     check a function, a chapter (a number), or all you attempted
python -m exercises watch [NAME]     the same, again each time you save; keys: n next, h hint,
                                     r read the text, q quit
python -m exercises hint [NAME] [N]  the first hint, or the N-th; no name: for the next exercise
python -m exercises reset CHAPTER    a fresh file for a whole chapter (a number); keeps the old one

--route NAME, with any of the first four: only what is on this way through the course, for example
python -m exercises --route core     an afternoon. The others: causes, arithmetic, all

Exit status: 0 all right, 1 wrong or unfinished, 2 not understood, 130 stopped by Ctrl-C.
"""

import argparse
import sys

from minitransformer import terminal

from . import commands, progress, routes, watch


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawTextHelpFormatter
    top = argparse.ArgumentParser(
        prog="python -m exercises", description=__doc__, formatter_class=raw
    )
    top.add_argument("--route", metavar="NAME", default=routes.ALL, help=argparse.SUPPRESS)
    way = argparse.ArgumentParser(add_help=False)  # the same after the command
    way.add_argument("--route", metavar="NAME", default=argparse.SUPPRESS)
    add = top.add_subparsers(dest="command").add_parser
    for command in ("check", "watch"):
        add(command, parents=[way]).add_argument("name", nargs="?", metavar="NAME")
    hint = add("hint", parents=[way])
    hint.add_argument("name", nargs="?", metavar="NAME")
    hint.add_argument("number", nargs="?", type=int, default=1, metavar="N")
    add("reset").add_argument("name", nargs="?", metavar="CHAPTER")
    return top


def act(args: argparse.Namespace) -> int:
    """Do what was asked for. Raises ValueError if that was not understood."""
    routes.table(args.route)
    if args.command is None:
        return commands.show_progress(args.route)
    if args.command == "hint":
        return commands.hint(args.name, args.number, args.route)
    if args.command == "reset":
        return commands.reset(args.name)
    actions = {"check": commands.check, "watch": watch.watch}
    return actions[args.command](args.name, args.route)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        return act(args)
    except (ValueError, progress.NotChecked) as error:
        print(f"{error}", file=sys.stderr)
    except BrokenPipeError:
        raise
    except OSError as error:  # a folder that may not be written
        reason = "The exercises need a folder that you may write to."
        print(f"{error.filename}: {error.strerror}. {reason}", file=sys.stderr)
    return terminal.EXIT_BAD_INPUT


if __name__ == "__main__":
    terminal.run_main(main)
