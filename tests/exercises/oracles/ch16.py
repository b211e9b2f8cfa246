"""Oracles of chapter 16: everything the slow way, with single things changed, and planted
neurons.
"""

import torch

from solutions.ch16_neurons_and_heuristics import several_results


def own_activations(model, tokens):
    """[layer, batch, neuron] at the last position."""
    _, cache = model.run_with_cache(tokens)
    return torch.stack([cache[f"blocks.{layer}.mlp.hook_post"][:, -1] for layer in range(2)])


def without(fill="means", position=-1, keep=False, layers=(0, 1)):
    def logits(model, tokens, out, means):
        out = out.expand(len(tokens), *means.shape) ^ keep
        hooks = []
        for layer in layers:

            def to_mean(h, hook, layer=layer):
                mean = {
                    "means": means[layer],
                    "zero": torch.zeros(()).double(),
                    "batch": h[:, -1].mean(dim=0),
                }[fill]
                where = out[:, layer, None].expand_as(h).clone()
                if position is not None:
                    where[:, :position] = False
                return torch.where(where, mean, h)

            hooks.append((f"blocks.{layer}.mlp.hook_post", to_mean))
        return model.run_with_hooks(tokens, hooks)[:, -1]

    return logits


def answer_logit(logits, answers, centred=True):
    return logits.gather(-1, answers[:, None])[:, 0] - centred * logits.mean(dim=-1)


def one_by_one(fill="means", position=-1, centred=True, sign=1, scrambled=False):
    def effects(model, tokens, answers, at_once=64):
        means = own_activations(model, tokens).mean(dim=1)
        clean, found = answer_logit(model(tokens)[:, -1], answers, centred), []
        for out in torch.eye(12, dtype=torch.bool).view(12, 2, 6):
            logits = without(fill, position)(model, tokens, out, means)
            found.append(sign * (clean - answer_logit(logits, answers, centred)))
        found = torch.stack(found)
        return (found.T.reshape(12, -1) if scrambled else found).view(2, 6, len(tokens))

    return effects


def by_differences(centred=True, centre_h=True, sign=1, share=1.0, step=1e-6):
    """attributed_effects with slopes measured: nudge one neuron up and down."""

    def effects(model, tokens, answers):
        slope = torch.zeros(2, 6, len(tokens), dtype=torch.float64)
        for layer in range(2):
            for n in range(6):
                up, down = (
                    model.run_with_hooks(tokens, [(f"blocks.{layer}.mlp.hook_post", nudge(n, by))])[
                        :, -1
                    ]
                    for by in (step, -step)
                )
                rise = answer_logit(up, answers, centred) - answer_logit(down, answers, centred)
                slope[layer, n] = rise / (2 * step)
        h = own_activations(model, tokens).transpose(1, 2)  # layer neuron batch
        return sign * share * slope * (h - centre_h * h.mean(dim=-1, keepdim=True))

    return effects


def nudge(n, by):
    # at the last position
    return lambda h, hook: h + by * (torch.arange(6) == n) * (torch.arange(4) == 3)[:, None]


def laid_out(transposed=False, empty=torch.nan):
    def grid(values, a, b, size):
        table = torch.full((size, size, *values.shape[1:]), empty)
        for value, i, j in zip(values, b if transposed else a, a if transposed else b):
            table[i, j] = value
        return table

    return grid


def scores_by_loops(
    zeros_count=False, highest=True, k_of=lambda mask, values: int(mask.sum()), over=None
):
    """heuristic_scores, one problem at a time; the defaults are right. over: what the overlap is
    divided by.
    """

    def scores(values, masks):
        order, found = values.argsort(descending=highest).tolist(), []
        for mask in masks:
            k = k_of(mask, values)
            overlap = sum(bool(mask[p]) and (zeros_count or bool(values[p] > 0)) for p in order[:k])
            found.append(overlap / (over(mask, values, overlap) if over else k))
        return torch.tensor(found)

    return scores


