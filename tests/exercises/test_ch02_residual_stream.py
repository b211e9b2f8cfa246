"""Checks of chapter 2. The oracles: the stream itself, planes turned by known angles, and unchanged
scores and outputs.
"""

import math

import torch
from torch.linalg import inv, svdvals

from minitransformer import ModelConfig, Transformer
from minitransformer.planted import induction_model, induction_spaces
from tests.exercises.checking import checks, expect, expect_close

SMALL = {"n_heads": 3, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 6}
TOKENS = torch.tensor([[0, 3, 7, 3, 10, 1], [0, 5, 5, 2, 9, 4]])


def small_model(**config):
    return Transformer(ModelConfig(**SMALL, **config), seed=3).double()


def cache_of(model):
    return model.run_with_cache(TOKENS)[1]


PLAIN = small_model()
HEADS = [f"{layer}.{head}" for layer in range(2) for head in range(3)]
MODELS = {
    "positions on q and k only": (PLAIN, ["embed", *HEADS]),
    "positions in the stream": (
        small_model(positional_embedding_type="standard"),
        ["embed", "pos", *HEADS],
    ),
    "one layer": (small_model(n_layers=1), ["embed", *HEADS[:3]]),
    "with an MLP": (small_model(d_mlp=5), ["embed", *HEADS[:3], "0.mlp", *HEADS[3:], "1.mlp"]),
}


def decomposed(
    always_positions=False, never_positions=False, residuals=False, whole_layers=False, skip=()
):
    """residual_decomposition with one thing changed, by other means: a component is one change of
    the stream.
    """

    def decompose(cache):
        parts = {"embed": cache["hook_embed"], "pos": cache["hook_pos_embed"]}
        if (
            never_positions
            or not always_positions
            and torch.equal(cache["blocks.0.hook_resid_pre"], parts["embed"])
        ):
            del parts["pos"]
        for name, value in cache.items():
            layer = name.split(".")[1] if "." in name else None
            if name.endswith("hook_result") and not whole_layers:
                parts |= {f"{layer}.{head}": value[:, :, head] for head in range(value.shape[2])}
            if name.endswith("hook_attn_out") and whole_layers:
                parts[f"{layer}.0"] = value
            if name.endswith("hook_mlp_out"):
                parts[f"{layer}.mlp"] = value
            if name.endswith("hook_resid_post") and residuals:
                parts[f"{layer}.resid"] = value
        parts = {label: part for label, part in parts.items() if label not in skip}
        return list(parts), torch.stack(list(parts.values()))

    return decompose


@checks(
    "residual_decomposition",
    mistakes={
        "positions are counted as part of the stream; this model gives them to q and k only": decomposed(
            always_positions=True
        ),
        "positions are missing where the model does add them to the stream": decomposed(
            never_positions=True
        ),
        "hook_resid_post was taken as a component: that is the sum so far, not what a layer adds": decomposed(
            residuals=True
        ),
        "the heads of a layer are one component (hook_attn_out); give each head its own (hook_result)": decomposed(
            whole_layers=True
        ),
        "the embedding is missing: it was there first": decomposed(skip=("embed",)),
        "the MLPs are missing": decomposed(skip=("0.mlp", "1.mlp")),
    },
)
def test_it_telescopes(residual_decomposition):
    """The components must add up to the stream, in every kind of model."""
    for kind, (model, names) in MODELS.items():
        cache = cache_of(model)
        labels, components = residual_decomposition(cache)
        expect(list(labels) == names, f"{kind}: the labels should be {names}, got {labels}")
        expect(
            len(labels) == len(components),
            f"{kind}: {len(labels)} labels for {len(components)} components",
        )
        stream = cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"]
        expect_close(
            components.sum(dim=0),
            stream,
            "batch pos d_model",
            f"{kind}: the components must add up to the stream",
        )


def misnamed(cache):
    labels, components = decomposed()(cache)
    return labels, components[[0, *range(3, 0, -1), *range(6, 3, -1)]]


