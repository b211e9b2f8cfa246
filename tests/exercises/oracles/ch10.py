"""Chapter 10 the slow way: the whole model in matrices, one sequence and one head at a time."""

import functools
import math

import torch

from minitransformer import Transformer, repeated_tokens
from minitransformer.planted import induction_model, pointer_model, three_composers
from solutions.ch10_direct_and_indirect import ASK, NO, POINT, START, YES, two_way_model
from tests.material import seeded, small_model

READERS = {
    "direct": ["logits"],
    "via patterns": ["q", "k"],
    "via values": ["v"],
    "via queries": ["q"],
    "via keys": ["k"],
}


def loud_model(seed: int, **config) -> Transformer:
    """A small model whose weights are large enough for every way to carry something."""
    model, generator = small_model(**config).requires_grad_(False), seeded(seed)
    for parameter in model.parameters():
        parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator).double())
    return model


def attend(model: Transformer, at: tuple, n: int, x_q, x_k, placed=False):
    """The pattern [query, key] of head `at`: queries from x_q [pos, d_model], keys from x_k.

    placed: the positions are in them already.
    """
    if model.cfg.positional_embedding_type == "shortformer" and not placed:
        x_q, x_k = x_q + model.W_pos[:n], x_k + model.W_pos[:n]
    scores = (x_q @ model.W_Q[at]) @ (x_k @ model.W_K[at]).T / math.sqrt(model.cfg.d_head)
    pattern = torch.zeros_like(scores)
    for i in range(n):
        pattern[i, : i + 1] = scores[i, : i + 1].softmax(dim=0)
    return pattern


def write(model: Transformer, at: tuple, pattern, x_v):
    """What head `at` adds to the stream [pos, d_model] if its values are made from x_v."""
    return pattern @ x_v @ model.W_V[at] @ model.W_O[at]


def start(model: Transformer, row):
    stream = model.W_E[row]
    if model.cfg.positional_embedding_type == "standard":
        stream = stream + model.W_pos[: len(row)]
    return stream


def two_layers(model: Transformer, tokens, head: int, missing: list[str]):
    """Logits if these readers miss what head 0.`head` wrote: "q", "k", "v" of layer 1, "logits"."""
    logits = []
    for row in tokens:
        n, x = len(row), start(model, row)
        out = []
        for h in range(model.cfg.n_heads):
            out.append(write(model, (0, h), attend(model, (0, h), n, x, x), x))
        full = x + sum(out)
        sees = dict.fromkeys(("q", "k", "v", "logits"), full)
        sees |= dict.fromkeys(missing, full - out[head])
        stream = sees["logits"]
        for h in range(model.cfg.n_heads):
            pattern = attend(model, (1, h), n, sees["q"], sees["k"])
            stream = stream + write(model, (1, h), pattern, sees["v"])
        logits.append(stream @ model.W_U)
    return torch.stack(logits)


def ledger_of_two_layers(model: Transformer, tokens, head: int, metric) -> dict:
    """The ledger of a layer-0 head. The interaction: q, k and v miss it, less each way alone."""
    undisturbed = metric(two_layers(model, tokens, head, []))

    def change(*missing):
        return metric(two_layers(model, tokens, head, list(missing))) - undisturbed

    ledger = {way: change(*READERS[way]) for way in ("direct", "via patterns", "via values")}
    ledger["interaction"] = change("q", "k", "v") - ledger["via patterns"] - ledger["via values"]
    return ledger | {"total": change("q", "k", "v", "logits")}


def by_hand(model: Transformer, tokens, patterns=None, silent=None, mix=None):
    """Any number of layers: logits, patterns, streams, and what the silent head would have written.

    patterns {(row, layer, head): A}: force these. silent: a head that writes nothing, though what
    it would have written is returned [batch, pos, d_model]. mix(row, layer, own): the streams that
    q and k read, where `own` is the stream of this run.
    """
    logits, seen, streams, written = [], {}, {}, []
    for b, row in enumerate(tokens):
        stream = start(model, row)
        for layer in range(model.cfg.n_layers):
            streams[b, layer], added = stream, 0
            x_q, x_k = mix(b, layer, stream) if mix else (stream, stream)
            for h in range(model.cfg.n_heads):
                A = attend(model, (layer, h), len(row), x_q, x_k)
                if patterns:
                    A = patterns[b, layer, h]
                seen[b, layer, h] = A
                out = write(model, (layer, h), A, stream)
                if (layer, h) == silent:
                    written.append(out)
                else:
                    added = added + out
            stream = stream + added
        logits.append(stream @ model.W_U)
    return torch.stack(logits), seen, streams, torch.stack(written) if written else None


