"""Checks of chapter 6. The oracles: the definition in loops, exact sums, zeroing a head and
running, planted models.
"""

import torch

from minitransformer import ModelConfig, Transformer, load
from minitransformer.planted import induction_model, negative_head_model
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch06 as oracle
from tests.exercises.oracles.ch06 import DEEPER, ELEVEN, MODEL, RIGHT, TOKENS, WRONG, ran, some
from tests.material import seeded

NOT_THE_PART = "the stream after each part was unembedded, not the part itself"

DLA_MISTAKES = {
    NOT_THE_PART: oracle.attribution(parts=oracle.cumulative),
    "the tokens were shifted by one; ask about exactly the tokens given": (
        oracle.attribution(tokens=lambda x: x.roll(-1, dims=1))
    ),
    "every part was scaled to length 1; how long it is counts": (
        oracle.attribution(parts=lambda x: x / x.norm(dim=-1, keepdim=True))
    ),
    "the mean logit was subtracted; the parts must add up to the logit itself": (
        oracle.attribution(logits=oracle.centred)
    ),
    "a log-softmax was taken of every part; only the raw logits add up": (
        oracle.attribution(logits=lambda x: x.log_softmax(-1))
    ),
    "the tokens were shifted back by one; ask about exactly the tokens given": (
        oracle.attribution(tokens=lambda x: x.roll(1, dims=1))
    ),
    "every position was asked about the last token; each has its own": (
        oracle.attribution(tokens=lambda x: x[:, -1:].expand_as(x))
    ),
    "every position was asked about the first token; each has its own": (
        oracle.attribution(tokens=lambda x: x[:, :1].expand_as(x))
    ),
    "the embedding was taken; a logit is read by a column of W_U": oracle.along_embeddings,
    "the columns of W_U were scaled to length 1; how long they are counts": (
        oracle.along_unit_directions
    ),
    "each part was divided by the sum of all; logits are wanted, not shares": (
        oracle.attribution(result=lambda x: x / x.sum(dim=0))
    ),
}
SHAPE_MISTAKES = {
    "each position was asked about the next token, so the last is missing; nothing is shifted": (
        oracle.attribution(tokens=lambda x: x.roll(-1, dims=1), result=lambda x: x[..., :-1])
    ),
    "these are the logits of all tokens; pick those that are asked for": oracle.every_logit,
    "the embedding is missing: it is in the stream too": oracle.attribution(parts=lambda x: x[1:]),
    "the batch was averaged away; return every position of every sequence": (
        oracle.attribution(result=lambda x: x.mean(1))
    ),
}


@checks("direct_logit_attribution", mistakes=DLA_MISTAKES | SHAPE_MISTAKES)
def test_attribution_is_a_dot_product(direct_logit_attribution):
    W_U, _, cache = ran(MODEL)
    got, truth = direct_logit_attribution(cache, W_U, RIGHT), oracle.loop_attribution(RIGHT)
    expect_close(got, truth, "component batch pos", "each part times the token's column of W_U")


@checks("direct_logit_attribution", mistakes=DLA_MISTAKES)
def test_attribution_sums_to_every_logit(direct_logit_attribution):
    """Whatever token is asked about, right or wrong, and with positions in the stream and three
    layers too.
    """
    for model in (MODEL, DEEPER):
        W_U, logits, cache = ran(model)
        why = f"the sum over the parts, in a model of {model.cfg.n_layers} layers"
        for offset in range(11):
            asked = (RIGHT + offset) % 11
            total = direct_logit_attribution(cache, W_U, asked).sum(dim=0)
            expect_close(total, oracle.asked_about(logits, asked), "batch pos", why)


@checks("direct_logit_attribution", mistakes=DLA_MISTAKES)
def test_zeroing_a_last_head_takes_its_attribution_away(direct_logit_attribution):
    """The long way: a head of the last layer reaches the logits directly or not at all."""
    W_U, logits, cache = ran(MODEL)
    got = direct_logit_attribution(cache, W_U, RIGHT)
    for head in range(3):
        lost = oracle.asked_about(logits - oracle.zero_head(MODEL, 1, head, TOKENS), RIGHT)
        why = f"what the logit loses when head 1.{head} is zeroed"
        expect_close(got[4 + head], lost, "batch pos", why)


