"""What each experiment asks can be seen in the page."""

import re

from .looking import loss, marks, word


def test_names_every_tick_stays_when_numbers_are_dealt_anew(at):
    page, texts = at("names"), set()
    for _ in range(5):
        assert marks(page).count("✓") == 4 and "✗" not in marks(page)
        assert "it expects Bond" in page.inner_text("#summary")
        texts.add(page.inner_text("#grid"))
        page.click("#deal")
    assert len(texts) == 5  # other numbers: other unused tokens among the guesses


def test_nothing_to_find_bos_or_the_follower(at):
    page = at("nothing-to-find")
    said = page.inner_text("#summary")
    assert re.search(r"(9\d|100)\u00a0% of its attention to BOS at 0", said)
    word(page, 17).click()  # James for the second time
    assert page.inner_text("#summary").endswith("to Bond at 3.")


def test_why_there_the_previous_heads_make_the_score(at):
    page = at("why-there")
    rows = page.locator("#strip .row").all_inner_texts()
    values = {row.split("\n")[0]: float(row.split("\n")[-1].replace("−", "-")) for row in rows}
    by_heads = values["head 0.2"] + values["head 0.3"]
    assert by_heads > 0.8 * values["score"] > 5
    assert abs(sum(values.values()) - 2 * values["score"]) < 0.05
    shades = page.locator("#strip .key.chosen").evaluate_all(
        "cells => cells.map((cell) => getComputedStyle(cell).backgroundColor)"
    )
    assert len(set(shades)) > 3


def test_which_james_the_later_one(at):
    assert "it expects Bean" in at("which-james").inner_text("#summary")


def test_sure_and_wrong(at):
    page = at("sure-and-wrong")
    assert re.search(r"after Bond, it expects met (9\d|100)\u00a0%", page.inner_text("#summary"))
    assert page.inner_text("#grid .row.chosen .mark") == "≠"


def test_previous_off_then_frozen_then_all_on(at):
    page = at("previous-off")
    assert loss(page) > 3 and "✓" not in marks(page)
    assert page.inner_text("#summary").endswith("BOS at 0.")
    page.click('#experiments button[value="layer-1-frozen"]')
    assert loss(page) < 0.1 and marks(page).count("✓") == 4
    assert page.inner_text("#switched").startswith("Off: 0.2, 0.3. Frozen: 1.0, 1.1, 1.2, 1.3.")
    assert "not used" in page.inner_text("#why-text")
    page.click("#all-on")
    assert page.inner_text("#switched") == "All heads are on." and not page.is_visible("#all-on")


def test_one_less_the_other_bars_stay(at):
    page = at("one-less")
    assert loss(page) < 0.5
    read = """bars => bars.map((bar) => {
      const [fill, ring] = bar.querySelectorAll('.track > i');
      const end = fill.classList.contains('less') ? 'left' : 'right';
      const box = ring.getBoundingClientRect();
      return Math.abs(fill.getBoundingClientRect()[end] - (box.left + box.right) / 2);
    })"""
    gaps = dict(
        zip(page.locator(".bar b").all_inner_texts(), page.locator(".bar").evaluate_all(read))
    )
    moved = {name for name, gap in gaps.items() if gap > 2}
    assert moved == {"1.1", "all"}


def test_the_impostor_has_badges_at_10_and_none_at_9(at):
    page = at("impostor-10")
    assert page.inner_text("#cards").count("induction") > 4 and loss(page) < 0.5
    page.click('#experiments button[value="impostor-9"]')
    assert page.inner_text("#cards").count("neither") == 8 and loss(page) > 4
    assert "#63 at 22" in page.inner_text("#summary")  # nine back


def test_one_layer_is_lost_on_long_periods(at):
    page = at("one-layer")
    assert loss(page) < 2
    page.fill("#period", "14")
    assert loss(page) > 3.5 and not page.is_visible("#gauge")


def test_the_gauge_moves_one_score_alone(at):
    page = at("gauge", "&stretch=0")
    before = page.inner_text("main")
    page.fill("#stretch", "1")
    changed = set(page.inner_text("main").split("\n")) - set(before.split("\n"))
    assert float(page.inner_text("#published-is").split()[0]) < 0.2
    assert float(page.inner_text("#moved")) < 1e-10
    assert len(changed) == 3, changed  # the slider, the score, the change of a logit
