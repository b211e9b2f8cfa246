"""The lab's address, its two widths, light and dark, and what a screen reader finds."""

import re

import pytest

from course.site import lab
from tests.course.test_lab import payload_of

from .looking import address, cell, until, word

PHONE, DESK = 400, 1100
EXPERIMENTS = lab.experiment_names()

# The address


def test_a_state_survives_its_address(at, open_page, made):
    page = at()
    page.fill("#text", "a cat & a dog + a cat")
    page.click(".card:has-text('1.2') button")
    page.get_by_role("group", name="head 1.0").get_by_label("freeze").check()
    page.get_by_role("group", name="head 0.0").get_by_label("off").check()
    cell(page, 7, 2).click()
    page.select_option("#word", "dog")
    page.fill("#stretch", "0.35")
    page.click("#deal")
    again = open_page(made, fragment=address(page))
    for part in ("main", "#input", "#task"):
        assert again.inner_text(part) == page.inner_text(part)
    assert again.input_value("#text") == "a cat & a dog + a cat"
    assert address(again) == address(page)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_its_own_address(at, name):
    page = at(name)
    assert address(page) == f"#experiment={name}"
    button = page.locator("#experiments [aria-current=true]")
    assert button.count() == 1 and button.get_attribute("value") == name
    page.click("summary")
    assert page.is_visible("#answer p") and len(page.inner_text("#answer p")) > 40


def test_the_address_may_change_while_the_page_is_open(at):
    page = at()
    page.evaluate("location.hash = 'experiment=gauge'")
    until(page, lambda: page.inner_text("#task-title") == "A change nobody sees")
    assert page.input_value("#stretch") == "0.5"


def test_an_address_counts_though_the_page_writes_its_own_at_the_same_moment(at):
    page = at()
    asked = "location.hash = 'experiment=gauge'"
    page.evaluate(f"{asked}; history.replaceState(null, '', '#experiment=names')")
    until(page, lambda: page.inner_text("#task-title") == "A change nobody sees")


BAD = {
    "experiment=nonsense": "an experiment that is not here: nonsense",
    "model=gpt": "model=gpt in the address means nothing here",
    "row=many": "row=many",
    "row=-1": "row=-1",
    "off=9.9": "off=9.9",
    "off=0.2,x": "off=0.2,x",
    "head=7": "head=7",
    "period=500": "period=500",
    "stretch=2": "stretch=2",
    "deal=1.5": "deal=1.5",
    "constructor=1": "constructor=1",
    "colour=red": "colour=red",
}


@pytest.mark.parametrize("fragment", BAD)
def test_what_an_address_asks_for_in_vain_is_said(open_page, made, fragment):
    page = open_page(made, fragment=f"#{fragment}")
    assert BAD[fragment] in page.inner_text("#notes")
    assert page.locator("#grid .row:not([hidden])").count() > 20
    page.click("#deal")
    assert page.inner_text("#notes") == ""


def test_rows_and_keys_beyond_the_text_are_the_last(at):
    page = at("names", "&text=a+b+a&row=31&key=31")
    assert "At 3, after a" in page.inner_text("#summary")


# Two widths, light and dark


@pytest.mark.parametrize("width", [320, PHONE, 740, DESK])
def test_no_width_scrolls_sideways(at, width):
    page = at(width=width)
    for name in EXPERIMENTS:
        page.click(f'#experiments button[value="{name}"]')
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    page.fill("#text", "extraordinarily-long-words-without-any-end " * 12)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_shows_three_guesses_in_every_row(at):
    page = at("impostor-10", width=PHONE)
    boxes = page.locator("#grid .row:not(.head):not([hidden]) .guess").evaluate_all(
        "cells => cells.map((cell) => [cell.innerText, cell.getBoundingClientRect().right])"
    )
    assert len(boxes) == 3 * 32
    assert all(text.strip() and right <= PHONE for text, right in boxes)


def test_a_phone_keeps_the_loss_in_sight(at):
    page = at(width=PHONE)
    page.locator("#who").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('gauge').scrollIntoView()")
    box = page.locator("#loss-is").bounding_box()
    assert 0 <= box["y"] < 120
    page.evaluate("document.getElementById('grid').scrollIntoView()")
    assert 0 <= page.locator("#loss-is").bounding_box()["y"] < 120


