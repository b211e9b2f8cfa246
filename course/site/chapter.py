"""One chapter as a web page, made by running it: text, folded code, claims, pictures, exercises."""

import contextlib
import html
import io
import itertools
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from course import cells, evidence, mine, reading
from exercises import routes, stubs
from minitransformer.plots import Figure, save_figure

MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
COLUMNS = ["claim", "value", "shipped", "the text says", "other models", "random weights"]


class Page(NamedTuple):
    """A chapter that was run: `body` is HTML, `headings` holds (anchor, words), `pictures` SVG."""

    body: str
    headings: list[tuple[str, str]]
    pictures: dict[str, str]


class Shown:
    """What one cell of code shows, as HTML: an Output (course/output.py), and a file to print to.

    Pictures are written to `folder`, as SVG. compare: other models or functions than the shipped
    ones are at work, and what those give stands beside each value.
    """

    def __init__(self, chapter: str, folder: Path, compare: bool):
        self.chapter, self.folder, self.compare = chapter, folder, compare
        self.events = []  # (kind, content)

    def write(self, text: str) -> None:
        self.events.append(("text", text))

    def flush(self) -> None:
        """Nothing waits."""

    def claim(self, text: str, value: str, notes: dict[str, str], fault: str) -> None:
        shipped = notes.get("measured", "") if self.compare else ""
        others = in_two_lines(notes.get("others") or self.without_spread(text))
        controls = in_two_lines(notes.get("untrained", ""))
        row = [f"fails: {text}" if fault else text, value]
        row += [shipped.removeprefix("the course's model: "), notes.get("band", "")]
        self.events.append(("claim", [*row, others, controls]))

    def without_spread(self, text: str) -> str:
        """What stands in the place of a spread over other models where a claim has none."""
        known = evidence.spread(self.chapter, text)
        return "the same on others" if known else "others not measured"

    def note(self, text: str) -> None:
        self.events.append(("claim", [f"… {text}"]))

    def others(self, text: str, count: str, band: str) -> None:
        self.events.append(("claim", [text, "", "", band, f"{count} others", ""]))

    def table(self, title: str, rows: list[str], columns: list[str], cells: list) -> None:
        body = [[name, *row] for name, row in zip(rows, cells)]
        self.events.append(("html", table([title, *columns], body)))

    def picture(self, figure: Figure, name: str) -> None:
        inches = figure.get_size_inches()
        width, height = round(96 * inches[0]), round(96 * inches[1])
        said = html.escape(what_is_seen(figure))
        with contextlib.redirect_stdout(io.StringIO()):
            save_figure(figure, self.folder / f"{name}.svg")
        size = f'width="{width}" height="{height}" loading="lazy"'
        image = f'<img src="figures/{name}.svg" alt="{said}" {size}>'
        self.events.append(("html", f'<p><a href="figures/{name}.svg">{image}</a></p>\n'))

    def html(self) -> str:
        """All of it, in order; what is printed line by line stands together."""
        parts = []
        for kind, group in itertools.groupby(self.events, key=lambda event: event[0]):
            contents = [content for _, content in group]
            if kind == "claim":
                parts.append(claims(contents))
            elif kind == "html":
                parts += contents
            elif text := "".join(contents).strip("\n"):
                parts.append(f'<pre tabindex="0">{html.escape(text)}</pre>\n')
        return "".join(parts)


def claims(rows: list[list[str]]) -> str:
    """The table of some claims, without the columns in which none has anything to say."""
    whole = [row for row in rows if len(row) == len(COLUMNS)]
    kept = [i for i in range(len(COLUMNS)) if any(row[i] for row in whole)]
    shorter = [[row[i] for i in kept] if row in whole else row for row in rows]
    return table([COLUMNS[i] for i in kept], shorter, "claims stacked")


