"""LayerNorm with frozen scales: the logits are a sum of parts, and removing one does its share."""

import pytest
import torch

from minitransformer.arithmetic import problems
from tests.material import seeded
from tests.minitransformer.test_arithmetic import model_for


@pytest.mark.parametrize("position", ["shortformer", "standard"])
def test_with_frozen_scales_the_logits_are_a_sum_over_embedding_heads_neurons_and_biases(position):
    """Exactly: each part goes through the final LayerNorm alone, with the scale of the whole."""
    model = model_for("arithmetic", positional_embedding_type=position)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn(weights.shape, generator=seeded(3), dtype=weights.dtype))
    tokens = problems("arithmetic").tokens[::777]
    logits, cache = model.run_with_cache(tokens)
    parts = [cache["hook_embed"]]
    if position == "standard":
        parts.append(cache["hook_pos_embed"])
    for layer in range(model.cfg.n_layers):
        parts += cache[f"blocks.{layer}.attn.hook_result"].unbind(dim=2)
        neurons = cache[f"blocks.{layer}.mlp.hook_post"]
        parts += [neurons[..., n, None] * model.W_out[layer, n] for n in range(model.cfg.d_mlp)]
        parts.append(model.b_out[layer])
    shares = [through_last_norm(model, part, cache) for part in parts]
    total = sum(shares) + model.ln_final_b @ model.W_U
    assert torch.allclose(total, logits, rtol=0, atol=1e-12)


def through_last_norm(model, part, cache):
    """What a part of the stream adds to the logits, with the scale that the whole stream had."""
    centred = part - part.mean(dim=-1, keepdim=True)
    return centred / cache["ln_final.hook_scale"] * model.ln_final_w @ model.W_U


def test_freezing_the_scales_makes_removing_a_part_do_exactly_what_its_share_says():
    """Frozen, taking a head of the last layer away moves the logits by its share; free, the scale
    moves too.
    """
    model = model_for("arithmetic", d_mlp=0)
    tokens = problems("arithmetic").tokens[::777]
    logits, cache = model.run_with_cache(tokens)
    at = "blocks.1.attn.hook_result"
    share = through_last_norm(model, cache[at][:, :, 0], cache)

    def remove(activation, hook):
        activation[:, :, 0] = 0

    frozen = (lambda name: name.endswith("hook_scale"), lambda _, hook: cache[hook.name])
    moved = logits - model.run_with_hooks(tokens, [(at, remove), frozen])
    assert torch.allclose(moved, share, rtol=0, atol=1e-12)
    assert (logits - model.run_with_hooks(tokens, [(at, remove)]) - share).abs().max() > 1e-3