@checks("direct_logit_attribution", mistakes=some(DLA_MISTAKES, "shifted by one"))
def test_attribution_of_the_planted_circuit(direct_logit_attribution):
    """Positive control: the induction head writes all 10 logits, the previous-token head none,
    although it is needed.
    """
    cache, W_U, following, known = oracle.on_repeats(induction_model().double())
    got = direct_logit_attribution(cache, W_U, following)[:, known]
    known_answer = torch.tensor([[0.0], [0.0], [10.0]]).double()
    truth = known_answer.expand(3, int(known.sum()))
    why = "hand-built model: embed 0, previous-token head 0.0 0, induction head 1.0 10"
    expect_close(got, truth, "component position", why)


@checks("direct_logit_attribution", mistakes=some(DLA_MISTAKES, "part was scaled to length 1"))
def test_another_basis_of_the_stream_changes_no_attribution(direct_logit_attribution):
    """Other weights everywhere, the same patterns and logits."""
    W_U, _, cache = ran(MODEL)
    before, (W_U, _, cache) = direct_logit_attribution(cache, W_U, RIGHT), ran(oracle.STRETCHED)
    why = "the same model in another basis: no logit changed"
    expect_close(direct_logit_attribution(cache, W_U, RIGHT), before, "component batch pos", why)


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(6))


@checks("shift_unembedding", mistakes=oracle.SHIFT_MISTAKES)
def test_every_column_is_shifted(shift_unembedding):
    for d_model, vocab in ((5, 5), (7, 3), (3, 11)):
        W_U, u = draw(d_model, vocab), draw(d_model)
        got, truth = shift_unembedding(W_U, u), oracle.shifted_by_loops(W_U, u)
        expect_close(got, truth, "d_model vocab", "u was added to each of the columns")


@checks("shift_unembedding", mistakes=oracle.SHIFT_MISTAKES)
def test_no_probability_moves_and_every_logit_does(shift_unembedding):
    stream, W_U, u = draw(2, 4, 7), 0.3 * draw(7, 7), 0.5 * draw(7) + 1
    logits, moved = stream @ W_U, stream @ shift_unembedding(W_U, u)
    why = "probabilities before and after the shift"
    expect_close(moved.softmax(dim=-1), logits.softmax(dim=-1), "batch pos vocab", why)
    by = (stream @ u)[..., None].expand_as(logits)
    expect_close(moved - logits, by, "batch pos vocab", "each logit moves by stream . u")


DIFFERENCE_MISTAKES = {
    "only the right token was asked about": (
        lambda cache, W_U, right, wrong: oracle.attribution()(cache, W_U, right)
    ),
    "the sign is turned round: right minus wrong": (
        lambda cache, W_U, right, wrong: oracle.difference()(cache, W_U, wrong, right)
    ),
    "the right token was compared with the mean of all tokens, not with `wrong`": (
        lambda cache, W_U, right, wrong: oracle.attribution(logits=oracle.centred)(
            cache, W_U, right
        )
    ),
    "probabilities were subtracted: they do not add up, logits do": (
        oracle.difference(logits=lambda x: x.softmax(-1))
    ),
    NOT_THE_PART: oracle.difference(parts=oracle.cumulative),
    "the absolute difference was taken; a part may speak for the wrong token": (
        lambda *given: oracle.difference()(*given).abs()
    ),
    "the tokens were shifted by one; compare exactly the tokens given": (
        oracle.difference(tokens=lambda x: x.roll(-1, dims=1))
    ),
    "the tokens were shifted by one, so the last position is missing; nothing is shifted": (
        oracle.difference(tokens=lambda x: x.roll(-1, dims=1), result=lambda x: x[..., :-1])
    ),
    "one attribution was divided by the other; subtract it": oracle.ratio,
    "both attributions were added; subtract the wrong token's": oracle.sum_of_both,
    "the parts were added up; return the share of each": (
        oracle.difference(result=lambda x: x.sum(dim=0))
    ),
    "the direction between the two columns was scaled to length 1; its length counts": (
        oracle.along_a_unit_direction
    ),
    "the numbers of the tokens were subtracted, and that column taken; subtract the columns": (
        lambda cache, W_U, right, wrong: oracle.attribution()(
            cache, W_U, (right - wrong) % W_U.shape[1]
        )
    ),
    "the numbers of the tokens were subtracted without their sign; subtract the columns": (
        lambda cache, W_U, right, wrong: oracle.attribution()(cache, W_U, (right - wrong).abs())
    ),
}