@checks(
    "residual_decomposition",
    mistakes={"the components are not in the order of their labels": misnamed},
)
def test_each_component_has_the_right_name(residual_decomposition):
    """The long way: silence one head of the last layer, and what the stream loses is that head's
    component.
    """
    cache = cache_of(PLAIN)
    labels, components = residual_decomposition(cache)
    for head in range(3):

        def silence(z, hook, head=head):
            z[:, :, head] = 0
            return z

        seen = {}
        watch = (
            "blocks.1.hook_resid_post",
            lambda stream, hook, seen=seen: seen.update(stream=stream),
        )
        PLAIN.run_with_hooks(TOKENS, [("blocks.1.attn.hook_z", silence), watch])
        lost = cache["blocks.1.hook_resid_post"] - seen["stream"].detach()
        why = f"what the stream loses when head 1.{head} is silent"
        expect_close(components[labels.index(f"1.{head}")], lost, "batch pos d_model", why)


torch.manual_seed(2)
HEAD = [PLAIN.state_dict()[name][1, 2] for name in ("W_Q", "W_K", "W_V", "W_O")]
M = torch.eye(4).double() + 0.6 * torch.randn(4, 4).double()  # invertible, and far from a rotation


def rotated(for_k=lambda M: inv(M).T, for_o=inv, for_q_and_v=lambda M: M):
    """rotate_head, given by what multiplies each matrix; the defaults are right."""
    return lambda W_Q, W_K, W_V, W_O, M: (
        W_Q @ for_q_and_v(M),
        W_K @ for_k(M),
        W_V @ for_q_and_v(M),
        for_o(M) @ W_O,
    )


def nothing(M):
    return torch.eye(len(M)).to(M)


@checks(
    "rotate_head",
    mistakes={
        "W_K was multiplied by M as well: that is right only if M is a rotation": rotated(
            for_k=lambda M: M
        ),
        "W_K was multiplied by the inverse of M, not transposed: in q k^T the k stands transposed": rotated(
            for_k=inv
        ),
        "W_K was left as it is": rotated(for_k=nothing),
        "W_O was multiplied by M transposed: that is right only if M is a rotation": rotated(
            for_o=lambda M: M.T
        ),
        "this is right only if M is a rotation: in general M transposed does not undo M": rotated(
            lambda M: M, lambda M: M.T
        ),
        "W_O was multiplied by M, which does not undo it": rotated(for_o=lambda M: M),
        "W_O was left as it is, and now reads a z in another basis": rotated(for_o=nothing),
        "nothing was changed: W_Q must become W_Q M": rotated(nothing, nothing, nothing),
    },
)
def test_nobody_can_tell_from_outside(rotate_head):
    """Put the rotated head into a model: q changes, the logits do not."""
    rotated = rotate_head(*HEAD, M)
    model = small_model()
    with torch.no_grad():
        for name, weights in zip(("W_Q", "W_K", "W_V", "W_O"), rotated):
            model.get_parameter(name)[1, 2] = weights
    expect_close(rotated[0], HEAD[0] @ M, "d_model d_head", "W_Q becomes W_Q M")
    expect_close(rotated[2], HEAD[2] @ M, "d_model d_head", "W_V becomes W_V M")
    before, after = cache_of(PLAIN), cache_of(model)
    patterns = (cache["blocks.1.attn.hook_pattern"] for cache in (after, before))
    expect_close(*patterns, "batch head query key", "the attention pattern must stay the same")
    expect_close(
        model(TOKENS).detach(),
        PLAIN(TOKENS).detach(),
        "batch pos vocab",
        "the logits must stay the same",
    )


ANGLES = torch.tensor([0.0, 20.0, 45.0, 90.0]).double()
UNIT = torch.linalg.qr(torch.randn(10, 10).double())[0]  # ten orthonormal rows


def turned(angles, mix=True):
    """Two subspaces whose principal angles are known: direction i of the second is turned away from
    the first by angle i.
    """
    n, radians = len(angles), torch.deg2rad(angles)[:, None]
    A, B = UNIT[:n], radians.cos() * UNIT[:n] + radians.sin() * UNIT[n : 2 * n]
    return (torch.randn(n, n).double() @ A, torch.randn(n, n).double() @ B) if mix else (A, B)


