"""Oracles of chapter 16, one neuron at a time; ch16_heuristics.py has those of its names."""

import torch

from tests.material import seeded, small_model

MODEL = small_model(2, n_heads=2, d_model=8, d_head=4, n_ctx=4, layer_norm=True, d_mlp=6)
MODEL.requires_grad_(False)
draw = seeded(16)
for name, weight in MODEL.named_parameters():
    # biases and LayerNorm weights start at 0 and 1: too kind to mistakes
    if name.startswith(("b_", "ln")):
        weight += 0.4 * torch.randn(weight.shape, generator=draw, dtype=torch.float64)
TOKENS = torch.randint(11, (5, 4), generator=draw)
ANSWERS = torch.randint(11, (5,), generator=draw)
CACHE = dict(MODEL.run_with_cache(TOKENS)[1])
MEANS = torch.rand(2, 6, generator=draw, dtype=torch.float64)
ACTIVATIONS = torch.stack([CACHE[f"blocks.{layer}.mlp.hook_post"][:, -1] for layer in (0, 1)])

frozen_scale = ("ln_final.hook_scale", lambda scale, hook: CACHE["ln_final.hook_scale"])


def only(n):
    """[neuron] bool: True for neuron n."""
    return torch.arange(6) == n


def run_with(layer, change, read="logits", hooks=()):
    """Run on TOKENS with change(activations) in this layer: the logits, or another activation."""
    seen = {}
    every = [(f"blocks.{layer}.mlp.hook_post", lambda h, hook: change(h)), *hooks]
    if read != "logits":
        every.append((read, lambda x, hook: seen.update({read: x.clone()})))
    seen["logits"] = MODEL.run_with_hooks(TOKENS, every)
    return seen[read]


def contributions(of="post", bias=0.0, other=0):
    def each_neuron(model, cache, layer):
        h, v = cache[f"blocks.{layer}.mlp.hook_{of}"], model.W_out[(layer + other) % 2]
        return h[..., None] * v + bias * model.b_out[layer] / h.shape[-1]

    return each_neuron


def lens(
    centre=True, weigh=True, bias=False, over="vocabulary", own_scale=False, weigh_first=False
):
    """value_logits with one thing changed. over: what the mean of the logits is taken over."""

    def values(model, layer):
        v = model.W_out[layer] - centre * model.W_out[layer].mean(dim=-1, keepdim=True)
        v = v / v.square().mean(dim=-1, keepdim=True).sqrt() if own_scale else v
        weighed = v * model.ln_final_w if weigh else v
        if weigh_first:
            weighed = model.W_out[layer] * model.ln_final_w
            weighed = weighed - weighed.mean(dim=-1, keepdim=True)
        logits = (weighed + bias * model.ln_final_b) @ model.W_U
        if over == "nothing":
            return logits
        return logits - logits.mean(dim=-1 if over == "vocabulary" else 0, keepdim=True)

    return values


def direct(scale="own", position=-1, mixed_up=False, over="vocabulary"):
    def to_answer(model, cache, layer, answers):
        answers = answers.flip(0) if mixed_up else answers
        h = cache[f"blocks.{layer}.mlp.hook_post"][:, position]
        own = cache["ln_final.hook_scale"][:, position]
        scales = {"own": own, "mean": own.mean(), "none": 1.0}
        return lens(over=over)(model, layer)[:, answers].T * h / scales[scale]

    return to_answer


def without(fill="means", position=-1, keep=False, layers=(0, 1)):
    def logits(model, tokens, out, means):
        out = out.expand(len(tokens), *means.shape) ^ keep
        hooks = []
        for layer in layers:

            def to_mean(h, hook, layer=layer):
                fills = {"means": means[layer], "zero": h.new_zeros(()), "batch": h[:, -1].mean(0)}
                where = out[:, layer, None].expand_as(h).clone()
                if position is not None:
                    where[:, :position] = False
                return torch.where(where, fills[fill], h)

            hooks.append((f"blocks.{layer}.mlp.hook_post", to_mean))
        return model.run_with_hooks(tokens, hooks)[:, -1]

    return logits


def answer_logit(logits, answers, centred=True):
    return logits.gather(-1, answers[:, None])[:, 0] - centred * logits.mean(dim=-1)


def repeated_alike(model, tokens, answers, at_once=16):
    """A wrong neuron_effects: prompts and neurons of a group are both put there by repeat."""
    means, effects = ACTIVATIONS.mean(dim=1), []
    clean = answer_logit(model(tokens)[:, -1], answers)
    for group in torch.eye(12, dtype=torch.bool).view(12, 2, 6).split(at_once):
        out, prompts = group.repeat(len(tokens), 1, 1), tokens.repeat(len(group), 1)
        logits = without()(model, prompts, out, means)
        lost = clean - answer_logit(logits, answers.repeat(len(group))).view(len(group), -1)
        effects.append(lost)
    return torch.cat(effects).view(2, 6, len(tokens))


def worth_one_by_one(fill="means", position=-1, centred=True, sign=1, scrambled=False):
    """neuron_effects, a run for each neuron."""

    def effects(model, tokens, answers, at_once=64):
        clean = answer_logit(model(tokens)[:, -1], answers, centred)
        found = []
        for out in torch.eye(12, dtype=torch.bool).view(12, 2, 6):
            logits = without(fill, position)(model, tokens, out, ACTIVATIONS.mean(dim=1))
            found.append(sign * (clean - answer_logit(logits, answers, centred)))
        found = torch.stack(found)
        return (found.T.reshape(12, -1) if scrambled else found).view(2, 6, len(tokens))

    return effects


def by_differences(centred=True, centre_h=True, sign=1, share=1.0, cut=False, step=1e-6):
    """attributed_effects with slopes measured: nudge one neuron up and down.

    cut: the later layer's neurons do not move, as if the gradient were cut off between the layers.
    """
    later = "blocks.1.mlp.hook_post"

    def effects(model, tokens, answers):
        slope = torch.zeros(2, 6, len(tokens), dtype=torch.float64)
        at_last = (torch.arange(4) == 3)[:, None]
        for layer in (0, 1):
            for n in range(6):
                nudge = step * only(n) * at_last
                still = [(later, lambda h, hook: CACHE[later])] if cut and layer == 0 else []
                up = run_with(layer, lambda h, by=nudge: h + by, hooks=still)[:, -1]
                down = run_with(layer, lambda h, by=nudge: h - by, hooks=still)[:, -1]
                rise = answer_logit(up, answers, centred) - answer_logit(down, answers, centred)
                slope[layer, n] = rise / (2 * step)
        h = ACTIVATIONS.transpose(1, 2)  # layer neuron batch
        return sign * share * slope * (h - centre_h * h.mean(dim=-1, keepdim=True))

    return effects