@checks("logit_difference_attribution", mistakes=DIFFERENCE_MISTAKES)
def test_differences_are_log_probability_differences(logit_difference_attribution):
    W_U, logits, cache = ran(MODEL)
    got = logit_difference_attribution(cache, W_U, RIGHT, WRONG)
    truth = oracle.loop_attribution(RIGHT) - oracle.loop_attribution(WRONG)
    why = "each part times (column of right - column of wrong)"
    expect_close(got, truth, "component batch pos", why)
    log_p = logits.log_softmax(dim=-1)
    log_ratio = oracle.asked_about(log_p, RIGHT) - oracle.asked_about(log_p, WRONG)
    why = "summed over the parts: log p(right) - log p(wrong)"
    expect_close(got.sum(dim=0), log_ratio, "batch pos", why)


@checks("logit_difference_attribution", mistakes=some(DIFFERENCE_MISTAKES, "only the right"))
def test_no_gauge_changes_a_difference(logit_difference_attribution):
    W_U, _, cache = ran(MODEL)
    before = logit_difference_attribution(cache, W_U, RIGHT, WRONG)
    W_U, _, cache = ran(oracle.OTHER)
    after = logit_difference_attribution(cache, W_U, RIGHT, WRONG)
    why = "other weights, one vector added to every column of W_U: no probability changed"
    expect_close(after, before, "component batch pos", why)


@checks("logit_difference_attribution", mistakes=some(DIFFERENCE_MISTAKES, "sign", "probabilities"))
def test_the_negative_head_is_seen(logit_difference_attribution):
    """Positive control: 1.0 adds 16, 1.1 takes 6 off; the probability stays above .999 with and
    without 1.1.
    """
    cache, W_U, following, known = oracle.on_repeats(negative_head_model().double())
    wrong = following % 19 + 1  # another token, never BOS
    got = logit_difference_attribution(cache, W_U, following, wrong)[:, known].mean(dim=1)
    truth = torch.tensor([0.0, 0.0, 0.0, 16.0, -6.0]).double()
    expect_close(got, truth, "component", "hand-built model, parts embed 0.0 0.1 1.0 1.1")


def written(n_layers):
    return ["hook_embed"] + [f"blocks.{layer}.hook_attn_out" for layer in range(n_layers)]


LENS_MISTAKES = {
    "the first depth is missing: the stream before layer 0": (
        oracle.lens(lambda n: [f"blocks.{layer}.hook_resid_post" for layer in range(n)])
    ),
    "the last depth is missing: the stream after the last layer": (
        oracle.lens(lambda n: [f"blocks.{layer}.hook_resid_pre" for layer in range(n)])
    ),
    "what each layer wrote was unembedded, not the stream at that depth": oracle.lens(written),
    "a softmax was taken; return logits": oracle.lens(end=lambda x: x.softmax(-1)),
    "a log-softmax was taken; return logits": oracle.lens(end=lambda x: x.log_softmax(-1)),
    "the depths are in the wrong order: depth 0 comes first": oracle.lens(end=lambda x: x.flip(0)),
    "only the first two layers were looked at; a model may have more": (
        oracle.lens(lambda n: oracle.streams(2))
    ),
    "the batch is the first axis; the depths belong there": (
        oracle.lens(end=lambda x: x.transpose(0, 1))
    ),
    "the stream between two layers stands there twice: one's resid_post, the other's resid_pre": (
        oracle.lens(oracle.both_sides_of_layers)
    ),
    "depth 0 is the embedding alone; the stream may hold positions too": (
        oracle.lens(oracle.embedding_first)
    ),
    "the names were sorted as text, where layer 10 comes before layer 2; count the layers": (
        oracle.lens(oracle.sorted_as_text)
    ),
    "positions were added to the stream; what it holds stands in the cache": (
        oracle.lens_with_positions
    ),
    "the streams were scaled to length 1; how long they are counts": oracle.lens_of_directions,
    "there is a depth for each part; one for each layer is wanted": oracle.lens_part_by_part,
    "the mean over the vocabulary was subtracted; return the logits": (
        oracle.lens(end=oracle.centred)
    ),
}


def silence(out, hook):
    return 0 * out


@checks("logit_lens", mistakes=LENS_MISTAKES)
def test_the_lens_is_what_shorter_models_answer(logit_lens):
    """The long way: depth L is what is left of the model when layers L and later write nothing."""
    for model in (MODEL, DEEPER, ELEVEN):
        W_U, logits, cache = ran(model)
        silent = [(f"blocks.{layer}.hook_attn_out", silence) for layer in range(model.cfg.n_layers)]
        depths = range(len(silent) + 1)
        cut = [model.run_with_hooks(TOKENS, silent[depth:]).detach() for depth in depths]
        got, why = logit_lens(cache, W_U), f"{len(silent)} layers"
        why = f"{why}: at depth L the answer without layers L and later"
        expect_close(got, torch.stack(cut), "depth batch pos vocab", why)
        expect_close(got[-1], logits, "batch pos vocab", "the last depth: the model's logits")