A, B = turned(ANGLES)
# the same four dimensions in seven rows
SINGULAR = torch.cat([A, A[:2] - A[2:], torch.zeros(1, 10)])
PAIRS = {
    "angles of 0, 20, 45, 90 degrees, bases mixed": (A, B, ANGLES),
    "the rows as they come: angles of 30 and 60 degrees": (
        *turned(torch.tensor([30.0, 60.0]).double(), mix=False),
        (30, 60),
    ),
    "seven rows that span four dimensions": (SINGULAR, B, ANGLES),
    "a line inside a larger subspace": (A, A[:1] + 2 * A[1:2], (0,)),
    "a subspace with itself": (B, 3 * B.flip(0), (0, 0, 0, 0)),
    "float32 rows": (UNIT[:3].float(), UNIT[4:6].float(), (90, 90)),
}


def ranked(W, tolerance=1e-9):
    """Orthonormal rows, by eigenvectors of W^T W: independent of the reference's way."""
    values, vectors = torch.linalg.eigh(W.double().T @ W.double())
    return vectors.T[values > tolerance * values.max()] if tolerance else vectors.T[-min(W.shape) :]


def angles(P, Q, power=1, unit=torch.rad2deg):
    return unit(torch.arccos(svdvals(P @ Q.T).clamp(max=1) ** power))


def rows_as_they_are(A, B):
    A, B = (W.double() / W.double().norm(dim=1, keepdim=True).clamp(min=1e-9) for W in (A, B))
    return angles(A, B)


@checks(
    "principal_angles",
    mistakes={
        "the rows were used as they are; make them orthonormal first": rows_as_they_are,
        "these are radians, not degrees": lambda A, B: angles(
            ranked(A), ranked(B), unit=lambda x: x
        ),
        "these are the cosines, not the angles": lambda A, B: svdvals(ranked(A) @ ranked(B).T),
        "the order is descending; the smallest angle comes first": lambda A, B: angles(
            ranked(A), ranked(B)
        ).flip(0),
        "the cosines are the singular values, not their squares": lambda A, B: angles(
            ranked(A), ranked(B), power=2
        ),
        "zero rows, or mixtures of others, were counted as dimensions": lambda A, B: angles(
            ranked(A, 0), ranked(B, 0)
        ),
        "the subspaces are spanned by the rows, not by the columns": lambda A, B: angles(
            ranked(A[: len(B)].T), ranked(B[: len(A)].T)
        ),
    },
)
def test_known_angles(principal_angles):
    for name, (one, other, truth) in PAIRS.items():
        for first, second in ((one, other), (other, one)):  # it must not matter which comes first
            got, truth = principal_angles(first, second), torch.as_tensor(truth).double()
            expect(
                not got.isnan().any(),
                f"{name}: nan. Rounding lifted a cosine above 1; clamp before arccos",
            )
            expect_close(got, truth, "angle", f"{name} (degrees, in float64)", tolerance=1e-5)


def mean_cosine(A, B):
    return principal(A, B).mean().item()


def principal(A, B):
    return svdvals(ranked(A) @ ranked(B).T)


@checks(
    "subspace_overlap",
    mistakes={
        "that is the mean cosine; square the cosines first": mean_cosine,
        "degrees went into cos; .deg2rad() first": lambda A, B: (
            angles(ranked(A), ranked(B)).cos().square().mean().item()
        ),
        "the cosines were added up; take their mean": lambda A, B: (
            principal(A, B).square().sum().item()
        ),
        "only the smallest angle was used": lambda A, B: principal(A, B).square().max().item(),
        "divided by d_model; the mean runs over the principal angles": lambda A, B: (
            principal(A, B).square().sum().item() / A.shape[1]
        ),
        "divided by the larger dimension; what the smaller one loses counts": lambda A, B: (
            principal(A, B).square().sum().item() / max(len(ranked(A)), len(ranked(B)))
        ),
        "that is the cosine of the mean angle": lambda A, B: math.cos(
            angles(ranked(A), ranked(B)).mean().deg2rad()
        ),
    },
)
def test_share_that_a_vector_keeps(subspace_overlap):
    """The definition by brute force: project many random vectors of the smaller subspace onto the
    larger one.
    """
    generator = torch.Generator().manual_seed(1)
    for name, (one, other, truth) in PAIRS.items():
        truth = torch.as_tensor(truth).double().deg2rad().cos().square().mean()
        expect_close(
            subspace_overlap(one, other), truth, "", f"{name}: mean of cos^2", tolerance=1e-6
        )
    small, large = (ranked(W) for W in (A[:2], B))
    drawn = torch.randn(20_000, len(small), generator=generator).double() @ small
    kept = (drawn @ large.T @ large).square().sum() / drawn.square().sum()
    expect_close(
        subspace_overlap(large, small),
        kept,
        "",
        "the share of squared length that a projection keeps",
        0.02,
    )