def order_for_rank(values, masks):
    """A wrong heuristic_scores: the list of problems, best first, is read as if it were each
    problem's rank.
    """
    sizes = masks.sum(dim=-1)
    return (masks & (values.argsort(descending=True) < sizes[:, None]) & (values > 0)).sum(
        dim=-1
    ) / sizes


def classifier(on=("activation", "promoted"), multi=True, ties="large", ignore_threshold=False):
    """classify_neuron with one thing changed; on: what operand heuristics and what direct ones are
    scored on.
    """

    def classify(activation, promoted, result, heuristics, threshold=0.6):
        values, best = {"activation": activation, "promoted": promoted}, ("none", -1.0, 0)
        listed = list(zip(heuristics.names, heuristics.masks, heuristics.direct))
        for count in (2, 3, 4) if multi else ():
            mask = several_results(promoted, result, count)
            listed.append((f"multi-result: {count} values", mask, torch.tensor(True)))
        for name, mask, is_direct in listed:
            scored, k = values[on[int(is_direct)]], int(mask.sum())
            highest = scored.topk(k).indices
            score = float((mask[highest] & (scored[highest] > 0)).sum() / k)
            size = {"large": 1, "small": -1}[ties] * k
            if (round(score, 6), size) > (round(best[1], 6), best[2]):
                best = (name, score, size)
        return (best[0] if best[1] >= threshold or ignore_threshold else "none"), best[1]

    return classify


def planted_neurons(a, b, result, generator):
    """label -> (activation, promoted, the heuristic that it was made from): one of every type, each
    with noise.

    A neuron on one operand promotes all kinds of results. A direct one is active on problems that
    have little to do with its heuristic; only together with its value vector does it stand for
    something."""
    masks = {
        "range: 10 <= a < 20": (a >= 10) & (a < 20),
        "range: 5 <= b < 15": (b >= 5) & (b < 15),
        "range: 20 <= result < 30": (result >= 20) & (result < 30),
        "modulo: a mod 7 = 3": a % 7 == 3,
        "modulo: b mod 4 = 1": b % 4 == 1,
        "modulo: result mod 5 = 2": result % 5 == 2,
        "pattern: a has a 3": (a % 10 == 3) | (a // 10 == 3),
        "pattern: b has a 1": (b % 10 == 1) | (b // 10 == 1),
        "pattern: result has a 2": (result % 10 == 2) | (result // 10 == 2),
        "identical: a = b": a == b,
        "multi-result: 3 values": (result == 17) | (result == 24) | (result == 38),
    }
    planted = {}
    for name, mask in masks.items():
        noise = torch.rand(len(a), generator=generator)
        there = (0.2 + mask * (1 + torch.rand(len(a), generator=generator))) * (0.9 + 0.1 * noise)
        # a value vector with no message
        of_result = torch.rand(int(result.max()) + 1, generator=generator)[result]
        if "result" not in name and "identical" not in name:
            planted[name] = there, there * (of_result - 0.5), name
        else:
            active = 1 + (a < 12).float()  # in its activation alone, it is a range of a
            planted[name] = active * (0.9 + 0.1 * noise), there, name
    return planted


def senseless_neurons(a, b, result, generator):
    """label -> (activation, promoted): neurons that stand for nothing."""

    def noise():
        return torch.rand(len(a), generator=generator)

    by_table = torch.rand(50, generator=generator)  # a number for each operand, drawn by lot
    shuffled = torch.randperm(len(a), generator=generator)
    return {
        "pure noise": (noise(), noise()),
        "a silent neuron": (torch.zeros(len(a)), torch.zeros(len(a))),
        "a neuron that only ever speaks against the answer": (noise(), -noise()),
        "a number drawn for each operand": (
            by_table[a] * by_table[b],
            by_table[a] * by_table[b] * noise(),
        ),
        "a shuffled range": (((a >= 10) & (a < 25)).float()[shuffled], noise()),
    }
