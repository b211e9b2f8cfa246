"""What the lab's experiments claim, measured on deals and draws that their texts did not count."""

import re

import torch

from course.site.lab import experiments, measures
from course.site.lab.lab import TITLES
from minitransformer import Transformer, load
from minitransformer.evaluate import follows_earlier_copy
from solutions.ch06_logit_attribution import component_lens
from tests.material import seeded

MODELS = {name: load(name) for name in TITLES}
MODEL = MODELS["induction"]
FOUND = measures.found_heads(MODEL)
ON_SCALE = 8  # nats, the end of the rail (panels.js)

# What is measured


def test_predictable_is_what_its_definition_says():
    tokens = torch.randint(1, 5, (20, 12), generator=seeded())
    found = measures.predictable(tokens)
    for row, line in enumerate(tokens.tolist()):
        for pos in range(11):
            followed = {line[i + 1] for i in range(pos) if line[i] == line[pos]}
            assert found[row, pos] == (followed == {line[pos + 1]})


def test_a_deal_keeps_the_text_and_changes_the_numbers():
    tokens = measures.deal("a b a c", 10, deals=50)
    assert (tokens[:, 1] == tokens[:, 3]).all() and (tokens[:, 0] == 0).all()
    assert (tokens[:, 1] != tokens[:, 2]).all() and (tokens[:, 2] != tokens[:, 4]).all()
    assert set(tokens[:, 1:].flatten().tolist()) == set(range(1, 10))


def test_off_and_freeze_do_what_they_say():
    tokens = measures.deal(experiments.AGENT, 65, deals=3)
    _, clean = MODEL.run_with_cache(tokens)
    _, cache = measures.switched(MODEL, tokens, {"0.2": "off", "1.1": "freeze"})
    assert not cache["blocks.0.attn.hook_result"][:, :, 2].any()
    assert cache["blocks.0.attn.hook_result"][:, :, 1].any()
    name = "blocks.1.attn.hook_pattern"
    now, before = cache[name], clean[name]
    assert torch.equal(now[:, 1], before[:, 1]) and not torch.allclose(now[:, 0], before[:, 0])


# The claims


def other_deal(text: str = experiments.AGENT) -> torch.Tensor:
    return measures.deal(text, MODEL.cfg.d_vocab, deals=400, seed=1)


def test_names_it_never_saw():
    assert measures.outcome(MODEL, other_deal()).right > 0.995
    untrained = Transformer(MODEL.cfg, seed=0)
    assert measures.outcome(untrained, other_deal()).right < 0.1


def test_nothing_to_find():
    for head in FOUND["induction"]:
        found = measures.looks(MODEL, other_deal(), head)
        assert found.resting > 0.9 and found.matching > 0.7


def test_why_there():
    """The previous-token heads make up the lead; nothing else does."""
    row, key = experiments.MOST_WORDS, experiments.row_of("Bond", skip=1)
    found = measures.lead(MODEL, other_deal(), FOUND["induction"][0], row, key, FOUND["previous"])
    rest = measures.lead(MODEL, other_deal(), FOUND["induction"][0], row, key, ["0.0", "0.1"])
    assert found.by_heads > 0.8 * found.all > 5
    assert abs(rest.by_heads) < 0.1 * found.all


def test_which_james():
    """Most often the later one: chapter 4 measures the same on other rows."""
    tokens = other_deal(experiments.TWO)
    early = measures.chance_of(MODEL, tokens, experiments.row_of("Bond", experiments.TWO))
    late = measures.chance_of(MODEL, tokens, experiments.row_of("Bean", experiments.TWO))
    assert 0.75 < (late > early).float().mean() < 0.95
    assert (early + late).mean() > 0.8


def test_sure_and_wrong():
    row, met = experiments.row_of("Bond", skip=1), experiments.row_of("met")
    tokens = other_deal()
    assert (measures.first_choice(MODEL, tokens, row) == tokens[:, met]).float().mean() > 0.98
    assert (MODEL(tokens)[:, row].softmax(dim=-1).max(dim=-1).values > 0.5).float().mean() > 0.98


def test_without_the_word_before_layer_1_is_lost_and_its_old_patterns_are_enough():
    off = dict.fromkeys(FOUND["previous"], "off")
    frozen = {f"1.{head}": "freeze" for head in range(4)}
    blind = measures.looks(MODEL, other_deal(), FOUND["induction"][0], off)
    assert blind.matching < 0.02 and blind.resting > 0.9
    pattern = measures.pattern_of(MODEL, other_deal(), FOUND["induction"][0], off)
    assert pattern[:, 1:, 0].mean() > 0.9
    assert measures.outcome(MODEL, other_deal(), off).right < 0.1
    assert measures.outcome(MODEL, other_deal(), off | frozen).right > 0.99
    control = measures.outcome(MODEL, other_deal(), {"0.0": "off", "0.1": "off"})
    assert control.right > 0.99


def test_one_head_less_nobody_steps_in():
    tokens, losses = other_deal(), []
    for gone in range(len(FOUND["induction"]) + 1):
        off = dict.fromkeys(FOUND["induction"][:gone], "off")
        losses.append(measures.outcome(MODEL, tokens, off).loss)
    assert losses == sorted(losses)
    assert losses[0] < 0.01 and losses[-1] > 3.5
    assert losses[1] < 0.02 * ON_SCALE  # of the rail's length: "on this scale"
    for head in FOUND["induction"]:
        assert largest_move_of_others(tokens, head) == 0


