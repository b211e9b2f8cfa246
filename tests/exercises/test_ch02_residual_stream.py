"""Checks of chapter 2. The oracles: the stream itself, planes turned by known angles, and unchanged
scores and outputs.
"""

import torch

from minitransformer.planted import induction_model, induction_spaces
from tests.exercises.cases import expect_error, in_case
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch02 as oracle
from tests.exercises.oracles import ch02_angles as angles
from tests.exercises.oracles import ch02_interference as pairs
from tests.exercises.oracles.ch02 import HEAD, PLAIN, TOKENS, M, cache_of
from tests.exercises.oracles.ch02_angles import ANGLES, PAIRS, UNIT, A, B, ranked
from tests.material import seeded, small_model


@checks("residual_decomposition", mistakes=oracle.DECOMPOSITION_MISTAKES)
def test_it_telescopes(residual_decomposition):
    """The components must be what was added, and so add up to the stream, in every kind of
    model.
    """
    for kind, (model, names) in oracle.MODELS.items():
        cache = cache_of(model)
        labels, components = in_case(kind, residual_decomposition, cache)
        stacked = isinstance(components, torch.Tensor)
        kept = f"expected one tensor of components, got {type(components).__name__}"
        expect(stacked, f"{kind}: {kept}: torch.stack")
        expect_labels(list(labels), names, kind)
        shape, wanted = list(components.shape), [len(names), *cache["hook_embed"].shape]
        axes = f"[component, batch, pos, d_model] = {wanted}, got {shape}"
        expect(shape == wanted, f"{kind}: expected the shape {axes}")
        for label, found in zip(labels, components):
            truth = oracle.component(cache, label)
            expect_close(found, truth, "batch pos d_model", f'{kind}: the component "{label}"')
        stream = cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"]
        why = f"{kind}: the components must add up to the stream"
        expect_close(components.sum(dim=0), stream, "batch pos d_model", why)


def expect_labels(got, names, kind):
    missing = [label for label in names if label not in got]
    extra = [label for label in got if label not in names]
    wrong = f"missing {missing or 'none'}, too many {extra or 'none'}"
    expect(not missing and not extra, f"{kind}: the labels are wrong: {wrong}, of {names}")
    expect(got == names, f"{kind}: the order of the labels should be {names}, got {got}")


@checks("residual_decomposition")
def test_each_component_has_the_right_name(residual_decomposition):
    """The long way: silence one head of the last layer, and what the stream loses is that head's
    component.
    """
    cache = cache_of(PLAIN)
    labels, components = residual_decomposition(cache)
    for head in range(3):
        seen = {}

        def silence(z, hook, head=head):
            z[:, :, head] = 0
            return z

        def watch(stream, hook, seen=seen):
            seen["stream"] = stream

        hooks = [("blocks.1.attn.hook_z", silence), ("blocks.1.hook_resid_post", watch)]
        PLAIN.run_with_hooks(TOKENS, hooks)
        lost = cache["blocks.1.hook_resid_post"] - seen["stream"].detach()
        why = f"what the stream loses when head 1.{head} is silent"
        expect_close(components[labels.index(f"1.{head}")], lost, "batch pos d_model", why)


@checks("rotate_head", mistakes=oracle.ROTATION_MISTAKES)
def test_nobody_can_tell_from_outside(rotate_head):
    """Put the rotated head into a model: q changes, the logits do not."""
    rotated = rotate_head(*HEAD, M)
    for name, got, before in zip(("W_Q", "W_K", "W_V", "W_O"), rotated, HEAD):
        shape = f"{name} must keep its shape {list(before.shape)}, got {list(got.shape)}"
        expect(got.shape == before.shape, f"{shape}; return W_Q, W_K, W_V, W_O in this order")
    model = small_model()
    with torch.no_grad():
        for name, weights in zip(("W_Q", "W_K", "W_V", "W_O"), rotated):
            model.get_parameter(name)[1, 2] = weights
    expect_close(rotated[0], HEAD[0] @ M, "d_model d_head", "W_Q becomes W_Q M")
    expect_close(rotated[2], HEAD[2] @ M, "d_model d_head", "W_V becomes W_V M")
    before = cache_of(PLAIN)["blocks.1.attn.hook_pattern"]
    after = cache_of(model)["blocks.1.attn.hook_pattern"]
    expect_close(after, before, "batch head query key", "the attention pattern must stay the same")
    before, after = PLAIN(TOKENS).detach(), model(TOKENS).detach()
    expect_close(after, before, "batch pos vocab", "the logits must stay the same")


