"""Every claim of every docstring in minitransformer/planted.py, measured from its definition."""

import math
from itertools import product

import pytest
import torch

from minitransformer.data import BOS, repeated_tokens
from minitransformer.planted import (
    duplicated_heads_model,
    gate_model,
    induction_model,
    lag_model,
    negative_head_model,
    pointer_model,
    three_composers,
)
from tests.material import seeded

V, S = 20, 10.0
LOSS = math.log(1 + (V - 1) * math.exp(-S))


def rows(periods=(1, 17), batch=64, n_ctx=V):
    return repeated_tokens(batch, n_ctx, V, periods, seeded())


def twice(length, bos):
    """[block][block] of distinct tokens, with or without BOS first."""
    block = 1 + torch.randperm(V - 1, generator=seeded(1))[:length]
    return torch.cat([torch.full((int(bos),), BOS), block, block])[None]


def pattern(model, tokens, layer, head):
    """[batch, query, key]"""
    return model.run_with_cache(tokens)[1][f"blocks.{layer}.attn.hook_pattern"][:, head]


def without(model, tokens, *heads):
    """The logits when these heads of layer 1 write nothing."""

    def zero(z, hook):
        z[:, :, list(heads)] = 0.0
        return z

    return model.run_with_hooks(tokens, [("blocks.1.attn.hook_z", zero)])


def losses(logits, data):
    """The loss of every predictable position that has a next token."""
    steps = data.predictable[:, :-1]
    log_probs = logits[:, :-1].log_softmax(dim=-1)
    return -log_probs.gather(2, data.tokens[:, 1:, None])[..., 0][steps]


def right_logits(logits, data):
    """(the logit of the right token, all the others) at the predictable positions."""
    steps = data.predictable[:, :-1]
    right = torch.nn.functional.one_hot(data.tokens[:, 1:], V).bool()[steps]
    picked = logits[:, :-1][steps]
    return picked[right], picked[~right]


def prefix_scores(model, tokens, predictable, head=0):
    """Prefix matching at each predictable position: the attention on all keys that follow an
    earlier copy of its token.
    """
    A, scores = pattern(model, tokens, 1, head), []
    for b, i in predictable.nonzero().tolist():
        followers = [j for j in range(1, i + 1) if tokens[b, j - 1] == tokens[b, i]]
        scores.append(A[b, i, followers].sum().item())
    return scores


def composition(model, kind, h1, h2):
    """|AB| / (|A| |B|) in row form, nan for an idle head."""
    OV1 = model.W_V[0, h1] @ model.W_O[0, h1]
    QK2 = model.W_Q[1, h2] @ model.W_K[1, h2].T
    OV2 = model.W_V[1, h2] @ model.W_O[1, h2]
    B = {"Q": QK2, "K": QK2.T, "V": OV2}[kind]
    return ((OV1 @ B).norm() / (OV1.norm() * B.norm())).item()


def test_weights_are_float32_by_default_and_still_trainable():
    models = [induction_model(), pointer_model(), duplicated_heads_model(), negative_head_model()]
    for model in [*models, lag_model(), three_composers(), gate_model("and").model]:
        assert all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())


# Induction: both algorithms


@pytest.mark.parametrize("build", [induction_model, pointer_model])
@pytest.mark.parametrize("period", [1, 2, 3, 5, 8, 12, 17])
def test_both_predict_every_period_at_the_stated_loss(build, period):
    model, data = build().double(), rows((period, period), batch=16)
    logits = model(data.tokens)
    right, others = right_logits(logits, data)
    assert (right - S).abs().max() < 1e-12 and others.abs().max() < 1e-12
    assert (losses(logits, data) - LOSS).abs().max() < 1e-12
    assert LOSS == pytest.approx(8.622268e-4, abs=5e-11)