def in_two_lines(note: str) -> str:
    """ "20 others 0.1 to 0.2": how many on one line, their span on the next."""
    return re.sub(r"(others|untrained) (?=\S+\d)", r"\1\n", note)


def what_is_seen(figure: Figure) -> str:
    """The alternative text of a picture: its title, then those of its panels."""
    titles = [figure.get_suptitle()]
    for axes in figure.axes:
        titles += [axes.get_title(), axes.get_title("left")]
    words = [" ".join(title.split()) for title in titles if title]
    return ". ".join(dict.fromkeys(words))


def table(head: list[str], rows: list[list[str]], kind: str = "") -> str:
    """A table of plain words. A row with one entry goes across."""
    top = "".join([f'<th scope="col">{html.escape(name)}</th>' for name in head])
    body = ""
    for first, *rest in rows:
        across = "" if rest else f' colspan="{len(head)}"'
        others = "".join(
            [f'<td data-of="{name}">{html.escape(word)}</td>' for name, word in zip(head[1:], rest)]
        )
        body += f'<tr><th scope="row"{across}>{html.escape(first)}</th>{others}</tr>\n'
    inside = f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>"
    return f'<div class="wide" tabindex="0"><table class="{kind}">{inside}</table></div>\n'


def make(path: Path, use_mine: bool = False, models: dict[str, str] | None = None) -> Page:
    """Run a chapter and write its page. Raises what reading.run_chapter raises."""
    import torch

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        shown = Shown(path.stem, Path(folder), use_mine or bool(models))
        stack.enter_context(contextlib.redirect_stdout(shown))
        stack.enter_context(torch.set_grad_enabled(True))  # put back what a chapter switches off
        reading.make_ready(path, use_mine, models, shown)
        writer = Writer(path, shown)
        for cell in cells.cells(path.read_text(encoding="utf-8")):
            writer.add(cell)
        pictures = {file.stem: file.read_text(encoding="utf-8") for file in shown.folder.iterdir()}
    return Page(writer.finished(), writer.headings, pictures)


class Writer:
    """Goes through a chapter's cells. A question hides what comes next: the results of the code,
    and the text after it up to the next heading, question or exercise.
    """

    def __init__(self, path: Path, shown: Shown):
        self.path, self.shown, self.namespace = path, shown, cells.namespace(path)
        self.parts, self.headings, self.carded = [shown.html()], [], set()
        self.asked = self.hidden = False  # a question stands in the text; its answer is open

    def add(self, cell: cells.Cell) -> None:
        if cell.kind == "markdown":
            for tokens, source in blocks(cell.text):
                self.add_block(tokens, source)
            return
        self.parts.append(self.code(cell))
        if self.asked:
            self.parts.append('<details class="answer"><summary>Your guess? Then look</summary>\n')
            self.asked, self.hidden = False, True
        self.shown.events.clear()
        mine.Called.begin_cell()
        cells.execute(cell, self.path, self.namespace)
        self.parts.append(self.shown.html())

    def add_block(self, tokens: list[Token], source: str) -> None:
        names = [name for name in asked_for(source) if name not in self.carded]
        names = [name for name in names if name in exercises(self.path.stem)]
        question, heading = "*Predict" in source, tokens[0].type == "heading_open"
        if question or heading or names:
            self.close()
        if heading:
            anchor = slug(tokens[1].content)
            tokens[0].attrSet("id", anchor)
            self.headings.append((anchor, re.sub(r"[`*]", "", tokens[1].content)))
        words = unbroken(MARKDOWN.renderer.render(tokens, MARKDOWN.options, {}))
        self.parts.append(words.replace('href="site/', 'href="'))  # a page is inside of site/
        self.parts += [card(self.path.stem, name) for name in names]
        self.parts += [lab(link) for link in re.findall(r"\]\(site/(lab\.html[^)]*)\)", source)]
        self.carded |= set(names)
        self.asked = self.asked or question

    def close(self) -> None:
        if self.hidden:
            self.parts.append("</details>\n")
        self.hidden = False

    def finished(self) -> str:
        self.close()
        return "".join(self.parts)

    def code(self, cell: cells.Cell) -> str:
        first, last = cell.line + 1, cell.line + len(cell.text.splitlines())
        place = f"source/{self.path.stem}.html#line-{first}"
        link = f'<a href="{place}">course/{self.path.name}</a>'
        lines = f"lines {first} to {last}" if last > first else f"line {first}"
        about = f"<summary>code, {lines}</summary>\n<p>{link}</p>"
        return f'<details class="code">{about}\n{colored(cell.text, first)}</details>\n'