@checks("logit_lens", mistakes=some(LENS_MISTAKES, "missing", "order"))
def test_the_lens_tells_induction_from_the_impostor(logit_lens):
    """Where the answer appears: after layer 1 in the real models, after layer 0 in the one that
    counts 10 back.
    """
    random_weights = Transformer(ModelConfig(), seed=0)
    for name, model, truth in (
        ("hand-built", induction_model(), [2]),
        ("trained", load("induction"), [2]),
        ("impostor", load("impostor"), [1, 2]),
        ("random", random_weights, []),
    ):
        cache, W_U, following, known = oracle.on_repeats(model)
        got = logit_lens(cache, W_U)
        expect(got.shape[0] == 3, f"two layers have three depths, got {got.shape[0]}")
        share = (got.argmax(dim=-1) == following)[:, known].float().mean(dim=1)
        there = [depth for depth in range(3) if share[depth] > 0.9]
        sentence = f"the answer can be read at the depths {truth}; yours: {there}"
        expect(there == truth, f"{name} model: {sentence}")


COMPONENT_MISTAKES = {
    "the mean over the vocabulary was not subtracted": oracle.unembedded(end=oracle.unchanged),
    "the mean over the positions was subtracted; the mean over the vocabulary is meant": (
        oracle.unembedded(lambda x: oracle.centred(x, 2))
    ),
    "the mean over the components was subtracted; the mean over the vocabulary is meant": (
        oracle.unembedded(lambda x: oracle.centred(x, 0))
    ),
    "one mean over everything was subtracted; each vocabulary row has its own": (
        oracle.unembedded(lambda x: x - x.mean())
    ),
    "the parts were centred over d_model instead of their logits over the vocabulary": (
        oracle.unembedded(oracle.unchanged, parts=oracle.centred)
    ),
    "a log-softmax was taken; subtract the mean, or the parts do not add up": (
        oracle.unembedded(lambda x: x.log_softmax(-1))
    ),
    NOT_THE_PART: oracle.unembedded(parts=oracle.cumulative),
    "the mean logit of the whole stream was subtracted; each part has its own": (
        oracle.unembedded(oracle.less_the_mean_logit)
    ),
    "the mean over the batch was subtracted; the mean over the vocabulary is meant": (
        oracle.unembedded(lambda x: oracle.centred(x, 1))
    ),
    "one mean for each part was subtracted; each vocabulary row has its own": (
        oracle.unembedded(lambda x: x - x.mean(dim=(1, 2, 3), keepdim=True))
    ),
    "the largest logit was subtracted; the mean is meant": (
        oracle.unembedded(lambda x: x - x.amax(dim=-1, keepdim=True))
    ),
    "the rows were divided by their standard deviation: the parts no longer add up": (
        oracle.unembedded(lambda x: oracle.centred(x) / x.std(dim=-1, keepdim=True))
    ),
    "the median was subtracted; the mean is meant": (
        oracle.unembedded(lambda x: x - x.median(dim=-1, keepdim=True).values)
    ),
}


@checks("component_lens", mistakes=COMPONENT_MISTAKES)
def test_components_relative_to_the_mean(component_lens):
    W_U, logits, cache = ran(MODEL)
    got, truth = component_lens(cache, W_U), oracle.loop_component_lens()
    why = "the mean, over all other tokens, of the logit difference to it"
    expect_close(got, truth, "component batch pos vocab", why)
    probabilities, truth = got.sum(dim=0).softmax(-1), logits.softmax(-1)
    why = "softmax of the sum: the probabilities"
    expect_close(probabilities, truth, "batch pos vocab", why)


@checks("component_lens", mistakes=some(COMPONENT_MISTAKES, "over the vocabulary was not"))
def test_no_gauge_changes_a_component(component_lens):
    W_U, _, cache = ran(DEEPER)
    before, (W_U, _, cache) = component_lens(cache, W_U), ran(oracle.OTHER_DEEPER)
    why = "other weights, one vector added to every column of W_U: no probability changed"
    expect_close(component_lens(cache, W_U), before, "component batch pos vocab", why)
