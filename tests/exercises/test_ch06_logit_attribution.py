"""Checks of chapter 6. The oracles: the definition in loops, exact sums, zeroing a head and
running, planted models.
"""

import functools

import torch

from minitransformer import ModelConfig, Transformer, load, repeated_tokens
from minitransformer.planted import induction_model, negative_head_model
from tests.exercises.checking import checks, expect, expect_close

CONFIG = {"n_heads": 3, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 6}
MODEL = Transformer(ModelConfig(**CONFIG), seed=3).double()
DEEPER = Transformer(
    ModelConfig(**{**CONFIG, "n_layers": 3}, positional_embedding_type="standard"), seed=4
).double()
TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])
RIGHT, WRONG = TOKENS.flip(1), (TOKENS * 3 + 1) % 11
# one vector, for every column
SHIFT = torch.randn(8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@functools.cache
def ran(model):
    """W_U, logits and cache of a model on TOKENS."""
    logits, cache = model.run_with_cache(TOKENS)
    return model.W_U.detach(), logits.detach(), cache


def on_repeats(model):
    """A model on repeats of period 10: cache, W_U, the next tokens [batch, pos] and where they can
    be known [batch, pos].
    """
    cfg, generator = model.cfg, torch.Generator().manual_seed(7)
    repeats = repeated_tokens(
        16, min(cfg.n_ctx, cfg.d_vocab, 32), cfg.d_vocab, (10, 10), generator, prefix=2
    )
    _, cache = model.run_with_cache(repeats.tokens)
    known = repeats.predictable.clone()
    known[:, -1] = False  # what comes after the last token is not in the batch
    return cache, model.W_U.detach(), repeats.tokens.roll(-1, dims=1), known


def parts_from_weights():
    """[component, batch, pos, d_model] of MODEL, from its weights: the embedding, then z W_O head
    by head.
    """
    _, _, cache = ran(MODEL)
    parts = [MODEL.W_E[TOKENS]]
    for layer in range(2):
        z = cache[f"blocks.{layer}.attn.hook_z"]
        parts += [z[:, :, head] @ MODEL.W_O[layer, head] for head in range(3)]
    return torch.stack(parts).detach()


def loop_attribution(tokens):
    parts, (W_U, _, _) = parts_from_weights(), ran(MODEL)
    out = torch.zeros(parts.shape[:3], dtype=parts.dtype)
    for c, b, p in torch.cartesian_prod(*(torch.arange(n) for n in out.shape)):
        out[c, b, p] = sum(parts[c, b, p, d] * W_U[d, tokens[b, p]] for d in range(8))
    return out


def any_parts(cache):
    layers = [name for name in cache if name.endswith("hook_result")]
    return torch.stack(
        [cache["blocks.0.hook_resid_pre"], *(x for name in layers for x in cache[name].unbind(2))]
    )


def attribution(parts=lambda x: x, logits=lambda x: x, tokens=lambda x: x, result=lambda x: x):
    """direct_logit_attribution with one thing changed."""

    def function(cache, W_U, asked):
        every = logits(parts(any_parts(cache)) @ W_U)
        asked = tokens(asked)[None, ..., None].expand(len(every), -1, -1, 1)
        return result(every.gather(-1, asked)[..., 0])

    return function


def some(mistakes, *words):
    """Those mistakes whose label contains one of the words: what a check on a special case can
    notice.
    """
    return {
        label: function
        for label, function in mistakes.items()
        if any(word in label for word in words)
    }


def centred(x, dim=-1):
    return x - x.mean(dim=dim, keepdim=True)


CUMULATIVE = attribution(parts=lambda x: x.cumsum(0))
SHIFTED = attribution(tokens=lambda x: x.roll(-1, dims=1))
NO_EMBED = attribution(parts=lambda x: x[1:])
NORMED = attribution(parts=lambda x: x / x.norm(dim=-1, keepdim=True))
CENTRED = attribution(logits=centred)
DLA_MISTAKES = {
    "the stream after each part was unembedded, not the part itself": CUMULATIVE,
    "the tokens were shifted by one; ask about exactly the tokens given": SHIFTED,
    "every part was scaled to length 1; how long it is counts": NORMED,
    "the mean logit was subtracted; the parts must add up to the logit itself": CENTRED,
    "a log-softmax was taken of every part; only the raw logits add up": attribution(
        logits=lambda x: x.log_softmax(-1)
    ),
}
SHAPE_MISTAKES = {
    "the embedding is missing: it is in the stream too": NO_EMBED,
    "the batch was averaged away; return every position of every sequence": attribution(
        result=lambda x: x.mean(1)
    ),
}


@checks("direct_logit_attribution", mistakes=DLA_MISTAKES | SHAPE_MISTAKES)
def test_attribution_is_a_dot_product(direct_logit_attribution):
    W_U, _, cache = ran(MODEL)
    got = direct_logit_attribution(cache, W_U, RIGHT)
    expect_close(
        got,
        loop_attribution(RIGHT),
        "component batch pos",
        "each part times the token's column of W_U",
    )


@checks("direct_logit_attribution", mistakes=DLA_MISTAKES)
def test_attribution_sums_to_every_logit(direct_logit_attribution):
    """Whatever token is asked about, right or wrong, and with positions in the stream and three
    layers too.
    """
    for model in (MODEL, DEEPER):
        W_U, logits, cache = ran(model)
        for asked in ((RIGHT + offset) % 11 for offset in range(11)):
            total = direct_logit_attribution(cache, W_U, asked).sum(dim=0)
            truth = logits.gather(-1, asked[..., None])[..., 0]
            expect_close(
                total,
                truth,
                "batch pos",
                f"the sum over the parts, in a model of {model.cfg.n_layers} layers",
            )


@checks("direct_logit_attribution", mistakes=DLA_MISTAKES)
def test_zeroing_a_last_head_takes_its_attribution_away(direct_logit_attribution):
    """The long way: a head of the last layer reaches the logits directly or not at all."""
    W_U, logits, cache = ran(MODEL)
    got = direct_logit_attribution(cache, W_U, RIGHT)
    for head in range(3):
        without = zero_head(MODEL, 1, head, TOKENS)
        lost = (logits - without).gather(-1, RIGHT[..., None])[..., 0]
        expect_close(
            got[4 + head], lost, "batch pos", f"what the logit loses when head 1.{head} is zeroed"
        )


def zero_head(model, layer, head, tokens):
    def zero(z, hook):
        z[:, :, head] = 0
        return z

    return model.run_with_hooks(tokens, [(f"blocks.{layer}.attn.hook_z", zero)]).detach()


@checks("direct_logit_attribution", mistakes=some(DLA_MISTAKES, "shifted"))
def test_attribution_of_the_planted_circuit(direct_logit_attribution):
    """Positive control: the induction head writes all 10 logits, the previous-token head none,
    although it is needed.
    """
    cache, W_U, following, known = on_repeats(induction_model().double())
    got = direct_logit_attribution(cache, W_U, following)[:, known]
    truth = (
        torch.tensor([0.0, 0.0, 10.0])
        .double()[:, None]
        .expand(got.shape if got.ndim == 2 else (3, int(known.sum())))
    )
    expect_close(
        got,
        truth,
        "component position",
        "hand-built model: embed 0, previous-token head 0.0 0, induction head 1.0 10",
    )


def difference(**changes):
    def function(cache, W_U, right, wrong):
        return attribution(**changes)(cache, W_U, right) - attribution(**changes)(cache, W_U, wrong)

    return function


def against_mean(cache, W_U, right, wrong):
    return CENTRED(cache, W_U, right)


DIFFERENCE_MISTAKES = {
    "only the right token was asked about": lambda c, W_U, right, wrong: attribution()(
        c, W_U, right
    ),
    "the sign is turned round: right minus wrong": lambda c, W_U, right, wrong: difference()(
        c, W_U, wrong, right
    ),
    "the right token was compared with the mean of all tokens, not with `wrong`": against_mean,
    "probabilities were subtracted: they do not add up, logits do": difference(
        logits=lambda x: x.softmax(-1)
    ),
    "the stream after each part was unembedded, not the part itself": difference(
        parts=lambda x: x.cumsum(0)
    ),
}


@checks("logit_difference_attribution", mistakes=DIFFERENCE_MISTAKES)
def test_differences_are_log_probability_differences(logit_difference_attribution):
    W_U, logits, cache = ran(MODEL)
    got = logit_difference_attribution(cache, W_U, RIGHT, WRONG)
    truth = loop_attribution(RIGHT) - loop_attribution(WRONG)
    expect_close(
        got, truth, "component batch pos", "each part times (column of right - column of wrong)"
    )
    log_p = logits.log_softmax(dim=-1)
    log_ratio = (log_p.gather(-1, RIGHT[..., None]) - log_p.gather(-1, WRONG[..., None]))[..., 0]
    expect_close(
        got.sum(dim=0), log_ratio, "batch pos", "summed over the parts: log p(right) - log p(wrong)"
    )


@checks("logit_difference_attribution", mistakes=some(DIFFERENCE_MISTAKES, "only the right"))
def test_a_shift_of_all_logits_changes_no_difference(logit_difference_attribution):
    W_U, _, cache = ran(MODEL)
    before, after = (
        logit_difference_attribution(cache, W, RIGHT, WRONG) for W in (W_U, W_U + SHIFT)
    )
    expect_close(
        after,
        before,
        "component batch pos",
        "one vector was added to every column of W_U: no probability changed",
    )


@checks("logit_difference_attribution", mistakes=some(DIFFERENCE_MISTAKES, "sign", "probabilities"))
def test_the_negative_head_is_seen(logit_difference_attribution):
    """Positive control: 1.0 adds 16, 1.1 takes 6 off; the probability stays above .999 with and
    without 1.1.
    """
    cache, W_U, following, known = on_repeats(negative_head_model().double())
    wrong = following % 19 + 1  # another token, never BOS
    got = logit_difference_attribution(cache, W_U, following, wrong)[:, known].mean(dim=1)
    truth = torch.tensor([0.0, 0.0, 0.0, 16.0, -6.0]).double()
    expect_close(got, truth, "component", "hand-built model, parts embed 0.0 0.1 1.0 1.1")


def lens(
    names=lambda n: (
        [f"blocks.{i}.hook_resid_pre" for i in range(n)] + [f"blocks.{n - 1}.hook_resid_post"]
    ),
    end=lambda x: x,
):
    """logit_lens with one thing changed."""

    def function(cache, W_U):
        layers = sum(name.endswith("resid_pre") for name in cache)
        return end(torch.stack([cache[name] for name in names(layers)]) @ W_U)

    return function


LENS_MISTAKES = {
    "the first depth is missing: the stream before layer 0": lens(
        lambda n: [f"blocks.{i}.hook_resid_post" for i in range(n)]
    ),
    "the last depth is missing: the stream after the last layer": lens(
        lambda n: [f"blocks.{i}.hook_resid_pre" for i in range(n)]
    ),
    "what each layer wrote was unembedded, not the stream at that depth": lens(
        lambda n: ["hook_embed"] + [f"blocks.{i}.hook_attn_out" for i in range(n)]
    ),
    "a softmax was taken; return logits": lens(end=lambda x: x.softmax(-1)),
    "a log-softmax was taken; return logits": lens(end=lambda x: x.log_softmax(-1)),
    "the depths are in the wrong order: depth 0 comes first": lens(end=lambda x: x.flip(0)),
}


@checks("logit_lens", mistakes=LENS_MISTAKES)
def test_the_lens_is_what_shorter_models_answer(logit_lens):
    """The long way: depth L is what is left of the model when layers L and later write nothing."""
    for model in (MODEL, DEEPER):
        W_U, logits, cache = ran(model)
        names = [f"blocks.{layer}.hook_attn_out" for layer in range(model.cfg.n_layers)]
        cut = [
            model.run_with_hooks(TOKENS, [(name, silence) for name in names[depth:]])
            for depth in range(len(names) + 1)
        ]
        got = logit_lens(cache, W_U)
        expect_close(
            got,
            torch.stack(cut).detach(),
            "depth batch pos vocab",
            "depth L: the answer without layers L and later",
        )
        expect_close(got[-1], logits, "batch pos vocab", "the last depth: the model's logits")


def silence(out, hook):
    return 0 * out


@checks("logit_lens", mistakes=some(LENS_MISTAKES, "missing", "order"))
def test_the_lens_tells_induction_from_the_impostor(logit_lens):
    """Where the answer appears: after layer 1 in the real models, after layer 0 in the one that
    counts 10 back.
    """
    for name, model, depth in (
        ("hand-built", induction_model(), 2),
        ("trained", load("induction"), 2),
        ("impostor", load("impostor"), 1),
        ("random", Transformer(ModelConfig(), seed=0), None),
    ):
        cache, W_U, following, known = on_repeats(model)
        got = logit_lens(cache, W_U)
        expect(got.shape[0] == 3, f"two layers have three depths, got {got.shape[0]}")
        share = (got.argmax(dim=-1) == following)[:, known].float().mean(dim=1)
        there, truth = (
            [d for d in range(3) if share[d] > 0.9],
            [] if depth is None else list(range(depth, 3)),
        )
        expect(
            there == truth,
            f"{name} model: the answer can be read at the depths {truth}; yours: {there}",
        )


def unembedded(end=centred, parts=lambda x: x):
    return lambda cache, W_U: end(parts(any_parts(cache)) @ W_U)


COMPONENT_MISTAKES = {
    "the mean over the vocabulary was not subtracted": unembedded(end=lambda x: x),
    "the mean over the positions was subtracted; the mean over the vocabulary is meant": unembedded(
        lambda x: centred(x, 2)
    ),
    "the mean over the components was subtracted; the mean over the vocabulary is meant": unembedded(
        lambda x: centred(x, 0)
    ),
    "one mean over everything was subtracted; each vocabulary row has its own": unembedded(
        lambda x: x - x.mean()
    ),
    "the parts were centred over d_model instead of their logits over the vocabulary": unembedded(
        lambda x: x, centred
    ),
    "a log-softmax was taken; subtract the mean, or the parts do not add up": unembedded(
        lambda x: x.log_softmax(-1)
    ),
    "the stream after each part was unembedded, not the part itself": unembedded(
        parts=lambda x: x.cumsum(0)
    ),
}


@checks("component_lens", mistakes=COMPONENT_MISTAKES)
def test_components_relative_to_the_mean(component_lens):
    (W_U, logits, cache), parts = ran(MODEL), parts_from_weights()
    truth = torch.zeros(*parts.shape[:3], 11, dtype=parts.dtype)
    for v in range(11):
        for other in range(11):
            truth[..., v] += (parts @ (W_U[:, v] - W_U[:, other])) / 11
    got = component_lens(cache, W_U)
    expect_close(
        got,
        truth,
        "component batch pos vocab",
        "the mean, over all other tokens, of the logit difference to it",
    )
    expect_close(
        got.sum(dim=0).softmax(-1),
        logits.softmax(-1),
        "batch pos vocab",
        "softmax of the sum: the probabilities",
    )


@checks("component_lens", mistakes=some(COMPONENT_MISTAKES, "over the vocabulary was not"))
def test_a_shift_of_all_logits_changes_no_component(component_lens):
    W_U, _, cache = ran(DEEPER)
    before, after = (component_lens(cache, W) for W in (W_U, W_U + SHIFT))
    expect_close(
        after, before, "component batch pos vocab", "one vector was added to every column of W_U"
    )
