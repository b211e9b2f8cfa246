"""Chapter 12. What can be read from the stream, and does the model read it?

Axis words: batch pos row d_model label depth. Row vectors: x @ W. Labels are whole numbers from 0
to n_classes - 1; the label -1 means "this place has none, leave it out". `python -m exercises
check` says how you are doing.
"""

from collections.abc import Callable

import torch
from einops import einsum
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from minitransformer import Transformer, planted

Probe = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]  # x, labels, n_classes -> W, b
RIDGE = 1e-3  # the penalty per row: just enough to keep the equations solvable


def token_back(tokens: Tensor, back: int) -> Tensor:
    """Labels: which token stood `back` places before? 0 is the token itself, 1 the previous one.

    tokens [batch, pos] -> labels [batch, pos]; label[b, i] = tokens[b, i - back], and -1 where
    nothing stood there, which is before position 0: BOS is a token like any other. back is from 0
    to the number of positions. tokens stays as it was.
    """
    # YOUR CODE: shift to the right, fill with -1; roughly 3 lines
    labels = torch.full_like(tokens, -1)
    labels[:, back:] = tokens[:, : tokens.shape[1] - back]
    return labels


def linear_probe(
    x: Tensor, labels: Tensor, n_classes: int, ridge: float = RIDGE
) -> tuple[Tensor, Tensor]:
    """The straight lines that best tell the classes apart: one-hot labels regressed on activations.

    x [row, d_model], labels [row] from 0 to n_classes - 1 (no -1 here) -> W [d_model, label] and
    b [label], both float64. One prediction is (x.double() @ W + b).argmax(dim=-1). They minimise

        sum over rows of |x W + b - onehot|^2  +  ridge * rows * |W|^2

    The bias b is not penalised. With xc = x - mean of x, the solution (I is the identity) is

        W = (xc^T xc + ridge * rows * I)^-1 xc^T (onehot - mean of onehot)
        b = mean of onehot - (mean of x) W

    Method: Hoerl & Kennard 1970, "Ridge Regression"; as a probe of what a layer holds: Alain &
    Bengio 2016, "Understanding intermediate layers using linear classifier probes" (arXiv
    1610.01644).
    """
    # YOUR CODE: centre x and the one-hot labels, solve, then the bias; roughly 6 lines
    x, target = x.double(), one_hot(labels, n_classes).double()
    x_mean, target_mean = x.mean(dim=0), target.mean(dim=0)
    centred = x - x_mean
    penalty = ridge * len(x) * torch.eye(x.shape[1], dtype=x.dtype)
    W = torch.linalg.solve(centred.T @ centred + penalty, centred.T @ (target - target_mean))
    return W, target_mean - x_mean @ W


def held_out_accuracy(
    x: Tensor, labels: Tensor, n_classes: int, share: float = 0.8, fit: Probe = linear_probe
) -> float:
    """Share of right answers of a probe, on sequences that it was not fitted to.

    x [batch, pos, d_model], labels [batch, pos]. The first int(share * batch) sequences fit the
    probe, the others test it; they are independent draws, so no shuffling is needed. Whole
    sequences: positions of one sequence know of each other. Places with label -1 count nowhere.
    fit: fit(x [row, d_model], labels [row], n_classes) -> W, b, as linear_probe does. Raises
    ValueError if either part has no labelled place.
    """
    # YOUR CODE: split the sequences, drop -1, fit, compare; roughly 9 lines
    n = int(share * len(x))
    known = labels >= 0
    fit_known, test_known = known[:n], known[n:]
    if not (fit_known.any() and test_known.any()):
        raise ValueError(
            "both parts, for fitting and for testing, need at least one labelled place; "
            f"they have {int(fit_known.sum())} and {int(test_known.sum())}."
        )
    W, b = fit(x[:n][fit_known], labels[:n][fit_known], n_classes)
    guesses = (x[n:][test_known].double() @ W + b).argmax(dim=-1)
    return (guesses == labels[n:][test_known]).double().mean().item()


