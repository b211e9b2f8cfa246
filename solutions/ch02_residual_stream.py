"""Chapter 2. Who wrote what into the residual stream, and in which directions?

Axis words: batch pos component d_model d_head. Row vectors: x @ W. A subspace is given by rows: the
rows of `A` [n, d_model] and every mixture of them. A head writes into the rows of W_O [d_head,
d_model]; it reads from the rows of W_Q.T, W_K.T, W_V.T. `python -m exercises check` says how you
are doing.
"""

import copy

import torch
from einops import einsum
from torch import Tensor

from minitransformer import Repeats, Transformer
from minitransformer.evaluate import head_scores


def residual_decomposition(cache: dict[str, Tensor]) -> tuple[list[str], Tensor]:
    """The stream as a sum: everything that was ever added to it, with the name of who added it.

    cache: all activations of `model.run_with_cache(tokens)`. Returns labels and components
    [component, batch, pos, d_model], in the order in which they are added:
    - "embed" (hook_embed);
    - "pos" (hook_pos_embed), only where the stream holds positions. Models that give positions to q
      and k alone have a hook_pos_embed too: there "blocks.0.hook_resid_pre" equals hook_embed;
    - for each layer its heads "0.0", "0.1", ... (blocks.0.attn.hook_result [batch, pos, head,
      d_model]), then "0.mlp" (blocks.0.hook_mlp_out), only where the model has one. With n layers,
      components.sum(dim=0) is "blocks.<n-1>.hook_resid_post". Elhage et al. 2021, "A Mathematical
      Framework".
    """
    # YOUR CODE: collect labels and tensors layer by layer, then stack; roughly 11 lines
    labels, parts = ["embed"], [cache["hook_embed"]]
    if not torch.equal(cache["blocks.0.hook_resid_pre"], cache["hook_embed"]):
        labels.append("pos")
        parts.append(cache["hook_pos_embed"])
    for layer in range(sum(name.endswith("hook_resid_post") for name in cache)):
        result = cache[f"blocks.{layer}.attn.hook_result"]  # batch pos head d_model
        labels += [f"{layer}.{head}" for head in range(result.shape[2])]
        parts += result.unbind(dim=2)
        if f"blocks.{layer}.hook_mlp_out" in cache:
            labels.append(f"{layer}.mlp")
            parts.append(cache[f"blocks.{layer}.hook_mlp_out"])
    return labels, torch.stack(parts)


