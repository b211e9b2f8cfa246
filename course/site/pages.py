"""The course as web pages: `python -m course site` runs every chapter and writes site/.

The pages need no server and ask for nothing from elsewhere. A claim that fails stops the build, and
then nothing is written.
"""

import html
import itertools
import json
import multiprocessing
import os
import re
import shutil
import string
import tomllib
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from pygments.formatters import HtmlFormatter
from tqdm import tqdm

from course import reading
from exercises import routes, stubs

from . import chapter
from .lab import lab

HERE = Path(__file__).parent
GLOSSARY = HERE / "glossary.toml"  # term -> what it means, in a line; the chapter and heading
GLUE = "\N{NO-BREAK SPACE}"
Link = tuple[str, str, str]  # words, what they name, address: an entry of the search index


class Stopped(AssertionError):
    """A chapter could not be shown: what it says is the reason."""


def build(target: Path, mine: bool, folders: list[str]) -> int:
    """Write the pages to `target`. -> how many

    Raises ValueError for models that cannot be used, Stopped if a chapter does not run.
    """
    models = reading.stand_ins(folders)
    pages = run_all(mine, folders, models)
    write_lab(target / "lab.html", models)
    index = [(stubs.title(stem), called(stem), f"{stem}.html") for stem in pages]
    texts = {"index.html": front(), "glossary.html": glossary(index)}
    for stem, page in pages.items():
        index += entries(stem, page)
        texts[f"{stem}.html"] = filled(stubs.title(stem), page.body, inside(page), next_to(stem))
        texts[f"source/{stem}.html"] = source(stem)
        for name, picture in page.pictures.items():
            texts[f"figures/{name}.svg"] = picture
    texts["index.js"] = f"const INDEX = {json.dumps(index, ensure_ascii=False, indent=0)};\n"
    texts["page.css"] = (HERE / "page.css").read_text(encoding="utf-8") + colors()
    for name, text in texts.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copy(HERE / "page.js", target)
    shutil.copy(stubs.ROOT / "course" / "figures" / "lab.png", target / "figures")
    return sum(name.endswith(".html") for name in texts) + 1


def write_lab(path: Path, models: dict[str, str]) -> None:
    """The lab; with the shipped models where it cannot show the reader's, which chapters may."""
    try:
        lab.write(path, models)
    except ValueError as error:
        print(f"{error} The lab has the shipped models.")
        lab.write(path, {})


def run_all(mine: bool, folders: list[str], models: dict[str, str]) -> dict[str, chapter.Page]:
    """Every chapter's page, each run in a process of its own, as many at once as there are cores.

    The last chapters take longest, so they begin.
    """
    fresh = {"mp_context": multiprocessing.get_context("spawn"), "max_tasks_per_child": 1}
    stems, done = every(), {}
    with ProcessPoolExecutor(os.cpu_count(), **fresh) as pool:
        jobs = {pool.submit(attempt, stem, mine, folders, models): stem for stem in stems[::-1]}
        for job in tqdm(as_completed(jobs), "chapters", len(jobs)):
            done[jobs[job]] = job.result()
            if isinstance(job.result(), str):
                pool.shutdown(cancel_futures=True)
                raise Stopped(f"{called(jobs[job])}: {job.result()}")
    return {stem: done[stem] for stem in stems}


def attempt(stem: str, mine: bool, folders: list[str], models: dict) -> chapter.Page | str:
    """A chapter's page, or in words what stopped it: not every error travels between processes."""
    try:
        return chapter.make(stubs.ROOT / "course" / f"{stem}.py", mine, models)
    except Exception as error:
        return reading.in_a_sentence(error, mine, folders) or traceback.format_exc()


def every() -> list[str]:
    """All chapters and pages, in the order in which they are read."""
    return stubs.chapters() + reading.PAGES


def called(stem: str) -> str:
    return f"chapter {int(stem[2:4])}" if stem in stubs.chapters() else "the last page"


