"""Oracles of chapter 16, one neuron at a time; ch16_heuristics.py has those of its names."""

import contextlib

import torch

from tests.material import seeded, small_model

MODEL = small_model(2, n_heads=2, d_model=8, d_head=4, n_ctx=4, layer_norm=True, d_mlp=6)
MODEL.requires_grad_(False)
draw = seeded(16)
for name, weight in MODEL.named_parameters():
    # biases and LayerNorm weights start at 0 and 1: too kind to mistakes
    if name.startswith(("b_", "ln")):
        weight += 0.4 * torch.randn(weight.shape, generator=draw, dtype=torch.float64)
DEEP = small_model(3, n_layers=3, n_heads=2, d_model=8, d_head=4, n_ctx=4, layer_norm=True, d_mlp=6)
DEEP.requires_grad_(False)
TOKENS = torch.randint(11, (5, 4), generator=draw)
ANSWERS = torch.randint(11, (5,), generator=draw)
CACHE = dict(MODEL.run_with_cache(TOKENS)[1])
MEANS = torch.rand(2, 6, generator=draw, dtype=torch.float64)
DEEP_MEANS = torch.rand(3, 6, generator=draw, dtype=torch.float64)
frozen_scale = ("ln_final.hook_scale", lambda scale, hook: CACHE["ln_final.hook_scale"])


def activations(model, tokens):
    """[layer, batch, neuron], at the last position."""
    _, cache = model.run_with_cache(tokens)
    layers = range(model.cfg.n_layers)
    return torch.stack([cache[f"blocks.{layer}.mlp.hook_post"][:, -1] for layer in layers])


def only(n):
    """[neuron] bool: True for neuron n."""
    return torch.arange(6) == n


def run_with(layer, change, read="logits", hooks=(), model=MODEL, tokens=TOKENS):
    """Run with change(activations) in this layer: the logits, or another activation."""
    seen = {}
    every = [(f"blocks.{layer}.mlp.hook_post", lambda h, hook: change(h)), *hooks]
    if read != "logits":
        every.append((read, lambda x, hook: seen.update({read: x.clone()})))
    seen["logits"] = model.run_with_hooks(tokens, every)
    return seen[read]


@contextlib.contextmanager
def counted_runs(model):
    """A list that grows by one with each forward pass of the model."""
    runs = []
    handle = model.register_forward_pre_hook(lambda model, given: runs.append(len(given[0])))
    try:
        yield runs
    finally:
        handle.remove()


def contributions(of="post", bias=0.0, vectors=lambda model, layer: model.W_out[layer]):
    def each_neuron(model, cache, layer):
        h = cache[f"blocks.{layer}.mlp.hook_{of}"]
        return h[..., None] * vectors(model, layer) + bias * model.b_out[layer] / h.shape[-1]

    return each_neuron


def lens(
    centre=True, weigh=True, bias=False, over="vocabulary", own_scale=None, weigh_first=False, of=-1
):
    """value_logits with one thing changed. over: what the mean of the logits is taken over;
    own_scale: what is added to the variance; of: the axis of the mean that is subtracted first.
    """

    def values(model, layer):
        v = model.W_out[layer] - centre * model.W_out[layer].mean(dim=of, keepdim=True)
        if own_scale is not None:
            v = v / (v.square().mean(dim=-1, keepdim=True) + own_scale).sqrt()
        weighed = v * model.ln_final_w if weigh else v
        if weigh_first:
            weighed = model.W_out[layer] * model.ln_final_w
            weighed = weighed - weighed.mean(dim=-1, keepdim=True)
        logits = (weighed + bias * model.ln_final_b) @ model.W_U
        if over == "nothing":
            return logits
        return logits - logits.mean(dim=-1 if over == "vocabulary" else 0, keepdim=True)

    return values


def direct(scale="own", position=-1, scale_at=None, mixed_up=False, over="vocabulary", less=0):
    """answer_contributions with one thing changed. less: how often the mean activation is
    subtracted.
    """

    def to_answer(model, cache, layer, answers):
        answers = answers.flip(0) if mixed_up else answers
        h = cache[f"blocks.{layer}.mlp.hook_post"][:, position]
        at = position if scale_at is None else scale_at
        own = cache["ln_final.hook_scale"][:, at]
        before = cache[f"blocks.{layer}.ln2.hook_scale"][:, at]
        scales = {"own": own, "mean": own.mean(), "none": 1.0, "times": 1 / own, "mlp": before}
        h = h - less * h.mean(dim=0)
        return lens(over=over)(model, layer)[:, answers].T * h / scales[scale]

    return to_answer


