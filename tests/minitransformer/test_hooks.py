"""Hooks see and change what they should, and nothing of them is left when the call is over."""

import pytest
import torch
from torch.testing import assert_close

from minitransformer import HookPoint
from tests.material import assert_exact, same_tensors


def double(activation, hook):
    return 2 * activation


def double_in_place(activation, hook):
    activation.mul_(2)


def weights_of(model):
    return {name: weights.clone() for name, weights in model.state_dict().items()}


def test_a_hook_is_told_where_it_is(small, tokens):
    told = []
    small.run_with_hooks(tokens, [("hook_embed", lambda activation, hook: told.append(hook))])
    assert told == [HookPoint("hook_embed")] and told[0].name == "hook_embed"


def test_a_returned_tensor_is_used(model, tokens):
    """Doubling an activation by a hook is doubling it in the weights behind it."""
    edited = model.run_with_hooks(tokens, [("hook_embed", double)])
    with torch.no_grad():
        model.W_E.mul_(2)
    assert_exact(edited, model(tokens))


@pytest.mark.parametrize("edit_in_place", [True, False])
def test_an_edit_works_at_every_name_for_that_run_only(model, tokens, edit_in_place):
    before, weights = model(tokens), weights_of(model)
    fn = double_in_place if edit_in_place else double
    for name in model.hook_names:
        edited = model.run_with_hooks(tokens, [(name, fn)])
        unused = name == "hook_pos_embed" and model.cfg.n_layers == 0
        assert torch.allclose(edited, before, rtol=0, atol=1e-12) == unused, name
        assert torch.equal(model(tokens), before), name
        assert same_tensors(weights_of(model), weights), name


def test_an_edit_in_place_may_touch_one_sequence_alone(small, tokens):
    """hook_pos_embed is one table for the batch; a hook must still get a row of its own for each
    sequence.
    """

    def zero_first(activation, hook):
        activation[0] = 0.0

    logits = small.run_with_hooks(tokens, [("hook_pos_embed", zero_first)])
    assert torch.equal(logits[1], small(tokens)[1])
    assert not torch.allclose(logits[0], small(tokens)[0])


def test_hooks_on_one_name_run_in_order_each_on_what_the_one_before_left(small, tokens):
    def add(activation, hook):
        return activation + 1

    embed = small.W_E[tokens]
    for hooks, expected in (([double, add], 2 * embed + 1), ([add, double], 2 * (embed + 1))):
        pairs = [("hook_embed", fn) for fn in hooks]
        _, cache = small.run_with_cache(tokens, "hook_embed", pairs)
        assert_exact(cache["hook_embed"], expected)


def test_caching_and_editing_in_one_run_shows_the_edited_values(small, tokens):
    at = "blocks.0.attn.hook_pattern"
    plain = small.run_with_cache(tokens)[1]
    logits, cache = small.run_with_cache(tokens, fwd_hooks=[(at, double)])
    assert torch.equal(cache[at], 2 * plain[at])
    scores, z = "blocks.0.attn.hook_attn_scores", "blocks.0.attn.hook_z"
    assert torch.equal(cache[scores], plain[scores])
    assert_exact(cache[z], 2 * plain[z])
    assert torch.equal(logits, small.run_with_hooks(tokens, [(at, double)]))


@pytest.mark.parametrize("layer, head", [(0, 0), (0, 2), (1, 1)])
def test_zeroing_a_head_by_its_result_is_zeroing_its_z(model, tokens, layer, head):
    if layer >= model.cfg.n_layers:
        return

    def zero(activation, hook):
        activation[:, :, head] = 0.0

    by_result = model.run_with_hooks(tokens, [(f"blocks.{layer}.attn.hook_result", zero)])
    by_z = model.run_with_hooks(tokens, [(f"blocks.{layer}.attn.hook_z", zero)])
    assert_exact(by_result, by_z)
    assert not torch.allclose(by_z, model(tokens))


def test_a_run_patched_with_its_own_values_is_the_same_run(model, tokens):
    logits, cache = model.run_with_cache(tokens)
    kept = {name: value.clone() for name, value in cache.items()}
    patch = [(lambda name: True, lambda activation, hook: cache[hook.name])]
    assert_exact(model.run_with_hooks(tokens, patch), logits)
    assert same_tensors(cache, kept)


def test_a_run_patched_with_another_s_stream_becomes_that_run(model, tokens):
    other = (tokens + 3) % model.cfg.d_vocab
    logits, cache = model.run_with_cache(other)
    name = "hook_embed"
    if model.cfg.n_layers:
        name = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    assert_exact(model.run_with_hooks(tokens, [(name, lambda *_: cache[name])]), logits)


# ---- nothing aliases anything, nothing is left behind


