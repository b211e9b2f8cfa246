"""The lab by mouse, by keys and by typing, bad input included."""

import re

import pytest

from .looking import address, cell, loss, word

# Mouse


def test_a_click_on_a_cell_chooses_row_and_key(at):
    page = at()
    cell(page, 18, 4).click()
    assert "At 18, after Bond" in page.inner_text("#summary")
    assert page.inner_text("#summary").endswith("met at 4.")
    assert "row=18" in address(page) and "key=4" in address(page)


def test_the_mouse_looks_and_the_row_comes_back(at):
    page = at()
    held = page.inner_text("#summary")
    word(page, 12).hover()
    assert "At 12, after Eve" in page.inner_text("#summary")
    page.hover("h1")
    assert page.inner_text("#summary") == held and "row" not in address(page)


def test_a_click_on_a_guess_asks_who_wrote_it(at):
    page = at()
    page.click('#grid [data-row="24"][data-word="At"]')
    assert page.input_value("#word") == "At" and "word=At" in address(page)
    all_of_it = page.locator(".bar").last.inner_text()
    page.select_option("#word", "Bond")
    assert page.locator(".bar").last.inner_text() != all_of_it


def test_heads_are_chosen_and_switched(at):
    page = at()
    page.click(".card:has-text('0.3') button")
    assert page.inner_text("#look-title") == "Where head 0.3 looks"
    page.get_by_role("group", name="head 0.2").get_by_label("off").check()
    page.get_by_role("group", name="head 0.3").get_by_label("off").check()
    assert loss(page) > 3 and "off=0.2%2C0.3" in address(page)
    assert "writes nothing" in page.inner_text("#summary")
    page.get_by_role("group", name="head 0.2").get_by_label("on", exact=True).check()
    assert "off=0.3" in address(page)
    assert page.locator(".card.off").count() == 1


def test_layer_0_cannot_be_frozen(at):
    page = at()
    assert page.locator("input[value=freeze]").count() == 4
    assert page.get_by_role("group", name="head 0.2").get_by_role("radio").count() == 2


def test_another_model(at):
    page = at("layer-1-frozen")
    page.select_option("#model", "one-layer")
    assert page.locator(".card").count() == 4 and "0.3" in page.inner_text("#look-title")
    page.select_option("#model", "induction")
    assert page.locator(".card").count() == 8
    assert page.inner_text("#switched") == "All heads are on."


# Keys


def test_the_grid_by_keys_alone(at):
    page = at()
    page.locator('#grid [tabindex="0"]').focus()
    for key, said in (
        ("ArrowUp", "At 24"),
        ("Home", "BOS at 0."),
        ("ArrowRight", "Agent at 1."),
        ("ArrowUp", "At 23"),
        ("End", "Rome at 23."),
        ("ArrowLeft", "to at 22."),
    ):
        page.keyboard.press(key)
        assert said in page.inner_text("#summary"), key
        assert page.evaluate("document.activeElement.classList.contains('chosen')"), key
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    asked = page.evaluate("document.activeElement.dataset.word")
    page.keyboard.press("Enter")
    assert page.input_value("#word") == asked or asked.startswith("#")
    assert page.evaluate("document.activeElement.dataset.word") == asked
    page.keyboard.press("ArrowUp")
    assert "At 22" in page.inner_text("#summary")
    assert page.locator('#grid [tabindex="0"]').count() == 1


def test_every_control_is_reached_by_tab_and_shows_it(at):
    page, reached = at("previous-off"), []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("""() => {
              const at = document.activeElement, style = getComputedStyle(at);
              const label = at.nextElementSibling && getComputedStyle(at.nextElementSibling);
              const shown = style.outlineStyle !== 'none' || label?.outlineStyle !== 'none';
              return [at.id || at.value || at.getAttribute('role') || at.tagName, shown];
            }""")
        )
    names = [name for name, _ in reached]
    wanted = {"names", "gauge", "SUMMARY", "model", "text", "period", "deal", "all-on", "on", "off"}
    assert wanted | {"word", "gridcell", "stretch"} <= set(names), set(names)
    assert all(shown for name, shown in reached if name != "BODY")