@torch.no_grad()
def largest_move_of_others(tokens: torch.Tensor, off: str) -> float:
    """How much any other part changes what it writes, towards any token, when a head is off."""
    _, before = MODEL.run_with_cache(tokens)
    _, after = measures.switched(MODEL, tokens, {off: "off"})
    moved = component_lens(after, MODEL.W_U) - component_lens(before, MODEL.W_U)
    layer, head = measures.layer_and_head(off)
    moved[1 + layer * MODEL.cfg.n_heads + head] = 0  # component batch pos vocab
    return moved.abs().max().item()


def heads_of(model: Transformer) -> list[str]:
    cfg = model.cfg
    return [f"{layer}.{head}" for layer in range(cfg.n_layers) for head in range(cfg.n_heads)]


def badges_on_average(model: Transformer, period: int) -> int:
    """How many heads would wear the badge "induction", by their mean over draws."""
    tokens = measures.draw(model, period, seed=1)
    return sum(measures.looks(model, tokens, head).matching > 0.5 for head in heads_of(model))


def badges(model: Transformer, period: int) -> torch.Tensor:
    """How many heads wear the badge "induction", in each of many draws: [batch]."""
    tokens = measures.draw(model, period, seed=1)
    follows = follows_earlier_copy(tokens)
    again = follows.any(dim=-1).sum(dim=-1)  # batch
    count = torch.zeros(len(tokens))
    for head in heads_of(model):
        there = (measures.pattern_of(model, tokens, head) * follows).sum(dim=(1, 2))
        count += there / again > 0.5
    return count


def test_the_impostor_is_right_at_its_period_only():
    impostor = MODELS["impostor"]
    at_10, at_9 = measures.draw(impostor, 10, seed=1), measures.draw(impostor, 9, seed=1)
    assert measures.outcome(impostor, at_10).right > 0.98
    assert measures.outcome(impostor, at_9).right < 0.05
    assert badges_on_average(impostor, 10) == 8 and badges_on_average(impostor, 9) == 0
    trained, other = badges(impostor, 10), badges(impostor, 9)
    assert (trained == 8).float().mean() > 0.9 and trained.min() >= 7  # "in nearly every draw all"
    assert other.max() == 0
    assert measures.outcome(MODEL, at_9).right > 0.98  # and ours does not care
    for head in ("0.0", "1.0"):  # at period 9, too, most attention is 9 back
        back = measures.pattern_of(impostor, at_9, head).diagonal(-9, dim1=1, dim2=2)
        assert back[:, 3:].mean() > 0.4, head


def test_one_layer_gets_short_periods_only_and_looks_by_distance():
    one = MODELS["one-layer"]
    short, long = measures.draw(one, 3, seed=1), measures.draw(one, 13, seed=1)
    assert measures.outcome(one, short).right > 0.6
    assert measures.outcome(one, long).right < 0.05
    for head in range(4):  # patterns on different tokens are nearly the same: they see positions
        pattern = measures.pattern_of(one, long, f"0.{head}")
        apart = (pattern - pattern.mean(dim=0)).abs().sum(dim=-1)[:, 1:].mean() / 2
        assert apart < 0.25, (head, apart)
        at_3, at_13 = by_distance(one, short, f"0.{head}"), by_distance(one, long, f"0.{head}")
        assert at_13[:13].sum() > 0.75 and at_13[1:].max() < 0.15  # a dozen words, and itself
        assert (at_13 - at_3).abs().max() < 0.02  # the same at every period


def by_distance(model: Transformer, tokens: torch.Tensor, head: str) -> torch.Tensor:
    """A head's mean attention 0, 1, ... 19 words back, over the rows that have so many."""
    mean = measures.pattern_of(model, tokens, head).mean(dim=0)
    return torch.stack([mean.diagonal(-back)[20 - back :].mean() for back in range(20)])


def test_a_change_nobody_sees():
    edge = (FOUND["previous"][0], FOUND["induction"][0])
    runs = [measures.stretch(MODEL, other_deal()[:4], edge, seed) for seed in range(100, 110)]
    assert all(run.after < 0.5 * run.before for run in runs)
    assert all(run.in_tokens < 1e-8 and run.logits < 1e-8 for run in runs)


# The texts


TOLD = experiments.experiments(MODELS)


def test_there_are_at_least_eight_and_each_ends_in_a_question():
    assert len(TOLD) >= 8 and len({each["title"] for each in TOLD}) == len(TOLD)
    for each in TOLD:
        sentences = re.split(r"(?<=[.?!]) (?=[A-Z])", each["question"])
        assert len(sentences) <= 2 and each["question"].endswith("?"), each["id"]
        numbers = re.findall(r"(?<![\d.])\d[\d.e-]*", each["answer"].rstrip("."))
        measured = [number for number in numbers if not re.fullmatch(r"[01]\.[0-3]", number)]
        assert 1 <= len(measured) <= 3, (each["id"], measured)
