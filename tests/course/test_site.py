"""A page of a chapter says what the chapter shows, folds what it should, and stops when it must."""

import html

import pytest

pytest.importorskip("markdown_it", reason="no pages here: pip install -e '.[site]'")
pytest.importorskip("pygments", reason="no pages here: pip install -e '.[site]'")

from course import evidence
from course.site import chapter

TEXT = """# %% [markdown]
# # 5. A small chapter
#
# Two words & a `<tag>`.
#
# *Predict:* what is one and one?
#
# **Exercise `find_heads`** (25 minutes).

# %%
from course.desk import claim, claim_rate, in_others, print_table, show, plt
import torch
print("1 < 2")
claim("one & one", 2, low=1, high=3, measured=2)
claim_rate("half", torch.tensor([0.0, 1.0]), 0.4)
print_table("row", ["a"], ["b"], [[0.5]])
figure = plt.figure()
figure.suptitle("Two & <three>")
show(figure, "drawn")

# %% [markdown]
# Two it is.
#
# ## Another part
#
# Try [the lab](site/lab.html#experiment=names).
"""


@pytest.fixture
def page(tmp_path):
    return made(tmp_path, TEXT)


def made(folder, text: str, models: dict[str, str] | None = None) -> chapter.Page:
    path = folder / "ch05_finding_heads.py"
    path.write_text(text, encoding="utf-8")
    return chapter.make(path, models=models)


def test_an_answer_is_folded_up_to_the_next_heading(page):
    """The results of the code and the first words after it, but not the next part."""
    before, _, rest = page.body.partition('<details class="answer">')
    answer, _, after = rest.partition("<h2")
    assert "Predict" in before and ">one &amp; one<" not in before
    assert ">one &amp; one<" in answer and "Two it is." in answer and "figures/" in answer
    assert answer.rstrip().endswith("</details>") and "Another part" in after


def test_two_cells_of_code_in_a_row_share_one_fold(tmp_path):
    page = made(
        tmp_path,
        TEXT.replace(
            "# %% [markdown]\n# Two it is.", "# %%\nprint(7)\n\n# %% [markdown]\n# Two it is."
        ),
    )
    assert page.body.count('<details class="answer">') == 1
    assert page.body.count("<details") == page.body.count("</details>")


def test_what_is_shown_stands_in_order_and_is_escaped(page):
    shown = ["1 &lt; 2", "one &amp; one", "95 % interval", "0.50", "Two &amp; &lt;three&gt;"]
    answer = page.body.partition('<details class="answer">')[2]  # the code is folded before it
    places = [answer.index(words) for words in shown]
    assert places == sorted(places)
    assert "picture:" not in page.body and "&lt;tag&gt;" in page.body


def test_a_claim_is_a_row_of_value_and_band(page):
    assert '<td data-of="value">2</td><td data-of="the text says">1 to 3</td>' in page.body
    assert "shipped" not in page.body  # it is what the value comes from
    assert "random weights" not in page.body  # no claim here has that control


def test_on_another_model_the_shipped_value_stands_beside_it_in_the_same_form(tmp_path):
    text = TEXT.replace("2, low=1, high=3, measured=2", "149783.2, measured=149783.4")
    page = made(tmp_path, text, models={"induction": "induction"})
    assert '<td data-of="value">149800</td><td data-of="shipped">149800</td>' in page.body


def test_a_claim_without_a_spread_says_why(tmp_path):
    """Two texts of chapter 5, of which evidence.json knows one, and another model's spread."""
    known = evidence.content()["ch05_finding_heads"]
    same = next(text for text in known if not known[text].get("others"))
    moved = next(text for text in known if known[text].get("others"))
    more = f"claim({same!r}, 1)\nclaim({moved!r}, 2)\nclaim_rate("
    body = made(tmp_path, TEXT.replace("claim_rate(", more, 1)).body
    rows = {row.split("</th>")[0]: row for row in body.split('<th scope="row">')[1:]}
    assert "others not measured" in rows["one &amp; one"]
    assert "the same on others" in rows[html.escape(same)]
    assert "20 others\n" in rows[html.escape(moved)]


def test_an_exercise_is_a_card_with_folded_hints(page):
    _, _, card = page.body.partition('id="find_heads"')
    assert card.count("<summary>hint") >= 2 and "python -m exercises check find_heads" in card
    assert "NotImplementedError" in card and "25 minutes" in card


def test_a_hint_may_speak_of_angle_brackets():
    """As `blocks.<layer>.hook_mlp_out`, not in code: no tag comes of it."""
    assert "&lt;layer&gt;" in chapter.MARKDOWN.renderInline("blocks.<layer>.hook_mlp_out")


def test_short_code_and_a_number_with_its_percent_sign_stay_on_one_line():
    """But code is as it was written, for whoever copies it."""
    text = "Up to 95\n% by `python -m course 17`, or 4 %; `print(10 % 3 + 2000 % 7)`."
    assert chapter.unbroken(chapter.MARKDOWN.renderInline(text)) == (
        'Up to 95&nbsp;% by <code class="whole">python -m course 17</code>, or 4&nbsp;%; '
        "<code>print(10 % 3 + 2000 % 7)</code>."
    )


def test_code_is_folded_with_its_own_line_numbers(page):
    first = TEXT.splitlines().index(
        "from course.desk import claim, claim_rate, in_others, print_table, show, plt"
    )
    assert f"source/ch05_finding_heads.html#line-{first + 1}" in page.body
    assert f'<span class="linenos">{first + 1}</span>' in page.body


def test_a_link_to_the_lab_opens_it_in_that_state(page):
    assert '<a href="lab.html#experiment=names"' in page.body
    assert '<iframe src="lab.html#experiment=names"' in page.body


def test_pictures_are_svg_with_words_for_what_is_seen(page):
    assert list(page.pictures) == ["ch05_finding_heads_drawn"]
    assert page.pictures["ch05_finding_heads_drawn"].lstrip().startswith("<?xml")
    assert 'alt="Two &amp; &lt;three&gt;"' in page.body


def test_a_claim_that_fails_stops_the_page(tmp_path):
    with pytest.raises(AssertionError, match="one & one: 2 is not what the text says"):
        made(tmp_path, TEXT.replace("low=1, high=3", "low=3"))


def test_a_chapter_leaves_gradients_and_output_as_they_were(tmp_path):
    import sys

    import torch

    before = sys.stdout
    made(tmp_path, TEXT + "\n# %%\ntorch.set_grad_enabled(False)\n")
    assert torch.is_grad_enabled() and sys.stdout is before