def test_a_head_is_switched_by_keys(at):
    page = at()
    page.locator("input[name='head-1.0'][value=on]").focus()
    page.keyboard.press("ArrowRight")
    assert "off=1.0" in address(page)
    page.keyboard.press("ArrowRight")
    assert "freeze=1.0" in address(page) and "off" not in address(page)


# Typing and bad input


def test_typing_is_a_new_forward_pass_and_keeps_the_caret(at):
    page = at()
    page.fill("#text", "")
    page.locator("#text").press_sequentially("red fox, red")
    assert page.locator("#grid .row:not([hidden])").count() == 6  # header, BOS, four signs
    assert "it expects fox" in page.inner_text("#summary")
    assert page.input_value("#text") == "red fox, red"
    page.keyboard.press("ArrowLeft")
    page.keyboard.type("ee")
    assert page.input_value("#text") == "red fox, reeed"


def test_cells_are_patched_not_made_anew(at):
    page = at()
    page.evaluate("""() => {
      window.made = 0;
      const watch = new MutationObserver((changes) => changes.forEach(({ addedNodes }) =>
        addedNodes.forEach((node) => (window.made += node.nodeType === Node.ELEMENT_NODE))));
      watch.observe(document.getElementById('map'), { childList: true, subtree: true });
    }""")
    page.fill("#text", "one two three one")
    page.click("#deal")
    page.fill("#period", "7")
    assert page.evaluate("window.made") == 0


SAID = {
    " ".join(f"w{i}" for i in range(40)): "40 words. The model has room for 31",
    "": "Nothing to read but BOS",
    "   \n ": "Nothing to read but BOS",
    "#70 a": "There is no token #70, only #1 to #64",
    "#0": "There is no token #0",
    '<b>bold</b> & "quoted"': "",
    "日本 语 🙂 é ’s": "",
    "#5 #5 a": "",
}


@pytest.mark.parametrize("text", SAID)
def test_odd_texts_get_a_sentence(at, text):
    page = at()
    page.fill("#text", text)
    said = page.inner_text("#notes")
    assert SAID[text] in said if SAID[text] else not said
    assert "NaN" not in page.inner_text("body") and "undefined" not in page.inner_text("body")
    assert page.locator("#grid .row:not([hidden])").count() <= 33
    address(page)
    page.reload()
    assert page.input_value("#text").strip() == text.strip()


def test_a_text_in_which_nothing_comes_back(at):
    page = at()
    page.fill("#text", "all new words")
    assert page.inner_text("#loss-is") == "–" and not page.is_visible("#rail .dot")


def test_a_number_typed_is_that_token(at):
    page = at()
    page.fill("#text", "#7 cat #7")
    used = page.locator("#grid .name b").all_inner_texts()
    assert used[:4] == ["BOS", "#7", "cat", "#7"]
    assert "it expects cat" in page.inner_text("#summary")


# Random tokens


def test_the_slider_draws_tokens_that_repeat(at):
    page = at()
    for period in (1, 2, 7, 16, 29):
        page.fill("#period", str(period))
        words = page.input_value("#text").split()
        assert len(words) == 31 and all(re.fullmatch(r"#\d+", word) for word in words)
        assert words[-1] == words[-1 - period] and len(set(words)) <= period + 3
        assert len(set(words[-period:])) == period
        assert page.inner_text("#period-is") == str(period)
    assert page.inner_text("#deal") == "draw others"
    words = page.input_value("#text")
    page.click("#deal")
    assert page.input_value("#text") != words


def test_the_same_address_draws_the_same(at):
    texts = [at("names", "&period=9&deal=5").input_value("#text") for _ in range(2)]
    assert texts[0] == texts[1]
