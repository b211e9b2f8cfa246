"""The cache and the hook names: everything that is documented is there to see, and seeing changes
nothing.
"""

import pytest
import torch
from torch.testing import assert_close

from minitransformer import ModelConfig, Transformer

EXACT = {"rtol": 0, "atol": 1e-10}  # float64


def documented_shapes(cfg, batch, pos) -> dict[str, tuple[int, ...]]:
    stream, per_head = (batch, pos, cfg.d_model), (batch, pos, cfg.n_heads, cfg.d_head)
    square = (batch, cfg.n_heads, pos, pos)  # batch head query key
    by_ending = dict.fromkeys(
        "embed pos_embed resid_pre resid_mid resid_post attn_out mlp_out".split(), stream
    )
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
    at = "blocks.0."
    assert names == [
        "hook_embed",
        "hook_pos_embed",
        at + "hook_resid_pre",
        at + "ln1.hook_scale",
    ] + [
        *(f"{at}attn.hook_{x}" for x in "q k v attn_scores pattern z result".split()),
        *(at + x for x in "hook_attn_out hook_resid_mid ln2.hook_scale".split()),
        *(at + x for x in "mlp.hook_pre mlp.hook_post hook_mlp_out hook_resid_post".split()),
        "ln_final.hook_scale",
    ]


def test_looking_does_not_change_one_bit(model, tokens):
    logits = model.float()(tokens)
    assert torch.equal(model.run_with_hooks(tokens), logits)
    assert torch.equal(model.run_with_cache(tokens)[0], logits)
    everywhere_but_results = [
        (lambda name: not name.endswith("result"), lambda activation, hook: None)
    ]
    assert torch.equal(model.run_with_hooks(tokens, everywhere_but_results), logits)


def test_the_cache_tells_how_the_stream_is_built(model, tokens):
    logits, cache = model.run_with_cache(tokens)
    resid = cache["hook_embed"]
    if model.cfg.positional_embedding_type == "standard":
        resid = resid + cache["hook_pos_embed"]
    for layer in range(model.cfg.n_layers):
        at = f"blocks.{layer}."
        assert_close(cache[at + "hook_resid_pre"], resid, **EXACT)
        assert_close(
            cache[at + "attn.hook_result"].sum(dim=2), cache[at + "hook_attn_out"], **EXACT
        )
        assert_close(
            cache[at + "attn.hook_attn_scores"].softmax(dim=-1),
            cache[at + "attn.hook_pattern"],
            **EXACT,
        )
        resid = resid + cache[at + "hook_attn_out"]
        if model.cfg.d_mlp:
            assert_close(cache[at + "hook_resid_mid"], resid, **EXACT)
            assert_close(
                cache[at + "mlp.hook_pre"].clamp(min=0), cache[at + "mlp.hook_post"], **EXACT
            )
            resid = resid + cache[at + "hook_mlp_out"]
        assert_close(cache[at + "hook_resid_post"], resid, **EXACT)
    if not model.cfg.layer_norm:
        assert_close(resid @ model.W_U, logits, **EXACT)


@pytest.mark.parametrize(
    "names_filter, picked",
    [
        ("blocks.1.attn.hook_z", ["blocks.1.attn.hook_z"]),
        (lambda name: name.endswith("hook_z"), ["blocks.0.attn.hook_z", "blocks.1.attn.hook_z"]),
        (["hook_embed", lambda name: name.endswith("resid_post")], ["hook_embed", *"0 1".split()]),
        ([], []),
    ],
)
def test_names_filter_is_a_name_a_predicate_or_a_list(small, tokens, names_filter, picked):
    picked = [f"blocks.{name}.hook_resid_post" if len(name) == 1 else name for name in picked]
    logits, cache = small.run_with_cache(tokens, names_filter)
    assert list(cache) == picked and torch.equal(logits, small(tokens))