def test_a_phone_is_used_by_touch(browser, made):
    context = browser.new_context(viewport={"width": PHONE, "height": 800}, has_touch=True)
    page = context.new_page()
    page.goto(made.as_uri())
    word(page, 12).tap()
    assert "At 12, after Eve" in page.inner_text("#summary")
    page.get_by_role("group", name="head 1.1").get_by_label("off").tap()
    assert "off=1.1" in address(page)
    page.get_by_role("button", name="Which James?").tap()
    assert "it expects Bean" in page.inner_text("#summary")
    sizes = page.locator("button:visible, select, fieldset label").evaluate_all(
        "nodes => nodes.map((node) => node.getBoundingClientRect()).map((box) => box.height)"
    )
    context.close()
    assert min(sizes) >= 24


CONTRAST = """() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((c) => (c <= 0.04 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const texts = ['#question', '#summary', 'footer p', '.small', '.guess i', '.card i', '#right'];
  return texts.map((text) => {
    const ink = light(getComputedStyle(document.querySelector(text)).color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  });
}"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast_in_light_and_dark(at, dark):
    page = at(dark=dark)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == dark
    assert min(page.evaluate(CONTRAST)) >= 4.5


def test_patterns_take_the_colour_of_the_scheme_at_once(at):
    page = at()
    drawn = "document.querySelector('canvas').toDataURL()"
    light = page.evaluate(drawn)
    page.emulate_media(color_scheme="dark")
    until(page, lambda: page.evaluate(drawn) != light)


# Screen readers


def test_roles_and_names(at):
    page = at("previous-off")
    grid = page.get_by_role("grid", name="Where head 1.1 looks")
    assert grid.count() == 1
    assert grid.get_by_role("row").count() == 27
    assert grid.get_by_role("rowheader").count() == 26
    assert grid.get_by_role("columnheader").count() == 26 + 1 + 4
    assert grid.get_by_role("row", selected=True).count() == 1
    assert grid.get_by_role("gridcell", name="right", exact=True).count() == 0
    assert page.get_attribute("#notes", "role") == "status"
    for role, name in (
        ("navigation", "Experiments"),
        ("combobox", "model"),
        ("textbox", "it reads, at most 31 words"),
        ("slider", "or random tokens, period"),
        ("button", "deal other numbers"),
        ("region", "Loss on predictable words"),
        ("group", "head 0.2"),
        ("combobox", "Who wrote the logit of"),
        ("slider", "stretch"),
    ):
        assert page.get_by_role(role, name=name).count() == 1, (role, name)
    assert "all heads on 0.0058" in page.get_attribute("#rail", "aria-label")


def test_cells_say_what_they_show(at):
    page = at()
    assert cell(page, 25, 18).get_attribute("aria-label") == "91 %"
    assert cell(page, 3, 20).get_attribute("aria-label") == "later"


def test_announcements_wait(at):
    page = at()
    page.click("#deal")
    page.click("#deal")
    assert page.text_content("#said") == ""
    until(page, lambda: "Loss" in page.text_content("#said"))
    assert "it expects Bond" in page.text_content("#said")


# In a chapter, and with a reader's model


def test_inside_a_page_the_title_is_left_out(open_page, made):
    outer = made.parent / "chapter.html"
    outer.write_text(
        '<iframe src="lab.html#experiment=gauge" width="740"></iframe>', encoding="utf-8"
    )
    page = open_page(outer)
    frame = page.frame_locator("iframe")
    assert frame.locator("#task-title").inner_text() == "A change nobody sees"
    assert not frame.locator("h1").is_visible()


def test_the_page_has_what_its_payload_says(at, made):
    told = payload_of(made.read_text(encoding="utf-8"))
    page = at()
    buttons = page.locator("#experiments button").all_inner_texts()
    assert len(buttons) == len(told["experiments"]) >= 8
    assert page.locator("#model option").count() == 3
    assert "do not trust" not in page.inner_text("#check")