@checks("rotate_head", mistakes={"nothing refuses an M without inverse": oracle.pseudo_rotated})
def test_a_matrix_without_inverse_is_refused(rotate_head):
    LinAlgError = torch.linalg.LinAlgError
    expect_error(rotate_head, (*HEAD, 0 * M), LinAlgError, "M is all 0 and has no inverse")


@checks("principal_angles", mistakes=angles.ANGLE_MISTAKES)
def test_known_angles(principal_angles):
    for name, (one, other, truth) in PAIRS.items():
        truth = torch.as_tensor(truth).double()
        for first, second in ((one, other), (other, one)):  # it must not matter which comes first
            got = in_case(name, principal_angles, first, second)
            why = f"{name}: nan. Rounding lifted a cosine above 1; clamp before arccos"
            expect(not got.isnan().any(), why)
            exact = f"{name}: expected float64, got {got.dtype}: rounding hides small angles"
            expect(got.dtype == torch.float64, exact)
            expect_close(got, truth, "angle", f"{name} (degrees)", tolerance=1e-5)


@checks("principal_angles")
def test_rows_of_zeros_add_nothing(principal_angles):
    none = torch.zeros(2, A.shape[1]).double()
    got = in_case("two rows of zeros", principal_angles, torch.cat([none, A]), B)
    expect_close(got, ANGLES, "angle", "two rows of zeros more (degrees)", tolerance=1e-5)


@checks("subspace_overlap", mistakes=angles.OVERLAP_MISTAKES)
def test_share_that_a_vector_keeps(subspace_overlap):
    """The definition by brute force: project many random vectors of the smaller subspace onto the
    larger one.
    """
    for name, (one, other, degrees) in PAIRS.items():
        truth = torch.as_tensor(degrees).double().deg2rad().cos().square().mean()
        expect_close(subspace_overlap(one, other), truth, "", f"{name}: mean of cos^2")
    small, large = ranked(A[:2]), ranked(B)
    drawn = torch.randn(20_000, len(small), generator=seeded(1)).double() @ small
    kept = (drawn @ large.T @ large).square().sum() / drawn.square().sum()
    why = "the share of squared length that a projection keeps"
    expect_close(subspace_overlap(large, small), kept, "", why, tolerance=0.02)


@checks("subspace_overlap", mistakes=angles.MEAN_COSINE)
def test_planted_and_random_subspaces(subspace_overlap):
    """The built induction model has orthogonal subspaces; random ones overlap by their dimension /
    d_model.
    """
    model, space = induction_model(), induction_spaces(20, 40)
    reads = model.W_V[0, 0].detach().T  # 40 rows, of which 20 are zero
    writes, keys = model.W_O[0, 0].detach(), model.W_K[1, 0].detach().T
    tokens = model.W_E.detach()[1:]
    why = "planted: head 0.0 writes elsewhere than it reads"
    expect_close(subspace_overlap(reads, writes), 0.0, "", why)
    expect_close(subspace_overlap(writes, keys), 1.0, "", "planted: 1.0 has its keys from there")
    why = "planted: tokens fill `token`"
    expect_close(subspace_overlap(space.token.T, tokens), 1.0, "", why)
    pairs = [torch.randn(2, 16, 64, generator=seeded(seed)) for seed in range(20)]
    mean = sum(subspace_overlap(one, other) for one, other in pairs) / len(pairs)
    why = f"random, 16 of 64 dimensions: expected about 16/64 = .25 on average, got {mean:.3f}"
    expect(abs(mean - 0.25) < 0.02, why)


@checks("interference", mistakes=pairs.INTERFERENCE_MISTAKES)
def test_interference_is_its_definition(interference):
    truth = pairs.root_mean_square(pairs.over_pairs(pairs.FEATURES))
    expect_close(interference(pairs.FEATURES), truth, "", "the root mean square cosine")
    expect_close(interference(3 * UNIT[:4]), 0.0, "", "orthogonal rows do not interfere")
    expect_close(interference(UNIT[[0, 0, 0]]), 1.0, "", "three times the same row")
    corners = torch.eye(4).double() - 0.25  # of a tetrahedron: every two have the cosine -1/3
    why = "the four corners of a tetrahedron in three dimensions"
    expect_close(interference(corners), 1 / 3, "", why)
