"""Read and run the chapters: python -m course [NUMBER | notebook NUMBER | site | lab].

python -m course                     all chapters: minutes, and how many of your exercises pass
python -m course --route core        those of a route, and what to read of each
python -m course 7                   run chapter 7: its text, its numbers, its pictures
python -m course 7 --mine            the same on the functions that you wrote
python -m course 7 --model FOLDER    the same on the model that you trained;
                                     chapter 17 has three: give --model three times
python -m course 7 --show            open each picture
python -m course 7 --pause           wait at each question, until you press Enter
python -m course notebook 7          write chapter 7 as a Jupyter notebook; with --mine and --model
python -m course notebook all        the same for all chapters
python -m course other_models        your tools on the models of another library
python -m course site                all chapters as web pages, in site/; with --mine and --model
python -m course lab                 the live lab, a model running in a page; with --model

Exit status: 0 all claims hold, 1 one does not, 2 not understood or stopped, 130 stopped by Ctrl-C.
"""

import argparse
import sys
from pathlib import Path

from exercises.keyboard import on_terminal
from minitransformer import terminal

from . import notebooks, reading

SITE = Path("site")


def act(args: argparse.Namespace) -> None:
    """Do what was asked for. Raises ValueError if that was not understood."""
    if not args.what:
        reading.list_chapters(args.route)
    elif args.what == ["site"]:
        print(write_site(args))
    elif args.what == ["lab"]:
        print(write_lab(args))
    elif args.what == ["notebook"]:
        raise ValueError("which chapter? Or all of them? For example: python -m course notebook 1")
    elif args.what[0] == "notebook" and len(args.what) == 2:
        print(write_notebooks(args.what[1], args))
    elif len(args.what) == 1:
        path = reading.chapter_path(args.what[0])
        wait = wait_for_enter if args.pause and on_terminal() else None
        reading.run_chapter(path, args.mine, reading.stand_ins(args.model), args.show, wait)
    else:
        raise ValueError(f"not understood: {' '.join(args.what)}. Try: python -m course --help")


def write_notebooks(which: str, args: argparse.Namespace) -> str:
    """Write one chapter, or all, as notebooks. -> what was done"""
    if args.show or args.pause:
        raise ValueError("a notebook shows and waits by itself: no --show and no --pause, please.")
    if args.model:
        reading.stand_ins(args.model)  # refuse now what the notebook could not load
    return notebooks.write_chapters(which, Path.cwd(), args.mine, args.model)


def write_site(args: argparse.Namespace) -> str:
    """Write all pages to site/. -> what was done"""
    try:
        from .site import pages
    except ModuleNotFoundError as error:
        advice = "pip install -e '.[site]'"
        raise ValueError(f"the pages need the package {error.name!r}: {advice}") from None
    count = pages.build(SITE, args.mine, args.model)
    return f"written: {count} pages. Open {SITE / 'index.html'} in a browser."


def write_lab(args: argparse.Namespace) -> str:
    """Write the lab to site/lab.html. -> what was done"""
    from .site.lab import lab

    models = reading.stand_ins(args.model)
    unused = [models[name] for name in models if name not in lab.TITLES]
    if unused:
        raise ValueError(f"the lab has no place for {unused[0]}: it shows {', '.join(lab.TITLES)}.")
    target = lab.write(SITE / "lab.html", models)
    return f"written: {target}. Open it in a browser; it needs no other file."


def wait_for_enter() -> None:
    print("(Your guess? Enter goes on.) ", end="", flush=True)
    try:
        input()
    except EOFError:
        print()


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawTextHelpFormatter
    top = argparse.ArgumentParser(prog="python -m course", description=__doc__, formatter_class=raw)
    top.add_argument("what", nargs="*", metavar="NUMBER | notebook NUMBER | site | lab")
    top.add_argument("--route", default="all", metavar="NAME", help="a way through the course")
    top.add_argument("--mine", action="store_true", help="use the functions that you wrote")
    top.add_argument("--model", metavar="FOLDER", action="append", default=[], help="your model")
    top.add_argument("--show", action="store_true", help="open each picture")
    top.add_argument("--pause", action="store_true", help="wait at each question")
    return top


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        act(args)
    except BrokenPipeError:
        raise
    except Exception as error:
        sentence = reading.in_a_sentence(error, args.mine, args.model)
        if not sentence:
            raise
        print(sentence, file=sys.stderr)
        return 1 if reading.is_claim(error) else 2
    return 0


if __name__ == "__main__":
    terminal.run_main(main)