def test_cached_tensors_alias_neither_each_other_nor_the_model(model, tokens):
    logits, cache = model.run_with_cache(tokens)
    kept, weights = {name: value.clone() for name, value in cache.items()}, weights_of(model)
    for name in cache:
        assert not cache[name].requires_grad
        cache[name].fill_(7.0)
        kept[name] = torch.full_like(kept[name], 7.0)
        assert same_tensors(cache, kept), name
    assert same_tensors(weights_of(model), weights) and torch.equal(model(tokens), logits)


def test_a_cached_tensor_put_back_by_one_hook_is_safe_from_the_next(small, tokens):
    name = "blocks.0.attn.hook_z"
    _, cache = small.run_with_cache(tokens)
    kept = cache[name].clone()

    def zero(activation, hook):
        activation.zero_()

    hooks = [(name, lambda activation, hook: cache[name]), (name, zero)]
    _, second = small.run_with_cache(tokens, fwd_hooks=hooks)
    assert torch.equal(cache[name], kept) and not second[name].any()


def test_an_exception_in_a_hook_leaves_nothing_behind(model, tokens):
    before, weights = model.run_with_cache(tokens), weights_of(model)

    def fail(activation, hook):
        activation.zero_()
        raise RuntimeError("on purpose")

    for name in model.hook_names:
        with pytest.raises(RuntimeError, match="on purpose"):
            model.run_with_hooks(tokens, [(name, fail)])
        assert torch.equal(model(tokens), before[0]) and same_tensors(weights_of(model), weights)
    after = model.run_with_cache(tokens)
    assert torch.equal(after[0], before[0]) and same_tensors(after[1], before[1])


def test_a_hook_may_run_the_model_itself(small, tokens):
    other = tokens.flip(1)

    def swap(activation, hook):
        inner = small.run_with_cache(other, hook.name, [("hook_embed", double)])[1]
        return inner[hook.name]

    name = "blocks.0.hook_resid_post"
    expected = small.run_with_hooks(other, [("hook_embed", double)])
    assert_exact(small.run_with_hooks(tokens, [(name, swap)]), expected)


# ---- gradients


def test_gradients_flow_through_hooks(model, tokens):
    """At every name: d output / d scale, for an activation multiplied by `scale`, against a
    difference quotient.
    """

    def output(name, scale):
        def stretch(x, hook):
            masked = x.isinf()
            return torch.where(masked, x, x.masked_fill(masked, 0.0) * scale)

        return model.run_with_hooks(tokens, [(name, stretch)]).log_softmax(dim=-1)[..., 0].sum()

    scales = torch.tensor([1.0, 1 + 1e-5, 1 - 1e-5], dtype=torch.float64, requires_grad=True)
    for name in model.hook_names:
        at_one = output(name, scales[0])
        slope = ((output(name, scales[1]) - output(name, scales[2])) / 2e-5).item()
        if at_one.requires_grad and not (name == "hook_pos_embed" and model.cfg.n_layers == 0):
            gradient = torch.autograd.grad(at_one, scales)[0][0].item()
            assert gradient == pytest.approx(slope, rel=1e-6, abs=1e-6), name


def test_weights_get_the_same_gradient_whether_or_not_somebody_looks(model, tokens):
    def gradients(logits):
        logits.square().sum().backward()
        return gradients_of(model)

    plain, cached = gradients(model(tokens)), gradients(model.run_with_cache(tokens)[0])
    everywhere = [(lambda name: True, lambda activation, hook: None)]
    hooked = gradients(model.run_with_hooks(tokens, everywhere))
    assert plain.keys() == cached.keys() == hooked.keys()
    for name, gradient in plain.items():
        assert_exact(cached[name], gradient)
        assert_close(hooked[name], gradient, rtol=1e-8, atol=1e-8)


def gradients_of(model) -> dict[str, torch.Tensor]:
    """Takes them off the weights, so that the next are not added to them."""
    named = model.named_parameters()
    found = {name: weights.grad for name, weights in named if weights.grad is not None}
    model.zero_grad()
    return found


def test_editing_the_cache_does_not_reach_the_gradients(model, tokens):
    def gradients(spoil):
        logits, cache = model.run_with_cache(tokens)
        if spoil:
            for value in cache.values():
                value.fill_(7.0)
        logits.square().sum().backward()
        return gradients_of(model)

    assert same_tensors(gradients(spoil=True), gradients(spoil=False))


# ---- looking things up


def test_asking_a_cache_for_what_it_does_not_hold_can_be_done_without_an_error(small, tokens):
    _, cache = small.run_with_cache(tokens, "blocks.0.attn.hook_pattern")
    absent = "blocks.1.attn.hook_pattern"
    assert absent not in cache and cache.get(absent) is None