def rotate_head(
    W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor, M: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same head in another basis of its inner space: W_Q becomes W_Q M, W_V becomes W_V M; find
    W_K and W_O.

    W_Q, W_K, W_V [d_model, d_head], W_O [d_head, d_model], M [d_head, d_head] invertible, not only
    a rotation. Returns new W_Q, W_K, W_V, W_O such that every attention score and everything the
    head writes stay exactly as they were, although q, k, v and z do not. Such a freedom is called a
    gauge. Raises torch.linalg.LinAlgError if M has no inverse. Follows from Elhage et al. 2021:
    only W_Q W_K^T and W_V W_O matter.
    """
    # YOUR CODE: which factor undoes M in q k^T, and which in z W_O? roughly 2 lines
    inverse = torch.linalg.inv(M)
    return W_Q @ M, W_K @ inverse.T, W_V @ M, inverse @ W_O


def strongest_directions(rows: Tensor, k: int | None = None) -> Tensor:
    """Orthonormal rows [k, d_model], float64: the k directions that hold most of the rows' squared
    length.

    k = None: every direction that the rows use at all, so the result spans exactly what they span;
    rows that are zero or mixtures of others add nothing. From the singular value decomposition.
    """
    _, strengths, directions = torch.linalg.svd(rows.double(), full_matrices=False)
    used = int((strengths > 1e-6 * strengths.max()).sum())
    return directions[:used][:k]


def principal_angles(A: Tensor, B: Tensor) -> Tensor:
    """How two subspaces lie to each other: as many angles as the smaller one has dimensions, in
    degrees, ascending.

    A [n, d_model] and B [m, d_model]: each subspace is all mixtures of its rows. The first angle is
    the smallest between any vector of one and any vector of the other; the next is the smallest
    among what is orthogonal to those two; and so on. All 0: one contains the other. All 90:
    orthogonal. The cosines are the singular values of P Q^T, where P and Q are orthonormal rows of
    A and B (`strongest_directions` makes them). Returns float64 in [0, 90]. Björck & Golub 1973,
    "Numerical Methods for Computing Angles Between Linear Subspaces".
    """
    # YOUR CODE: two bases, one product, its singular values, arccos; roughly 3 lines
    cosines = torch.linalg.svdvals(strongest_directions(A) @ strongest_directions(B).T)
    return torch.rad2deg(torch.arccos(cosines.clamp(max=1.0)))  # rounding can lift a cosine above 1


def subspace_overlap(A: Tensor, B: Tensor) -> float:
    """How much of the smaller subspace lies inside the other: the mean of cos^2 over the principal
    angles, 0 to 1.

    A [n, d_model], B [m, d_model], rows as in principal_angles. It is the share of squared length
    that a random vector of the smaller subspace keeps when projected onto the other. Two random
    subspaces: on average (larger dimension) / d_model.
    """
    # YOUR CODE: from principal_angles; roughly 1 line
    return principal_angles(A, B).deg2rad().cos().square().mean().item()


def interference(features: Tensor) -> float:
    """How much n directions get in each other's way: the root mean square cosine of rows i and
    j over all i != j, 0 to 1.

    features [n, d_model], n at least 2, rows of any length but 0. Read feature i of a vector with
    the unit row i, and every other feature of that size shows up, by its cosine (Elhage et al.
    2022, "Toy Models of Superposition", arXiv 2209.10652). n random rows: about 1/sqrt(d_model).
    More rows than dimensions cannot all be orthogonal: at least
    sqrt((n - d_model) / (d_model (n - 1))) (Welch 1974, "Lower Bounds on the Maximum Cross
    Correlation of Signals").
    """
    # YOUR CODE: unit rows, all cosines, without those of a row with itself; roughly 3 lines
    unit = features / features.norm(dim=1, keepdim=True)
    different = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    return (unit @ unit.T)[different].square().mean().sqrt().item()


# Given: what the chapter draws and tests with your functions.


def random_rows(seed: int, n: int = 16, d_model: int = 64) -> Tensor:
    """A random subspace, as n rows: what any angle has to be compared with."""
    return torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))


def typical_angle(A: Tensor, heads: list[Tensor]) -> float:
    """The angle in degrees whose cos^2 is the mean overlap of A with each of the others; 60 for an
    overlap of .25.
    """
    overlap = torch.tensor([subspace_overlap(A, B) for B in heads]).mean()
    return overlap.sqrt().arccos().rad2deg().item()


def angle_table(model: Transformer, k: int = 16) -> Tensor:
    """[writer, reader] in degrees, for a two-layer model; nan where the reader never gets what the
    writer writes.

    Writers: tokens, positions, all heads. Readers: q, k, v of layer 0, then of layer 1 (all heads),
    then the output. Tokens, positions and output are represented by their k strongest directions.
    """
    writers = [(0, strongest_directions(rows, k)) for rows in (model.W_E, model.W_pos)]
    readers = []
    for layer in range(2):
        writers += [
            (layer + 1, W) for W in model.W_O[layer]
        ]  # (first layer that can read it, rows)
        for weights in (model.W_Q, model.W_K, model.W_V):
            readers.append((layer, [W.T for W in weights[layer]]))
    readers.append((2, [strongest_directions(model.W_U.T, k)]))
    table = torch.full((len(writers), len(readers)), torch.nan)
    for row, (first, rows) in enumerate(writers):
        for column, (layer, heads) in enumerate(readers):
            if layer >= first:
                table[row, column] = typical_angle(rows, heads)
    if model.cfg.positional_embedding_type == "shortformer":
        table[1, [2, 5, 6]] = torch.nan  # positions reach q and k only
    return table


def hide_from(model: Transformer, reader: str, what: Tensor) -> list:
    """Hooks that take `what` [batch, pos, d_model] out of what layer 1's q, k or v sees, or the
    output, and nobody else.
    """
    if reader == "output":
        return [("blocks.1.hook_resid_post", lambda stream, hook: stream - what)]
    W = getattr(model, f"W_{reader.upper()}")[1]
    unseen = einsum(what, W, "batch pos d_model, head d_model d_head -> batch pos head d_head")
    return [(f"blocks.1.attn.hook_{reader}", lambda x, hook: x - unseen)]


def right_without(model: Transformer, repeats: Repeats, reader: str, what: Tensor) -> Tensor:
    """[batch]: in each sequence, the share of right next tokens where the next token can be known,
    with `what` hidden from one kind of reader.
    """
    logits = model.run_with_hooks(repeats.tokens, hide_from(model, reader, what))
    known = repeats.predictable[:, :-1]
    right = (logits[:, :-1].argmax(dim=-1) == repeats.tokens[:, 1:]) & known
    return right.sum(dim=1) / known.sum(dim=1)


def logits_moved(model: Transformer, repeats: Repeats, reader: str) -> list[float]:
    """What hiding layer 0 from a reader does to a logit, in the repeats and elsewhere: root mean
    square / their spread.
    """
    logits, cache = model.run_with_cache(repeats.tokens)
    hooks = hide_from(model, reader, cache["blocks.0.hook_attn_out"])
    change = model.run_with_hooks(repeats.tokens, hooks) - logits
    moved = []
    for where in (repeats.predictable, ~repeats.predictable):
        moved.append((change[where].square().mean().sqrt() / logits[where].std()).item())
    return moved


def with_rotated_head(model: Transformer, head: tuple[int, int], M: Tensor) -> Transformer:
    """A copy of the model in which one head went through `rotate_head`."""
    other = copy.deepcopy(model)
    new = rotate_head(model.W_Q[head], model.W_K[head], model.W_V[head], model.W_O[head], M)
    with torch.no_grad():
        for name, weights in zip(("W_Q", "W_K", "W_V", "W_O"), new):
            other.get_parameter(name)[head] = weights
    return other


def read_tokens(model: Transformer, repeats: Repeats) -> dict[str, tuple[float, float]]:
    """How well plain dot products read the stream between the layers.

    Directions -> share of current tokens, and of previous tokens, whose direction has the longest
    shadow. Directions: those of the tokens; the tokens as each layer-0 head would move them, the
    head that looks one back most first; and as three random heads would.
    """
    previous = head_scores(model, repeats).previous_token[0]
    tokens = model.W_E[1:]  # BOS left out
    directions = {"tokens": tokens}
    for rank, head in enumerate(previous.argsort(descending=True).tolist(), start=1):
        name = f"tokens moved by head {rank} of layer 0"
        directions[name] = tokens @ model.W_V[0, head] @ model.W_O[0, head]
    for seed in range(3):
        name = f"tokens moved by a random head ({seed})"
        directions[name] = tokens @ random_rows(seed).T @ random_rows(seed + 9)
    _, cache = model.run_with_cache(repeats.tokens)
    middle = cache["blocks.1.hook_resid_pre"][:, 2:]  # where there is a previous token
    current, last = repeats.tokens[:, 2:], repeats.tokens[:, 1:-1]
    shares = {}
    for name, rows in directions.items():
        read = 1 + (middle @ rows.T).argmax(dim=-1)
        shares[name] = (
            (read == current).float().mean().item(),
            (read == last).float().mean().item(),
        )
    return shares


def read_back(n: int, active: int, d_model: int = 64, trials: int = 200) -> float:
    """Share of features found again: `active` of n random directions are added up, and the longest
    shadows guessed.
    """
    generator = torch.Generator().manual_seed(n + active)
    directions = torch.nn.functional.normalize(torch.randn(n, d_model, generator=generator), dim=1)
    chosen = torch.rand(trials, n, generator=generator).topk(active).indices  # trial active
    shadows = directions[chosen].sum(dim=1) @ directions.T  # trial n
    found = shadows.topk(active).indices
    return (found[:, :, None] == chosen[:, None, :]).any(dim=-1).float().mean().item()