def probe_by_depth(
    model: Transformer, tokens: Tensor, labels: Tensor, n_classes: int, fit: Probe = linear_probe
) -> Tensor:
    """Held-out accuracy of a probe on the stream at each depth: before layer 0, after each layer.

    tokens, labels [batch, pos] -> [depth], n_layers + 1 numbers. The label of a place is read from
    the stream at that same place. The stream: `blocks.0.hook_resid_pre`, then each
    `blocks.<layer>.hook_resid_post`. One run of the model. fit: as in held_out_accuracy.
    """
    # YOUR CODE: names, one run_with_cache, held_out_accuracy for each; roughly 4 lines
    names = ["blocks.0.hook_resid_pre"]
    names += [f"blocks.{layer}.hook_resid_post" for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(tokens, names)
    streams = [cache[name] for name in names]
    return torch.tensor([held_out_accuracy(x, labels, n_classes, fit=fit) for x in streams])


def logistic_probe(
    x: Tensor, labels: Tensor, n_classes: int, weight_decay: float = 1e-4, steps: int = 100
) -> tuple[Tensor, Tensor]:
    """The strong linear probe: logistic regression whose penalty no stretch of the stream changes.

    x [row, d_model], labels [row] -> W [d_model, label], b [label] as in linear_probe, both
    float64. With log-probabilities log_softmax(x W + b) they minimise

        mean over rows of -log p(label)  +  weight_decay * sum over labels of Var(x W)

    The variance over the rows (divided by their number) is what the answers vary by. A penalty on
    |W|^2 would depend on the lengths of the stream's vectors, this one does not. The way there:
    turn x into z = (x - mean) T with covariance 1, where Var(z V) is |V|^2; fit V and b by
    torch.optim.LBFGS (line search "strong_wolfe", at most `steps` steps, from 0); W = T V.
    Directions whose spread, the root of the variance, is less than 1e-6 of the largest are left
    out. All is computed in float64. It must work under torch.no_grad() too. As a probe: Alain &
    Bengio 2016, see linear_probe.
    """
    # YOUR CODE: T from torch.linalg.eigh of the covariance, LBFGS, back to x; roughly 17 lines
    x, mean = x.double(), x.double().mean(dim=0)
    variances, directions = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    kept = variances > 1e-12 * variances.max()
    T = directions[:, kept] / variances[kept].sqrt()
    z = (x - mean) @ T
    V = torch.zeros(z.shape[1], n_classes, dtype=x.dtype, requires_grad=True)
    b = torch.zeros(n_classes, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([V, b], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(z @ V + b, labels) + weight_decay * V.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # with gradients, even under torch.no_grad()
    W = T @ V.detach()
    return W, b.detach() - mean @ W


def above_shuffled(x: Tensor, labels: Tensor, n_classes: int, generator: torch.Generator) -> float:
    """How much better than guessing? Held-out accuracy minus that with shuffled labels.

    For the control all labels other than -1, of all sequences and positions together, change places
    at random, each by itself: a label may end up anywhere another one stood (-1 stay where they
    are). The control's probe is fitted to the shuffled labels and tested on them. What it scores
    can be reached without any information: by guessing the most frequent class, or by luck. x
    [batch, pos, d_model], labels [batch, pos]; labels stays as it was.
    """
    # YOUR CODE: shuffle with torch.randperm, two calls of held_out_accuracy; roughly 5 lines
    known = labels >= 0
    found = labels[known]
    shuffled = labels.clone()
    shuffled[known] = found[torch.randperm(len(found), generator=generator)]
    return held_out_accuracy(x, labels, n_classes) - held_out_accuracy(x, shuffled, n_classes)


def control_task(
    tokens: Tensor, d_vocab: int, n_classes: int, generator: torch.Generator
) -> Tensor:
    """A meaningless labelling: each token gets one random class, the same wherever it stands.

    tokens: any shape, from 0 to d_vocab - 1, or -1 -> labels of that shape; -1 stays -1. The
    classes are drawn independently from 0 to n_classes - 1, each as likely as any other. Nobody
    taught the model these classes. A probe that finds them learnt them itself, so it could have
    learnt the meaningful ones itself too. See selectivity for the source.
    """
    # YOUR CODE: draw a table, look every token up; roughly 2 lines
    table = torch.randint(n_classes, (d_vocab,), generator=generator)
    return torch.where(tokens >= 0, table[tokens], -1)


def selectivity(
    x: Tensor,
    labels: Tensor,
    words: Tensor,
    d_vocab: int,
    n_classes: int,
    generator: torch.Generator,
) -> float:
    """Could the probe have made these classes up? Held-out accuracy minus that on a control task.

    words [batch, pos]: the token that a label speaks of (the token there for "is it even?"). The
    control's label is the control_task class of that word, and -1 wherever labels is -1. Near 0:
    the probe learns any table over the words as well as this one, so its accuracy says nothing
    about these classes. x [batch, pos, d_model], labels [batch, pos]. Hewitt & Liang 2019,
    "Designing and Interpreting Probes with Control Tasks" (arXiv 1909.03368).
    """
    # YOUR CODE: control_task, its places, two calls of held_out_accuracy; roughly 4 lines
    control = control_task(words, d_vocab, n_classes, generator)
    control = torch.where(labels >= 0, control, -1)
    return held_out_accuracy(x, labels, n_classes) - held_out_accuracy(x, control, n_classes)


def class_means(x: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Where each class lies: the mean of its activations minus the mean of all labelled ones.

    x [..., d_model], labels [...] -> [label, d_model], in the type of x. Places with label -1 count
    nowhere; a class that does not occur gets 0.
    """
    # YOUR CODE: one-hot labels turn sums over classes into a matrix product; roughly 5 lines
    found, known = x[labels >= 0], labels[labels >= 0]
    members = one_hot(known, n_classes).to(x.dtype)  # row label
    sums = einsum(members, found - found.mean(dim=0), "row label, row d_model -> label d_model")
    return sums / members.sum(dim=0).clamp(min=1)[:, None]


def erase(x: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Make the labels linearly unreadable: take from every place the offset of its own class.

    x [..., d_model], labels [...] -> x minus class_means of the place's class, in the type of x;
    places with label -1 stay as they are. Afterwards all classes have the same mean, so a probe
    fitted to these places by least squares can only name the commonest class: this is Oracle LEACE
    for classes, Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form" (arXiv
    2306.03819). (LEACE itself needs no labels when it erases.) A probe that is not linear may still
    read them. And only class means go: what a class notes with changing signs stays, and may be
    used, as in signed_note_model. x stays as it was.
    """
    # YOUR CODE: class_means, looked up by label; roughly 3 lines
    offsets = class_means(x, labels, n_classes)[labels]  # label -1 looks up the last row: not used
    return torch.where(labels[..., None] >= 0, x - offsets, x)


def steer(
    model: Transformer, tokens: Tensor, position: int, vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """Add one vector per sequence to the stream that layer 1 reads, at one position: what happens?

    tokens [batch, pos], vectors [batch, d_model] -> the logits [batch, pos, vocab] and the pattern
    of layer 1, [batch, head, query, key]. The place is `blocks.1.hook_resid_pre`: queries, keys,
    values and all that follows see the sum. The model has at least two layers. As a method for
    large models: Turner et al. 2023, "Activation Addition: Steering Language Models Without
    Optimization" (arXiv 2308.10248).
    """
    # YOUR CODE: a hook function, run_with_cache with fwd_hooks; roughly 6 lines

    def add(stream: Tensor, hook) -> Tensor:
        stream[:, position] += vectors
        return stream

    name = "blocks.1.attn.hook_pattern"
    logits, cache = model.run_with_cache(tokens, name, fwd_hooks=[("blocks.1.hook_resid_pre", add)])
    return logits, cache[name]


@torch.no_grad()
def unread_feature_model() -> Transformer:
    """The hand-built induction model, and a head 0.1 that looks two back and notes that token.

    It writes into coordinates of the stream that no head of layer 1 and no column of W_U reads.
    """
    d_vocab = n_ctx = 24
    model = planted.induction_model(d_vocab, n_ctx, strengths=(1.0, 0.0))
    space = planted.induction_spaces(d_vocab, n_ctx)
    unread = space.position  # positions reach q and k only: in the stream this part is empty
    two_back = space.position @ planted.move(n_ctx, -2)
    planted.write_head(model, 0, 1, two_back, space.position, space.token, unread.T)
    return model


@torch.no_grad()
def signed_note_model() -> Transformer:
    """Induction by a note whose sign depends on the position: `erase` does not find it.

    At even positions head 0.0 notes the previous token with a plus, which 1.0 reads; at odd ones
    0.1 notes it with a minus, which 1.1 reads. So the mean of all notes of one token is about 0.
    """
    n = 24
    model = planted.induction_model(n, n, strengths=(1.0, 1.0))
    space = planted.induction_spaces(n, n)
    model.W_E.copy_(space.token.T)  # here BOS answers by its own direction, whatever the sign
    rest = planted.REST * space.token[:, :1].expand(-1, n)
    one_back, at_bos = planted.move(n, -1), torch.zeros(n, n)
    at_bos[:, 0] = 1
    even, value = (torch.arange(n) % 2 == 0)[:, None], planted.all_but_bos(space.token)
    for head, (awake, sign) in enumerate(((even, 1.0), (~even, -1.0))):
        query, note = space.position @ torch.where(awake, one_back, at_bos), sign * space.previous
        planted.write_head(model, 0, head, query, space.position, value, note.T)
        planted.write_head(model, 1, head, space.token, note + rest, value, space.output.T)
    return model