def without(
    fill="means", position=-1, keep=False, layers=None, whose=lambda out: out, read=-1, of="post"
):
    """without_neurons with one thing changed. whose: which choice of neurons each prompt gets;
    layers: those that are changed, if not all.
    """

    def logits(model, tokens, out, means):
        out = whose(out.expand(len(tokens), *means.shape)) ^ keep
        hooks = []
        for at in range(len(means)) if layers is None else layers:
            layer = at % len(means)

            def to_mean(h, hook, layer=layer):
                fills = {"means": means[layer], "zero": h.new_zeros(()), "batch": h[:, -1].mean(0)}
                fills |= {"first layer": means[0], "less": h - means[layer]}
                where = out[:, layer, None].expand_as(h).clone()
                if position is not None:
                    where[:, :position] = False
                return torch.where(where, fills[fill], h)

            hooks.append((f"blocks.{layer}.mlp.hook_{of}", to_mean))
        return model.run_with_hooks(tokens, hooks)[:, read]

    return logits


def answer_logit(logits, answers, centred=True):
    return logits.gather(-1, answers[:, None])[:, 0] - centred * logits.mean(dim=-1)


def repeated_alike(model, tokens, answers, at_once=16):
    """A wrong neuron_effects: prompts and neurons of a group are both put there by repeat."""
    means, effects = activations(model, tokens).mean(dim=1), []
    clean = answer_logit(model(tokens)[:, -1], answers)
    for group in torch.eye(12, dtype=torch.bool).view(12, 2, 6).split(at_once):
        out, prompts = group.repeat(len(tokens), 1, 1), tokens.repeat(len(group), 1)
        logits = without()(model, prompts, out, means)
        lost = clean - answer_logit(logits, answers.repeat(len(group))).view(len(group), -1)
        effects.append(lost)
    return torch.cat(effects).view(2, 6, len(tokens))


def read_by_neuron(group):
    """Rows that stand prompt by prompt, read as if neuron by neuron: [neuron, batch]."""
    return group.T.reshape(group.shape)


def read_by_prompt(group):
    """Rows that stand neuron by neuron, read as if prompt by prompt: [neuron, batch]."""
    return group.reshape(group.shape[1], -1).T


def worth_one_by_one(
    fill="means", position=-1, centred=True, sign=1, read=None, keep=False, together=False
):
    """neuron_effects, a run for each neuron. keep: all others are taken out; together: so are the
    neurons of its group; read: how the rows of a group are read.
    """

    def effects(model, tokens, answers, at_once=16):
        clean = answer_logit(model(tokens)[:, -1], answers, centred)
        means, found = activations(model, tokens).mean(dim=1), []
        every = torch.eye(12, dtype=torch.bool).view(12, 2, 6)
        for n in range(12):
            first = n // at_once * at_once
            out = every[first : first + at_once].any(dim=0) if together else every[n]
            logits = without(fill, position, keep)(model, tokens, out, means)
            found.append(answer_logit(logits, answers, centred))
        groups = torch.stack(found).split(at_once)
        left = torch.cat([read(group) if read else group for group in groups])
        return sign * (clean - left).view(2, 6, len(tokens))

    return effects


def mean_of_prompts(h):
    return h.mean(dim=-1, keepdim=True)


def by_differences(
    centred=True,
    base=mean_of_prompts,
    sign=1,
    share=1.0,
    cut=False,
    step=1e-6,
    asked=answer_logit,
    of=lambda slope: slope,
):
    """attributed_effects with slopes measured: nudge one neuron up and down.

    base: what is subtracted from h [layer, neuron, batch]; cut: the later layer's neurons do not
    move, as if the gradient were cut off between the layers; asked: the slope of what; of: which
    slope each prompt gets.
    """
    later = "blocks.1.mlp.hook_post"

    def effects(model, tokens, answers):
        slope = torch.zeros(2, 6, len(tokens), dtype=torch.float64)
        at_last = (torch.arange(tokens.shape[1]) == tokens.shape[1] - 1)[:, None]
        _, cache = model.run_with_cache(tokens)
        for layer in (0, 1):
            for n in range(6):
                nudge = step * only(n) * at_last
                still = [(later, lambda h, hook: cache[later])] if cut and layer == 0 else []
                run = {"hooks": still, "model": model, "tokens": tokens}
                up = run_with(layer, lambda h, by=nudge: h + by, **run)[:, -1]
                down = run_with(layer, lambda h, by=nudge: h - by, **run)[:, -1]
                rise = asked(up, answers, centred) - asked(down, answers, centred)
                slope[layer, n] = rise / (2 * step)
        h = activations(model, tokens).transpose(1, 2)  # layer neuron batch
        return sign * share * of(slope) * (h - base(h))

    return effects