@checks(
    "subspace_overlap", mistakes={"that is the mean cosine; square the cosines first": mean_cosine}
)
def test_planted_and_random_subspaces(subspace_overlap):
    """The built induction model has orthogonal subspaces; random ones overlap by their dimension /
    d_model.
    """
    model, space = induction_model(), induction_spaces(20, 40)
    # 40 rows, of which 20 are zero
    reads, writes = model.W_V[0, 0].detach().T, model.W_O[0, 0].detach()
    expect_close(
        subspace_overlap(reads, writes), 0.0, "", "planted: head 0.0 writes elsewhere than it reads"
    )
    expect_close(
        subspace_overlap(writes, model.W_K[1, 0].detach().T),
        1.0,
        "",
        "planted: 1.0 has its keys from there",
    )
    expect_close(
        subspace_overlap(space.token.T, model.W_E.detach()[1:]),
        1.0,
        "",
        "planted: tokens fill `token`",
    )
    drawn = [
        torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(20)
    ]
    mean = sum(subspace_overlap(*pair) for pair in drawn) / len(drawn)
    expect(
        abs(mean - 0.25) < 0.02,
        f"random, 16 of 64 dimensions: expected about 16/64 = .25 on average, got {mean:.3f}",
    )


def interference_by_loops(
    features, different=True, unit=True, squared=True, root=True, sizes=False
):
    """The definition, one pair at a time, or one thing changed."""
    total, count = 0.0, 0
    for i, a in enumerate(features):
        for j, b in enumerate(features):
            if i != j or not different:
                cosine = float(a @ b) / (float(a.norm() * b.norm()) if unit else 1.0)
                total, count = (
                    total + (cosine**2 if squared else abs(cosine) if sizes else cosine),
                    count + 1,
                )
    return math.sqrt(total / count) if squared and root else total / count


@checks(
    "interference",
    mistakes={
        "each row was also compared with itself": lambda features: interference_by_loops(
            features, different=False
        ),
        "the rows were not brought to length 1": lambda features: interference_by_loops(
            features, unit=False
        ),
        "cosines of opposite sign cancelled; square them before the mean": lambda f: (
            interference_by_loops(f, squared=False)
        ),
        "the zeros on the diagonal were averaged in: there are n (n - 1) cosines, not n^2": lambda features: (
            interference_by_loops(features) * math.sqrt(1 - 1 / len(features))
        ),
        "sizes were averaged; square, mean, root": lambda rows: interference_by_loops(
            rows, squared=False, sizes=True
        ),
        "the columns were brought to length 1, not the rows": lambda features: (
            interference_by_loops(features / features.norm(dim=0), unit=False)
        ),
        "the square root is missing": lambda features: interference_by_loops(features, root=False),
        "columns were compared; the features are the rows": lambda features: interference_by_loops(
            features.T
        ),
    },
)
def test_interference_is_its_definition(interference):
    features = 2 * torch.randn(7, 5).double()
    expect_close(
        interference(features), interference_by_loops(features), "", "the root mean square cosine"
    )
    expect_close(interference(3 * UNIT[:4]), 0.0, "", "orthogonal rows do not interfere")
    expect_close(interference(UNIT[[0, 0, 0]]), 1.0, "", "three times the same row")
    # a regular tetrahedron: every two corners have the cosine -1/3
    corners = torch.eye(4).double() - 0.25
    expect_close(
        interference(corners), 1 / 3, "", "the four corners of a tetrahedron in three dimensions"
    )
