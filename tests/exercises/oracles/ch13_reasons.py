"""Why is it wrong? What a result of chapter 13 shows of how it was made."""

from itertools import combinations

import torch

from tests.exercises.differences import plain_difference
from tests.exercises.oracles import ch13 as o
from tests.exercises.oracles.ch09 import instead
from tests.exercises.oracles.ch13 import SMALL, heads, without
from tests.exercises.related import alike


def named(circuit):
    return " ".join(f"{layer}.{head}" for layer, head in circuit) or "no head"


def all_sets(model):
    every = heads(model)
    sizes = range(len(every) + 1)
    return [list(some) for size in sizes for some in combinations(every, size)]


# run_circuit


def what_was_ablated(model, keep, kind):
    """logits -> what the hooks of the watched model did to each head in the last run."""

    def explain(got):
        run, clean = model.runs[-1], o.clean_outputs(SMALL, o.REPEATS.tokens)
        changed = [seen for seen in model.runs if any([not x.equal(y) for x, y in seen.values()])]
        if len(changed) > 1:
            return f"heads were ablated in {len(changed)} runs; ablate all of them in one"
        for layer, head in heads(model):
            z_before, z_after = run[f"blocks.{layer}.attn.hook_z"]
            before, after = z_before[:, :, head], z_after[:, :, head]
            replaced, name = not alike(before, after), f"head {layer}.{head}"
            if (layer, head) in keep and replaced:
                return f"{name} is kept, but its output was replaced"
            instead_of = instead(clean[f"blocks.{layer}.attn.hook_z"][:, :, head], kind)
            if (layer, head) in keep or alike(after, instead_of):
                continue
            if not replaced:
                return f"{name} is outside, but nothing replaced its output"
            return f'what replaced {name} is not the "{kind}" of an undisturbed run'
        return None

    return explain


# right_minus_mean


def weights_of(logits, repeats, metric):
    """got -> at which logit the metric leans on what it should not: by its gradient."""

    def explain(got):
        leaf = logits.clone().requires_grad_()
        with torch.enable_grad():
            value, twice = metric(leaf, repeats), metric(2 * leaf, repeats)
            if not isinstance(value, torch.Tensor) or value.ndim:
                return None
            if not value.requires_grad:
                return "it has no gradient: detached, or no smooth function of the logits"
            slopes = torch.autograd.grad(value, leaf)[0]
        right, known = right_slopes(logits, repeats), repeats.predictable
        for b, p in torch.cartesian_prod(*map(torch.arange, known.shape)).tolist():
            here, last = f"sequence {b}, position {p}", p == known.shape[1] - 1
            counts, counted = bool(known[b, p]) and not last, slopes[b, p].abs().max() > 1e-9
            if counted and not counts:
                why = "the next token is not in the batch" if last else "predictable is False there"
                return f"{here} counts, but {why}"
            if counts and not counted:
                return f"{here} does not count, but its next token is determined"
            if not alike(twice, 2 * value):
                return f"it is not linear: twice the logits give {twice / value:.4g} times as much"
            if not alike(slopes[b, p], right[b, p]):
                return leaning(slopes[b, p], right[b, p], repeats.tokens[b], p)
        return None

    return explain


def right_slopes(logits, repeats):
    leaf = logits.clone().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(o.right_by_loops(leaf, repeats), leaf)[0]


def leaning(slopes, right, tokens, p):
    most = int(slopes.argmax())
    if most != tokens[p + 1] and slopes[most] > 2 * slopes[int(tokens[p + 1])].abs():
        return f"at position {p} it leans on token {most}, the next token is {tokens[p + 1]}"
    token = int(((slopes - right).abs()).argmax())
    what = "the right one" if token == tokens[p + 1] else "not the right one"
    weighs = f"the logit of token {token}, {what}, weighs {slopes[token]:.4g}"
    return f"at position {p} {weighs}, expected {right[token]:.4g} (1 / positions, 1 / tokens)"


# faithfulness


def by_its_formula(model, repeats, circuits, metric, kind):
    """got -> the three metrics of the circuit that is furthest off."""

    def explain(got):
        truth = o.share(model, repeats, circuits, metric, kind)
        if got.shape != truth.shape:
            return None
        worst = int((got - truth).abs().argmax())
        kept = {"C": circuits[worst], "none": [], "model": heads(model)}
        scores = {name: o.score(model, repeats, some, metric, kind) for name, some in kept.items()}
        numbers = ", ".join(f"m({name}) = {value:.4g}" for name, value in scores.items())
        other = value_of(got[worst].item(), model, repeats, metric, kind)
        return f"C = {named(circuits[worst])} has {numbers}; got {got[worst]:.4g}, {other}"

    return explain


# greedy_path


def step_to(model, repeats, metric, kind, circuit):
    """What each removal from a circuit leaves, in words."""
    some = [without(circuit, [head]) for head in circuit]
    values = o.share(model, repeats, some, metric, kind).tolist()
    left = ", ".join(f"{h[0]}.{h[1]}: {value:.3f}" for h, value in zip(circuit, values))
    return f"F without {left}; the highest is left"


# find_circuit


def path_in_words(model, repeats, path, metric, kind):
    values = o.share(model, repeats, path, metric, kind).tolist()
    return ", ".join(f"{len(circuit)}: {value:.3f}" for circuit, value in zip(path, values))


# completeness, minimality


def value_of(value, model, repeats, metric, kind):
    """Which circuit has this faithfulness? In words."""
    every = all_sets(model)
    values = o.share(model, repeats, every, metric, kind)
    near = (values - value).abs() < 1e-5
    return f"F of {named(every[int(near.nonzero()[0])])}" if near.any() else "no circuit's F"


def which_circuit(model, repeats, circuit, sets, metric, kind):
    """got -> of which circuit is the number that is furthest off?"""

    def explain(got):
        shape = (len(sets), 2)
        if got.shape != shape:
            return None
        pairs = [[without(circuit, lost), without(heads(model), lost)] for lost in sets]
        for lost, mine, pair in zip(sets, got.tolist(), pairs):
            for value, wanted, name in zip(mine, pair, "CM"):
                truth = o.share(model, repeats, [wanted], metric, kind).item()
                if abs(value - truth) > 1e-5:
                    other = value_of(value, model, repeats, metric, kind)
                    asked = f"{name} without K is {named(wanted)}, with F = {truth:.4g}"
                    return f"K = {named(lost)}: {asked}; got {value:.4g}, {other}"
        return None

    return explain


def gains_behind(model, repeats, circuit, metric, kind, truth):
    """got [head, alone or at_most] -> a factor, or the gains of the first head that is wrong."""

    def explain(got):
        plain = plain_difference([got], [truth])
        for head, mine, pair in zip(circuit, got, truth):
            if not plain and not alike(mine, pair):
                gains = gains_in_words(model, repeats, circuit, head, metric, kind)
                return f"for v = {named([head])} F(S) - F(S without v) is {gains}, for all S"
        return plain

    return explain


def gains_in_words(model, repeats, circuit, head, metric, kind):
    """F(S) - F(S without v) for all parts S of a circuit that contain v."""
    rest, gains = without(circuit, [head]), []
    for size in range(len(rest) + 1):
        for part in combinations(rest, size):
            pair = o.share(model, repeats, [[*part, head], part], metric, kind)
            gains.append(f"{(pair[0] - pair[1]).item():.3f}")
    return ", ".join(gains)
