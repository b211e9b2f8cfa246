"""The cache and the hook names: all that is documented is there to see; seeing changes nothing."""

import pytest
import torch

from minitransformer import ModelConfig, Transformer
from tests.material import assert_exact


def documented_shapes(cfg, batch, pos) -> dict[str, tuple[int, ...]]:
    stream, per_head = (batch, pos, cfg.d_model), (batch, pos, cfg.n_heads, cfg.d_head)
    square = (batch, cfg.n_heads, pos, pos)  # batch head query key
    in_stream = "embed pos_embed resid_pre resid_mid resid_post attn_out mlp_out"
    by_ending = dict.fromkeys(in_stream.split(), stream)
    by_ending |= dict.fromkeys("qkvz", per_head) | {"attn_scores": square, "pattern": square}
    by_ending |= {"result": (batch, pos, cfg.n_heads, cfg.d_model), "scale": (batch, pos, 1)}
    return by_ending | dict.fromkeys(["pre", "post"], (batch, pos, cfg.d_mlp))


def test_every_name_fires_once_in_the_listed_order_with_the_documented_shape(model, tokens):
    fired = []

    def look(activation, hook):
        fired.append((hook.name, tuple(activation.shape)))

    model.run_with_hooks(tokens, [(lambda name: True, look)])
    shapes = documented_shapes(model.cfg, *tokens.shape)
    assert fired == [(name, shapes[name.split("hook_")[1]]) for name in model.hook_names]
    _, cache = model.run_with_cache(tokens)
    assert [(name, tuple(cache[name].shape)) for name in cache] == fired


def test_the_documented_names():
    names = Transformer(ModelConfig(n_layers=1, d_mlp=4, layer_norm=True)).hook_names
    documented = """
        hook_embed hook_pos_embed blocks.0.hook_resid_pre blocks.0.ln1.hook_scale
        blocks.0.attn.hook_q blocks.0.attn.hook_k blocks.0.attn.hook_v
        blocks.0.attn.hook_attn_scores blocks.0.attn.hook_pattern blocks.0.attn.hook_z
        blocks.0.attn.hook_result blocks.0.hook_attn_out
        blocks.0.hook_resid_mid blocks.0.ln2.hook_scale blocks.0.mlp.hook_pre blocks.0.mlp.hook_post
        blocks.0.hook_mlp_out blocks.0.hook_resid_post ln_final.hook_scale"""
    assert names == documented.split()


def test_looking_does_not_change_one_bit(model, tokens):
    logits = model.float()(tokens)
    assert torch.equal(model.run_with_hooks(tokens), logits)
    assert torch.equal(model.run_with_cache(tokens)[0], logits)
    no_result = [(lambda name: not name.endswith("result"), lambda activation, hook: None)]
    assert torch.equal(model.run_with_hooks(tokens, no_result), logits)


def test_the_cache_tells_how_the_stream_is_built(model, tokens):
    logits, cache = model.run_with_cache(tokens)
    resid = cache["hook_embed"]
    if model.cfg.positional_embedding_type == "standard":
        resid = resid + cache["hook_pos_embed"]
    for layer in range(model.cfg.n_layers):
        at = f"blocks.{layer}."
        assert_exact(cache[at + "hook_resid_pre"], resid)
        assert_exact(cache[at + "attn.hook_result"].sum(dim=2), cache[at + "hook_attn_out"])
        pattern = cache[at + "attn.hook_attn_scores"].softmax(dim=-1)
        assert_exact(cache[at + "attn.hook_pattern"], pattern)
        resid = resid + cache[at + "hook_attn_out"]
        if model.cfg.d_mlp:
            assert_exact(cache[at + "hook_resid_mid"], resid)
            assert_exact(cache[at + "mlp.hook_pre"].clamp(min=0), cache[at + "mlp.hook_post"])
            resid = resid + cache[at + "hook_mlp_out"]
        assert_exact(cache[at + "hook_resid_post"], resid)
    if not model.cfg.layer_norm:
        assert_exact(resid @ model.W_U, logits)


@pytest.mark.parametrize(
    "names_filter, picked",
    [
        ("blocks.1.attn.hook_z", ["blocks.1.attn.hook_z"]),
        (lambda name: name.endswith("hook_z"), ["blocks.0.attn.hook_z", "blocks.1.attn.hook_z"]),
        (
            ["hook_embed", lambda name: name.endswith("resid_post")],
            ["hook_embed", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"],
        ),
        ([], []),
    ],
)
def test_names_filter_is_a_name_a_predicate_or_a_list(small, tokens, names_filter, picked):
    logits, cache = small.run_with_cache(tokens, names_filter)
    assert list(cache) == picked and torch.equal(logits, small(tokens))