@pytest.mark.parametrize("build", [induction_model, pointer_model])
def test_both_work_in_float32_and_with_other_sizes(build):
    data = rows()
    assert (losses(build()(data.tokens), data) - LOSS).abs().max() < 1e-6
    data = repeated_tokens(16, 60, 90, (2, 20), seeded(2))
    loss = losses(build(90, 60, s=7.0).double()(data.tokens), data)
    assert (loss - math.log(1 + 89 * math.exp(-7.0))).abs().max() < 1e-12


@pytest.mark.parametrize("build", [induction_model, pointer_model])
def test_both_have_prefix_matching_score_one_and_rest_on_bos(build):
    model, data = build().double(), rows()
    scores = prefix_scores(model, data.tokens, data.predictable)
    assert len(scores) > 300 and max(abs(score - 1) for score in scores) < 1e-12
    new = ~data.predictable
    rest = pattern(model, data.tokens, 1, 0)[new]
    assert (rest[:, 0] == 1).all() and (rest[:, 1:] == 0).all()
    assert (model(data.tokens)[new] == 0).all()  # so the loss there is log V


def test_previous_token_head_of_the_induction_model():
    A = pattern(induction_model().double(), rows().tokens, 0, 0)
    assert all((A[:, i, i - 1] == 1).all() for i in range(1, V)) and (A[:, 0, 0] == 1).all()


def test_induction_head_shares_attention_among_all_followers():
    data = rows((3, 3), batch=8)
    A = pattern(induction_model().double(), data.tokens, 1, 0)
    for b, i in data.predictable.nonzero().tolist():
        followers = [j for j in range(1, i + 1) if data.tokens[b, j - 1] == data.tokens[b, i]]
        assert (A[b, i, followers] - 1 / len(followers)).abs().max() < 1e-12


def test_duplicate_token_head_and_pointer_choose_the_first_occurrence():
    data, model = rows(), pointer_model().double()
    duplicate, pointed = pattern(model, data.tokens, 0, 0), pattern(model, data.tokens, 1, 0)
    for b, row in enumerate(data.tokens.tolist()):
        for i, token in enumerate(row):
            first = row.index(token)
            assert duplicate[b, i, first] == 1
            assert pointed[b, i, first + 1 if first < i else 0] == 1


def test_pointer_model_follows_the_first_occurrence_on_other_data():
    tokens = torch.tensor([[BOS, 5, 7, 5, 9, 5]])  # after 5 came 7, then 9
    assert pointer_model()(tokens)[0, -1].argmax() == 7
    assert set(induction_model()(tokens)[0, -1].topk(2).indices.tolist()) == {7, 9}


@pytest.mark.parametrize("length", [1, 4, 16])
@pytest.mark.parametrize("build, lost", [(induction_model, 0.5), (pointer_model, 0.0)])
def test_without_bos_only_k_composition_has_a_tie_at_the_first_token(build, lost, length):
    for bos, expected in ((True, 1.0), (False, 1 - lost / length)):
        tokens = twice(length, bos)
        predictable = (torch.arange(tokens.shape[1]) >= length + bos)[None]
        scores = prefix_scores(build().double(), tokens, predictable)
        assert len(scores) == length and sum(scores) / length == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("build, kind", [(induction_model, "K"), (pointer_model, "Q")])
@pytest.mark.parametrize("d_vocab, n_ctx", [(20, 40), (9, 12)])
def test_composition_of_the_pair(build, kind, d_vocab, n_ctx):
    model, score = build(d_vocab, n_ctx).double(), {"K": d_vocab, "Q": n_ctx}[kind] ** -0.5
    assert composition(model, kind, 0, 0) == pytest.approx(score, abs=1e-12)
    assert all(composition(model, other, 0, 0) == 0 for other in {*"QKV"} - {kind})


# The lag matcher