def blocks(text: str) -> list[tuple[list[Token], str]]:
    """The paragraphs, lists, tables and headings of a text: their tokens, and their source."""
    found, lines, start, tokens = [], text.splitlines(), 0, MARKDOWN.parse(text)
    for number, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0:  # it closes a block, or is one
            first, last = tokens[start].map
            found.append((tokens[start : number + 1], " ".join(lines[first:last])))
            start = number + 1
    return found


def exercises(stem: str) -> list[str]:
    """What a chapter asks to write; nothing on a page that is no chapter."""
    return stubs.exercise_names(stem) if stem in stubs.chapters() else []


def asked_for(source: str) -> list[str]:
    """The names in bold in a paragraph of text: those of the exercises that it asks for."""
    return [name for bold in re.findall(r"\*\*[^*]*\*\*", source) for name in code_names(bold)]


def code_names(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def unbroken(text: str) -> str:
    """HTML in which no line ends within "->", between a number and its "%", or within code that is
    as short as `python -m course 17`.
    """
    text = text.replace("-&gt;", '<span class="whole">-&gt;</span>')
    text = re.sub(r"<code>([^<]{1,20})</code>", r'<code class="whole">\1</code>', text)
    code_or_percent = r"(?s)(<code.*?</code>)|(?<=\d)\s%"  # code stays as it is, to be copied
    return re.sub(code_or_percent, lambda found: found[1] or "&nbsp;%", text)


def slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def colored(code: str, first: int = 0, anchors: str = "") -> str:
    """Python with colours, and line numbers if the first is given; anchors: a prefix for their
    ids.
    """
    numbers = {"linenos": "inline" if first else False, "linenostart": first}
    form = HtmlFormatter(cssclass="python", lineanchors=anchors, **numbers)
    return highlight(code, PythonLexer(stripnl=False), form)


def card(chapter: str, name: str) -> str:
    """An exercise: minutes, difficulty, routes, its stub, hints folded one by one, the command."""
    entry = stubs.hints()[chapter]["exercises"][name]
    text = stubs.stub_text(stubs.solution_path(chapter).read_text(encoding="utf-8"))
    stub = stubs.source_of(text, stubs.functions(text)[name])
    hints = ""
    for number, hint in enumerate(entry["hints"], 1):
        words = unbroken(MARKDOWN.renderInline(hint))
        hints += f"<details><summary>hint {number}</summary><p>{words}</p></details>\n"
    routed = ", ".join(routes.of(chapter, name))
    effort = f"{entry['minutes']} minutes, difficulty {entry['difficulty']} of 3; on: {routed}"
    write = f"Write it in <code>exercises/{chapter}.py</code>, then"
    command = f"<code>python -m exercises check {name}</code>"
    body = f"<h3>{name}</h3><p>{effort}</p>\n{colored(stub)}{hints}<p>{write} {command}</p>"
    return f'<section class="card" id="{name}" aria-label="exercise {name}">{body}</section>\n'


def lab(link: str) -> str:
    """The live lab, in the state that a link names; it is loaded once it is opened."""
    frame = f'<iframe src="{html.escape(link)}" title="The lab" loading="lazy"></iframe>'
    return f'<details class="lab"><summary>Or open it here</summary>{frame}</details>\n'
