"""The forward pass against its definition in loops, and against the symmetries that every
transformer has.
"""

import math

import pytest
import torch
from torch.testing import assert_close

from minitransformer import ModelConfig, Transformer
from minitransformer.model import parameter_table
from tests.material import SIZES, assert_exact, same_tensors, seeded, small_model

# ---- the slow, obvious definition: one sequence, one head, one pair of positions at a time


def slow_logits(model, row):
    """[pos, vocab] for one sequence, a list of whole numbers."""
    cfg, standard = model.cfg, model.cfg.positional_embedding_type == "standard"
    places = [model.W_pos[i] for i in range(len(row))]
    stream = [model.W_E[token] + (places[i] if standard else 0.0) for i, token in enumerate(row)]
    for layer in range(cfg.n_layers):
        to_add = [0.0 * place for place in places] if standard else places
        written = slow_attention(model, layer, stream, to_add)
        stream = [x + dx for x, dx in zip(stream, written)]
        if cfg.d_mlp:
            stream = [x + slow_mlp(model, layer, x) for x in stream]
    if cfg.layer_norm:
        stream = [slow_norm(x, model.ln_final_w, model.ln_final_b) for x in stream]
    return torch.stack([x @ model.W_U for x in stream])


def slow_attention(model, layer, stream, places):
    cfg = model.cfg
    if cfg.layer_norm:
        stream = [slow_norm(x, model.ln1_w[layer], model.ln1_b[layer]) for x in stream]
    written = [torch.zeros(cfg.d_model).double() for _ in stream]
    for head in range(cfg.n_heads):
        W_VO = model.W_V[layer, head] @ model.W_O[layer, head]
        queries = [(x + p) @ model.W_Q[layer, head] for x, p in zip(stream, places)]
        keys = [(x + p) @ model.W_K[layer, head] for x, p in zip(stream, places)]
        if cfg.smeared_keys:
            share = 1 / (1 + math.exp(-model.smear_alpha[layer, head]))
            later = [share * key + (1 - share) * before for before, key in zip(keys, keys[1:])]
            keys = keys[:1] + later
        for i, query in enumerate(queries):
            weights = [math.exp(query @ keys[j] / math.sqrt(cfg.d_head)) for j in range(i + 1)]
            for j in range(i + 1):
                written[i] = written[i] + weights[j] / sum(weights) * (stream[j] @ W_VO)
    return written


def slow_mlp(model, layer, x):
    if model.cfg.layer_norm:
        x = slow_norm(x, model.ln2_w[layer], model.ln2_b[layer])
    written = model.b_out[layer]
    for neuron in range(model.cfg.d_mlp):
        active = max(0.0, (x @ model.W_in[layer, :, neuron] + model.b_in[layer, neuron]).item())
        written = written + active * model.W_out[layer, neuron]
    return written


def slow_norm(x, w, b):
    mean = sum(x.tolist()) / len(x)
    variance = sum((value - mean) ** 2 for value in x.tolist()) / len(x)
    return (x - mean) / math.sqrt(variance + 1e-5) * w + b


@torch.no_grad()
def test_the_forward_pass_is_the_definition(model, tokens):
    expected = torch.stack([slow_logits(model, row) for row in tokens.tolist()])
    assert_exact(model(tokens), expected)


# ---- what a transformer can and cannot see


def test_no_position_sees_a_later_one(model, tokens):
    before = model(tokens)
    for last in range(tokens.shape[1] - 1):
        changed = tokens.clone()
        changed[:, last + 1 :] = (tokens[:, last + 1 :] + 1) % model.cfg.d_vocab
        after = model(changed)
        assert_exact(after[:, : last + 1], before[:, : last + 1])
        assert not torch.allclose(after[:, last + 1], before[:, last + 1])


def test_every_earlier_position_is_seen_if_there_is_a_head(model, tokens):
    changed = tokens.clone()
    changed[:, 0] = (tokens[:, 0] + 1) % model.cfg.d_vocab
    moved = (model(changed) - model(tokens)).abs().amax(dim=-1) > 1e-6  # batch pos
    assert moved[:, 0].all()
    assert (moved[:, 1:] == (model.cfg.n_layers > 0)).all()


def test_a_sequence_does_not_notice_the_others_nor_what_would_follow(model, tokens):
    together = model(tokens)
    for row in range(len(tokens)):
        for n in (1, 3, tokens.shape[1]):
            assert_exact(model(tokens[row : row + 1, :n]), together[row : row + 1, :n])