def ledger_of_any(model: Transformer, tokens, head: tuple, metric) -> dict:
    """The ledger in any number of layers, by definition; the metric is linear in the logits."""
    logits, clean, _, _ = by_hand(model, tokens)
    removed_logits, removed, _, written = by_hand(model, tokens, silent=head)
    own = written @ model.W_U  # what the unembedding makes of the head: its attribution
    steered = by_hand(model, tokens, patterns=removed)[0]
    frozen = by_hand(model, tokens, patterns=clean, silent=head)[0] + own
    runs = {
        "direct": logits - own,
        "via patterns": steered,
        "via values": frozen,
        "total": removed_logits,
    }
    ledger = {way: metric(run) - metric(logits) for way, run in runs.items()}
    both = metric(removed_logits + own) - metric(logits)
    ledger["interaction"] = both - ledger["via patterns"] - ledger["via values"]
    return ledger


def query_key_of_any(model: Transformer, tokens, head: tuple, metric) -> dict:
    """Via queries, via keys and both, in any number of layers: q and k read streams of two runs."""
    logits, _, clean, _ = by_hand(model, tokens)
    _, _, removed, _ = by_hand(model, tokens, silent=head)

    def effect(q, k):
        mixed = by_hand(model, tokens, mix=lambda b, layer, own: (q[b, layer], k[b, layer]))[0]
        return metric(mixed) - metric(logits)

    return {
        "via queries": effect(removed, clean),
        "via keys": effect(clean, removed),
        "both": effect(removed, removed),
    }


# Circuits whose ledger is known because they were set by hand.


def on_repeats(model, batch=2, length=14, period=6):
    """Model, tokens, and the mean of logit[next] - logit[a token not in the row], where known."""
    d_vocab, periods = model.cfg.d_vocab, (period, period)
    repeats = repeated_tokens(batch, length, d_vocab, periods, seeded(7), prefix=2)
    tokens, known = repeats.tokens, repeats.predictable.clone()
    known[:, -1] = False
    right = tokens.roll(-1, dims=1)[..., None]
    absent = torch.tensor([min(set(range(1, d_vocab)) - set(row)) for row in tokens.tolist()])
    wrong = absent[:, None, None].expand_as(right)

    def metric(logits):
        return (logits.gather(-1, right) - logits.gather(-1, wrong))[..., 0][known].mean()

    return model.double(), tokens, metric


def as_entries(numbers, names):
    return {name: torch.tensor(number).double() for name, number in zip(names, numbers)}


def logit_gap(logits):
    return (logits[:, -1, YES] - logits[:, -1, NO]).mean()


def first_against_second(logits):
    return (logits[..., 1] - logits[..., 0]).mean()


def evenly(tokens, read_from=9, s=10.0):
    """What the pointer model loses without its pointer: it attends evenly, so the right token gets
    s times its share of what was read.
    """
    lost = []
    for row in tokens.tolist():
        for i in range(read_from, len(row) - 1):
            lost.append(s * row[: i + 1].count(row[i + 1]) / (i + 1) - s)
    return sum(lost) / len(lost)


@functools.cache
def planted_ledgers():
    """(name, model, tokens, metric, head, its known direct, via patterns, via values, interaction
    and total).
    """
    prompt = torch.tensor([[START, POINT, ASK]])
    induction = on_repeats(induction_model(14, 14))
    pointer = on_repeats(pointer_model(14, 14))
    both = two_way_model("both").double(), prompt, logit_gap
    either = two_way_model("either").double(), prompt, logit_gap
    lost = evenly(pointer[1])
    cases = [
        ("induction, previous-token head", *induction, (0, 0), [0.0, -10.0, 0.0, 0.0, -10.0]),
        ("induction, induction head", *induction, (1, 0), [-10.0, 0.0, 0.0, 0.0, -10.0]),
        ("pointer, duplicate-token head", *pointer, (0, 0), [0.0, lost, 0.0, 0.0, lost]),
        ("both ways needed", *both, (0, 0), [0.0, -10.0, -10.0, 10.0, -10.0]),
        ("either way enough", *either, (0, 0), [0.0, 0.0, 0.0, -10.0, -10.0]),
    ]
    composers, tokens = three_composers().double(), torch.tensor([[0, 1, 2, 1, 0, 2, 2, 1]])
    plain = first_against_second(composers(tokens))
    for number, way in enumerate((1, 1, 2)):  # by Q, by K: via patterns; by V: via values
        without = two_layers(composers, tokens, number, ["q", "k", "v", "logits"])
        total = (first_against_second(without) - plain).item()
        assert abs(total) > 0.1
        known = [0.0, 0.0, 0.0, 0.0, total]
        known[way] = total
        case = composers, tokens, first_against_second, (0, number), known
        cases.append((f"three composers, 0.{number}", *case))
    return cases