@pytest.mark.parametrize("period", [1, 2, 3, 5, 8, 12])
def test_the_lag_matcher_is_right_from_the_second_predictable_position_on(period):
    model, data = lag_model().double(), rows((period, period), batch=16)
    first = data.predictable & (data.predictable.cumsum(dim=1) == 1)
    later = data._replace(predictable=data.predictable & ~first)
    logits = model(data.tokens)
    right, others = right_logits(logits, later)
    assert (right - S).abs().max() < 1e-12 and others.abs().max() < 1e-12
    assert min(prefix_scores(model, data.tokens, later.predictable)) > 1 - 1e-12
    assert (logits[first] == 0).all() and (
        pattern(model, data.tokens, 1, 0)[first][:, 0] == 1
    ).all()


def test_the_lag_matcher_finds_nothing_where_a_token_repeats_alone():
    tokens = torch.tensor([[BOS, 5, 7, 1, 2, 3, 4, 5]])
    assert (lag_model()(tokens) == 0).all()
    assert induction_model()(tokens)[0, -1].argmax() == 7


@pytest.mark.parametrize("d_vocab, n_ctx", [(20, 40), (9, 12)])
def test_the_lag_matcher_composes_by_q_and_by_k(d_vocab, n_ctx):
    model = lag_model(d_vocab, n_ctx).double()
    for kind, mover in (("Q", 0), ("K", 1)):
        assert composition(model, kind, mover, 0) == pytest.approx(d_vocab**-0.5, abs=1e-12)
    assert composition(model, "Q", 1, 0) == composition(model, "K", 0, 0) == 0.0
    assert composition(model, "V", 0, 0) == composition(model, "V", 1, 0) == 0.0


# Redundant and negative heads


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_duplicated_heads_loss_after_removing_any_k(copies):
    model, data = duplicated_heads_model(copies).double(), rows(batch=8)
    for chosen in product([False, True], repeat=copies):
        removed = [h for h in range(copies) if chosen[h]]
        expected = math.log(1 + (V - 1) * math.exp(-(copies - len(removed)) * S))
        assert (losses(without(model, data.tokens, *removed), data) - expected).abs().max() < 1e-12
    for head in range(copies):
        assert min(prefix_scores(model, data.tokens, data.predictable, head)) > 1 - 1e-12


def test_duplicated_heads_numbers_of_the_docstring():
    model, data = duplicated_heads_model().double(), rows(batch=8)
    removed = [(), (0,), (1,), (0, 1)]
    logits = [without(model, data.tokens, *heads) for heads in removed]
    measured = [losses(each, data).mean().item() for each in logits]
    assert measured == pytest.approx([3.916e-8, 8.622e-4, 8.622e-4, 2.996], rel=2e-4)


def test_idle_heads_attend_evenly_and_have_no_composition_score():
    model, data = duplicated_heads_model(2).double(), rows(batch=2)
    even = torch.ones(V, V, dtype=torch.float64).tril() / torch.arange(1, V + 1)[:, None]
    assert (pattern(model, data.tokens, 0, 1) - even).abs().max() < 1e-12
    assert all(math.isnan(composition(model, kind, 1, h)) for kind in "QKV" for h in (0, 1))
    for head in (0, 1):
        assert composition(model, "K", 0, head) == pytest.approx(V**-0.5, abs=1e-12)


def test_negative_head_moves_the_logit_difference_but_not_the_probability():
    model, data = negative_head_model().double(), rows(batch=8)
    for removed, logit, probability in (((), 10, 0.999138), ((1,), 16, 0.999998), ((0,), -6, None)):
        logits = without(model, data.tokens, *removed)
        right, others = right_logits(logits, data)
        assert (right - logit).abs().max() < 1e-12 and others.abs().max() < 1e-12
        p = torch.exp(-losses(logits, data))
        assert (p - 1 / (1 + (V - 1) * math.exp(-logit))).abs().max() < 1e-12
        assert probability is None or (p - probability).abs().max() < 5e-7
    # the attention of the two is the same: only the sign of what they write differs
    for head in (0, 1):
        assert min(prefix_scores(model, data.tokens, data.predictable, head)) > 1 - 1e-12


# Composition