def filled(title: str, body: str, inside: str = "", after: str = "", root: str = "") -> str:
    """A page; root: from its folder to the uppermost, as "../"."""
    page = string.Template((HERE / "page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=html.escape(title), body=body, inside=inside, next=after, root=root
    )


def link(address: str, words: str) -> str:
    return f'<a href="{address}">{html.escape(words)}</a>'


def listed(items: list[str]) -> str:
    return "<ul>" + "".join([f"<li>{item}</li>\n" for item in items]) + "</ul>\n"


def inside(page: chapter.Page) -> str:
    return listed([link(f"#{anchor}", words) for anchor, words in page.headings])


def next_to(stem: str) -> str:
    """Links to the chapters before and after one."""
    stems = every()
    place = stems.index(stem)
    links = [link("index.html", f"←{GLUE}Contents")]
    if place > 0:
        before = stems[place - 1]
        links = [link(f"{before}.html", f"←{GLUE}{stubs.title(before)}")]
    if place + 1 < len(stems):
        after = stems[place + 1]
        links.append(link(f"{after}.html", f"{stubs.title(after)}{GLUE}→"))
    return " ".join(links)


def source(stem: str) -> str:
    """The file of a chapter, each line with its anchor."""
    text = (stubs.ROOT / "course" / f"{stem}.py").read_text(encoding="utf-8")
    back = link(f"../{stem}.html", "the chapter")
    name = f"course/{stem}.py"
    title = re.sub("([/_])", r"\1<wbr>", name)  # where a line may end on a phone
    body = f"<h1>{title}</h1><p>{back}</p>{chapter.colored(text, 1, 'line')}"
    return filled(name, body, root="../")


def entries(stem: str, page: chapter.Page) -> list[Link]:
    """What the search finds of a chapter: its headings and exercises."""
    where, name = f"in {called(stem)}", f"{stem}.html"
    found = [(words, where, f"{name}#{anchor}") for anchor, words in page.headings[1:]]
    for exercise in chapter.exercises(stem):
        found.append((exercise, f"exercise {where}", f"{name}#{exercise}"))
    return found


def front() -> str:
    """The contents: what this is, the routes, the chapters."""
    text = (HERE / "front.md").read_text(encoding="utf-8")
    ways = [way(route) for route in routes.names()]
    rows = "".join([row(stem) for stem in stubs.chapters()])
    last = " ".join([link(f"{stem}.html", stubs.title(stem)) for stem in reading.PAGES])
    about = "which of your functions run on a model of another library, and which mislead there"
    table = f'<table class="stacked">\n<tbody>{rows}</tbody></table><p>Then {last}: {about}.</p>'
    minutes = "<p>Minutes are for reading and exercises together.</p>"
    body = chapter.MARKDOWN.render(text) + "<h2>Routes</h2>" + "".join(ways)
    body += f"<h2>Chapters</h2>{minutes}{table}"
    return filled("How a transformer works, proved by you", body)


def way(route: str) -> str:
    """A route: what it is about, how long it takes, its exercises (folded) by chapter."""
    pairs, steps = routes.exercises(route), ""
    for stem, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
        names = ", ".join([link(f"{stem}.html#{name}", name) for _, name in group])
        title = link(f"{stem}.html", stubs.title(stem))
        steps += f'<li value="{int(stem[2:4])}">{title}: {names}</li>\n'
    hours = f"{routes.minutes(route) / 60:.0f} hours, {len(pairs)} exercises"
    about = f"<b>{route}</b> ({hours}): {html.escape(routes.about(route))}"
    return f"<details><summary>{about}</summary><ol>{steps}</ol></details>\n"


def row(stem: str) -> str:
    """A chapter in the table of contents."""
    entry = stubs.hints()[stem]
    hard = [each["difficulty"] for each in entry["exercises"].values()]
    spread = f"{min(hard)} to {max(hard)}" if min(hard) < max(hard) else f"{min(hard)}"
    names = " ".join([link(f"{stem}.html#{name}", name) for name in entry["exercises"]])
    title = f"<b>{int(stem[2:4])}. {link(f'{stem}.html', stubs.title(stem))}</b>"
    count = f"{len(hard)} exercises" if len(hard) > 1 else "1 exercise"
    about = f"<details><summary>{count}</summary>{names}</details>"
    effort = f"{entry['minutes']} minutes<br>difficulty {spread}"
    across = f'<td class="whole">{effort}</td><td>{about}</td>'
    return f'<tr><th scope="row">{title}<br>{html.escape(in_the_end(stem))}</th>{across}</tr>\n'


def in_the_end(stem: str) -> str:
    """What one holds after a chapter: the last column of README's table."""
    readme = (stubs.ROOT / "README.md").read_text(encoding="utf-8")
    return re.search(rf"^\| {int(stem[2:4])} \|.*\| (.*) \|$", readme, re.MULTILINE)[1]


def glossary(index: list[Link]) -> str:
    """The page of terms: each in a line, and where it is defined. Adds them to the index."""
    body = "<h1>Glossary</h1>\n<dl>\n"
    terms = tomllib.loads(GLOSSARY.read_text(encoding="utf-8"))
    for term, entry in sorted(terms.items(), key=lambda pair: pair[0].lower()):
        stem, anchor = entry["chapter"], chapter.slug(term)
        address = f"{stem}.html" + (f"#{entry['heading']}" if "heading" in entry else "")
        where = link(address, called(stem))
        line = chapter.MARKDOWN.renderInline(entry["means"])
        body += f'<dt id="{anchor}">{html.escape(term)}</dt><dd>{line} ({where})</dd>\n'
        index.append((term, re.sub(r"[`*]", "", entry["means"]), f"glossary.html#{anchor}"))
    return filled("Glossary", body + "</dl>")


def colors() -> str:
    """The colours of code, on light and on dark."""
    dark = HtmlFormatter(style="github-dark").get_style_defs(".python")
    light = HtmlFormatter(style="default").get_style_defs(".python")
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