def test_positions_stay_out_of_a_shortformer_stream(tokens):
    for positions in ("shortformer", "standard"):
        cfg = ModelConfig(n_layers=0, d_vocab=11, positional_embedding_type=positions)
        model = Transformer(cfg)
        assert (model(torch.full((1, 8), 3)).std(dim=1).max() > 1e-3) == (positions == "standard")


# ---- symmetries: different weights, the same function


@torch.no_grad()
def test_the_order_of_the_heads_means_nothing(model, tokens):
    before = model(tokens)
    for name in {"W_Q", "W_K", "W_V", "W_O", "smear_alpha"} & set(model.state_dict()):
        weights = model.get_parameter(name)
        weights.copy_(weights[:, [2, 0, 1]])
    assert_exact(model(tokens), before)


@torch.no_grad()
def test_a_head_has_no_preferred_basis_inside(model, tokens):
    """For any invertible M: q M and k M^-T give the same scores, v M and M^-1 W_O the same
    output.
    """
    before, d_head = model(tokens), model.cfg.d_head
    M = torch.randn(2, d_head, d_head, generator=seeded(3)).double() + 3 * torch.eye(d_head)
    model.W_Q.copy_(model.W_Q @ M[0])
    model.W_K.copy_(model.W_K @ M[0].inverse().T)
    model.W_V.copy_(model.W_V @ M[1])
    model.W_O.copy_(M[1].inverse() @ model.W_O)
    assert_close(model(tokens), before, rtol=0, atol=1e-8)


@torch.no_grad()
def test_doubling_what_is_added_doubles_what_a_linear_path_adds(tokens):
    """Attention only, patterns held fixed: the logits are linear in every W_O of the last layer."""
    model = Transformer(ModelConfig(n_heads=3, d_vocab=11)).double()
    _, cache = model.run_with_cache(tokens, "blocks.1.hook_attn_out")
    before = model(tokens)
    model.W_O[1].mul_(2)
    assert_exact(model(tokens) - before, cache["blocks.1.hook_attn_out"] @ model.W_U)


# ---- weights


def test_weights_have_the_literature_s_names_and_shapes():
    cfg = ModelConfig(
        n_layers=3, n_heads=2, d_model=6, d_head=4, d_vocab=7, n_ctx=5, d_mlp=9, smeared_keys=True
    )
    shapes = {name: tuple(weights.shape) for name, weights in Transformer(cfg).named_parameters()}
    assert shapes == {
        "W_E": (7, 6),
        "W_pos": (5, 6),
        **dict.fromkeys(["W_Q", "W_K", "W_V"], (3, 2, 6, 4)),
        "W_O": (3, 2, 4, 6),
        "smear_alpha": (3, 2),
        "W_in": (3, 6, 9),
        "b_in": (3, 9),
        "W_out": (3, 9, 6),
        "b_out": (3, 6),
        "W_U": (6, 7),
    }


def test_the_seed_decides_the_weights_and_the_global_random_state_is_left_alone():
    state = torch.get_rng_state()
    cfg = ModelConfig(layer_norm=True)
    first, other = Transformer(cfg, 4).state_dict(), Transformer(cfg, 5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert same_tensors(first, Transformer(cfg, 4).state_dict())
    assert all(torch.equal(first[name], other[name]) == name.startswith("ln") for name in first)


def test_first_weights_have_the_spread_that_the_table_promises():
    cfg = ModelConfig(layer_norm=True, d_mlp=100, smeared_keys=True)
    model = Transformer(cfg)
    for name, _, std in parameter_table(cfg):
        weights = model.get_parameter(name)
        assert weights.std().item() == pytest.approx(std, rel=0.1)
        mean = 1.0 if name.endswith("_w") else 0.0
        assert weights.mean().item() == pytest.approx(mean, abs=0.2 * std)


# ---- tokens


def test_int32_tokens_are_tokens_too(model, tokens):
    assert torch.equal(model(tokens.int()), model(tokens))


def test_a_gradient_for_each_of_many_batches_at_once():
    """vmap, where the values of the tokens cannot be read."""
    model = small_model()
    tokens = torch.randint(SIZES["d_vocab"], (4, 3, 8), generator=seeded(1))
    weights = dict(model.named_parameters())

    def loss(weights, tokens):
        return torch.func.functional_call(model, weights, (tokens,)).logsumexp(dim=-1).mean()

    gradient = torch.func.grad(loss)
    together = torch.vmap(gradient, in_dims=(None, 0))(weights, tokens)
    for i, some in enumerate(tokens):
        for name, alone in gradient(weights, some).items():
            assert_exact(together[name][i], alone)
