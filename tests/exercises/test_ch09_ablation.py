"""Checks of chapter 9. The oracles: really zeroing W_O, a forward pass in loops, planted models
with exact losses.
"""

import math

import torch

from minitransformer import planted
from minitransformer.data import Repeats, repeated_tokens
from tests.exercises.cases import heads_of, in_case
from tests.exercises.checking import checks, expect_close
from tests.exercises.oracles import ch09 as slow
from tests.exercises.oracles import ch09_group_mistakes as group_mistakes
from tests.exercises.oracles import ch09_mistakes as mistakes
from tests.exercises.oracles import ch09_path_mistakes as path_mistakes
from tests.exercises.oracles import ch09_pattern_mistakes as pattern_mistakes
from tests.material import seeded, small_model

AXES, LOGITS, PATTERN = "batch pos head d_head", "batch pos vocab", "batch query key"
Z, REFERENCE = torch.randn(2, 5, 7, 11, 3, generator=seeded(9)).double()  # batch pos head d_head
DONORS = torch.tensor([3, 0, 4, 2, 1])  # neither its own inverse nor a roll
DEEP = small_model(seed=5, n_layers=3, n_heads=5, d_head=2, d_vocab=14, n_ctx=12)
SMALL = small_model(seed=4, d_vocab=14, n_ctx=12)
STANDARD = small_model(d_vocab=14, n_ctx=12, positional_embedding_type="standard")
REPEATS = repeated_tokens(6, 12, 14, (2, 5), seeded(1))
TOKENS = REPEATS.tokens
PLANTED = repeated_tokens(8, 16, 20, (3, 6), seeded(2))


def by_position(*rows):
    """Rows of numbers, one row per sequence, as activations of one head: [batch, pos, 1, 1]."""
    return torch.tensor(rows)[:, :, None, None]


def expect_replaced(builder, values, why, *rest, activation=Z):
    """Heads 0 and 2 of eleven must have become `values`, all others must be untouched."""
    truth = activation.clone()
    for head in (0, 2):
        truth[:, :, head] = values.expand_as(activation)[:, :, head]
    expect_close(slow.apply(builder, activation, [0, 2], *rest), truth, AXES, why)


@checks("zero_ablate", mistakes.ZERO)
def test_zero_is_zero_for_these_heads_only(zero_ablate):
    expect_replaced(zero_ablate, torch.zeros(1).double(), "0 for heads 0 and 2, the rest as it was")
    got = slow.apply(zero_ablate, torch.ones(2, 3, 2, 2), [1]).sum(dim=(0, 1, 3))
    expect_close(got, torch.tensor([12.0, 0]), "head", "head 1 zeroed")


@checks("zero_ablate", mistakes.ALL_ZERO)
def test_zero_is_what_zeroing_W_O_does(zero_ablate):
    name = "blocks.0.attn.hook_z"
    z = SMALL.run_with_cache(TOKENS)[1][name]
    for head in (0, 2):
        slow.apply(zero_ablate, z, [head])
        got = SMALL.run_with_hooks(TOKENS, [(name, zero_ablate.function([head]))]).detach()
        truth = slow.silenced(SMALL, [(0, head)])(TOKENS).detach()
        expect_close(got, truth, LOGITS, f"W_O of 0.{head} set to 0")


@checks("mean_ablate", mistakes.MEAN)
def test_mean_is_one_vector_per_head(mean_ablate):
    truth = sum([REFERENCE[b, p] for b in range(5) for p in range(7)]) / 35  # head d_head
    why = "the mean over 5 sequences and 7 positions, by loops"
    expect_replaced(mean_ablate, truth[None, None], why, REFERENCE)
    reference = by_position([1.0, 2.0], [3.0, 6.0])
    got = slow.apply(mean_ablate, torch.zeros(2, 2, 1, 1), [0], reference)
    expect_close(got, by_position([3.0, 3.0], [3.0, 3.0]), AXES, "the mean of 1, 2, 3 and 6")


@checks("mean_ablate", mistakes.BECAME_ZERO)
def test_mean_of_what_is_constant_changes_nothing(mean_ablate):
    constant = torch.randn(1, 1, 11, 3, generator=seeded(3)).double().expand(5, 7, 11, 3)
    why = "all sequences and positions alike: nothing changes"
    expect_replaced(mean_ablate, constant, why, constant, activation=constant)
    longer = constant[:1].repeat(8, 1, 1, 1)
    expect_replaced(mean_ablate, constant, "a reference with more sequences", longer)


@checks("mean_per_position_ablate", mistakes.MEAN_PER_POSITION)
def test_mean_per_position_is_one_vector_per_head_and_position(mean_per_position_ablate):
    truth = sum([REFERENCE[b] for b in range(5)]) / 5  # pos head d_head
    why = "the mean over 5 sequences, by a loop"
    expect_replaced(mean_per_position_ablate, truth[None], why, REFERENCE)
    reference = by_position([1.0, 2.0], [3.0, 6.0])
    got = slow.apply(mean_per_position_ablate, torch.zeros(2, 2, 1, 1), [0], reference)
    expect_close(got, by_position([2.0, 4.0], [2.0, 4.0]), AXES, "means of 1, 3 and of 2, 6")


@checks("mean_per_position_ablate", mistakes.POSITIONS_TOO)
def test_mean_per_position_of_equal_sequences_changes_nothing(mean_per_position_ablate):
    equal = torch.randn(1, 7, 11, 3, generator=seeded(4)).double().expand(5, 7, 11, 3)
    why = "all sequences alike, positions not: nothing changes"
    expect_replaced(mean_per_position_ablate, equal, why, equal, activation=equal)


@checks("resample_ablate", mistakes.RESAMPLE)
def test_resample_takes_the_rows_of_the_donors(resample_ablate):
    truth = torch.stack([REFERENCE[int(donor)] for donor in DONORS])
    why = "row donors[b] of the reference for sequence b"
    expect_replaced(resample_ablate, truth, why, REFERENCE, DONORS)


@checks("resample_ablate", mistakes.ALIKE_IF_ALL)
def test_resample_takes_a_row_twice_and_leaves_others(resample_ablate):
    reference = by_position([1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0])
    case, zeros = "three sequences get rows 3, 1 and 3 of four", torch.zeros(3, 2, 1, 1)
    donors = torch.tensor([3, 1, 3])
    got = in_case(case, slow.apply, resample_ablate, zeros, [0], reference, donors)
    expect_close(got, by_position([7.0, 8.0], [3.0, 4.0], [7.0, 8.0]), AXES, case)


@checks("resample_ablate", mistakes.SHUFFLED)
def test_resample_with_itself_changes_nothing(resample_ablate):
    why = "every sequence is its own donor: nothing changes"
    expect_replaced(resample_ablate, Z, why, Z, torch.arange(5))
    equal = Z[:1].expand(5, -1, -1, -1)
    why = "all sequences alike: nothing changes"
    expect_replaced(resample_ablate, equal, why, equal, DONORS, activation=equal)


# Groups of heads

GROUP = [(0, 2), (1, 0), (1, 1)]
COSTLY, HARMFUL = [(0, 2), (1, 3)], [(0, 4), (1, 0), (2, 1)]  # better and worse off with them


@checks("joint_ablation", group_mistakes.JOINT)
def test_joint_is_the_loss_of_a_model_without_these_heads(joint_ablation):
    for heads in (COSTLY, HARMFUL):
        got, truth = joint_ablation(DEEP, REPEATS, heads), slow.cost(DEEP, REPEATS, heads)
        expect_close(got, truth, "", f"{heads} with W_O set to 0")


@checks("joint_ablation", group_mistakes.OF_A_KIND)
def test_joint_of_every_kind(joint_ablation):
    """The long way: what the heads of an undisturbed run write is put in their place."""
    for kind in ("mean", "mean per position", "resample"):
        truth = slow.cost(DEEP, REPEATS, HARMFUL, kind)
        expect_close(joint_ablation(DEEP, REPEATS, HARMFUL, kind), truth, "", f'kind "{kind}"')
    same = Repeats(TOKENS[:1].expand(4, -1), REPEATS.predictable[:1].expand(4, -1), None, None)
    for kind in ("mean per position", "resample"):
        got = joint_ablation(SMALL, same, GROUP, kind)
        expect_close(got, 0.0, "", f'"{kind}", all sequences alike')


@checks("joint_ablation")
def test_joint_of_planted_heads(joint_ablation):
    """Two equal induction heads: .0009 without one, 3.0 without both. A negative head: the model is
    better off without.
    """
    twins = planted.duplicated_heads_model(2).double()
    for gone in (0, 1, 2):
        got = joint_ablation(twins, PLANTED, [(1, head) for head in range(gone)])
        truth = slow.exact_loss(10.0 * (2 - gone)) - slow.exact_loss(20.0)
        why = f"{gone} of two equal induction heads, each enough by itself"
        expect_close(got, truth, "", why, tolerance=1e-8)
    model = planted.negative_head_model(s=4.0, negative=2.0).double()
    got = joint_ablation(model, PLANTED, [(1, 1)])
    truth = slow.exact_loss(4.0) - slow.exact_loss(2.0)
    expect_close(got, truth, "", "a head against the answer")


@checks("ablation_table", group_mistakes.TABLE)
def test_table_is_every_head_alone(ablation_table):
    for kind in ("zero", "mean"):
        got = in_case(heads_of(DEEP), ablation_table, DEEP, REPEATS, kind)
        truth = slow.single(DEEP, REPEATS, kind)
        why = f'each head alone, "{kind}", the long way'
        expect_close(got, truth, "layer head", why, tolerance=1e-5)


@checks("ablation_table", group_mistakes.TRANSPOSED)
def test_table_of_planted_heads(ablation_table):
    """No induction head of two seems to matter, the previous-token head does."""
    got = ablation_table(planted.duplicated_heads_model(2).double(), PLANTED)
    clean, without_one = slow.exact_loss(20.0), slow.exact_loss(10.0)
    truth = torch.tensor([[math.log(20) - clean, 0], [without_one - clean, without_one - clean]])
    expect_close(got.float(), truth, "layer head", "two equal induction heads", tolerance=1e-5)


# What goes through patterns


@checks("pattern_preserving_ablation", pattern_mistakes.PRESERVING)
def test_patterns_stay_and_values_go(pattern_preserving_ablation):
    for heads in ([(0, 1), (0, 2)], [(0, 4), (1, 1)]):
        got = in_case(heads_of(DEEP), pattern_preserving_ablation, DEEP, TOKENS, heads)
        why = f"three layers, {heads} silent, clean patterns, by loops"
        expect_close(got, slow.by_hand(DEEP, TOKENS, heads), LOGITS, why)


@checks("pattern_preserving_ablation", pattern_mistakes.NOT_KEPT)
def test_the_planted_previous_token_head_works_through_patterns_only(pattern_preserving_ablation):
    model = planted.induction_model()
    got = pattern_preserving_ablation(model, PLANTED.tokens, [(0, 0)])
    why = "hand-built induction, 0.0 silent, patterns kept: nothing is lost"
    expect_close(got, model(PLANTED.tokens).detach(), LOGITS, why)


@checks("targeted_ablation", pattern_mistakes.TARGETED)
def test_target_sees_the_stream_without_the_sources(targeted_ablation):
    """Sources in two layers; a head of layer 1 that reads them must not pass their loss on."""
    for side, sources in (("k", [(1, 3), (0, 4)]), ("q", [(0, 1), (1, 0), (1, 4)])):
        got = targeted_ablation(DEEP, TOKENS, sources, (2, 1), side)
        truth = slow.pattern_without(DEEP, TOKENS, sources, (2, 1), side)
        why = f"{sources} out of {side} of 2.1: {side} of a stream without what they wrote, "
        expect_close(got, truth, PATTERN, why + "the rest of a clean run")


@checks("targeted_ablation", pattern_mistakes.ALWAYS_QUERIES)
def test_planted_induction_needs_its_keys(targeted_ablation):
    """Without "the token before me" in its keys, the hand-built head rests on BOS. Its queries need
    nothing.
    """
    model = planted.induction_model()
    keys = targeted_ablation(model, PLANTED.tokens, [(0, 0)], (1, 0))[:, :, 0]
    why = "0.0 out of the keys of 1.0: attention 1 on BOS everywhere"
    expect_close(keys, torch.ones(8, 16), "batch query", why)
    queries = targeted_ablation(model, PLANTED.tokens, [(0, 0)], (1, 0), "q")
    clean = slow.pattern_without(model, PLANTED.tokens, [(0, 0)], (1, 0), "")
    expect_close(queries, clean, PATTERN, "0.0 out of the queries of 1.0: nothing changes")


@checks("targeted_ablation")
def test_target_with_positions_in_the_stream(targeted_ablation):
    got = targeted_ablation(STANDARD, TOKENS, [(0, 1)], (1, 0))
    truth = slow.pattern_without(STANDARD, TOKENS, [(0, 1)], (1, 0))
    why = "positions in the stream: they must stay in the keys"
    expect_close(got, truth, PATTERN, why)


# Nothing left but the paths of a story


@checks("strict_path_model", path_mistakes.STRICT | path_mistakes.UNDISTURBED)
def test_layer_1_sees_the_named_parts_only(strict_path_model):
    stories = [
        (["embed", "positions"], ["0.0", "0.2"], ["embed", "0.1"]),
        (["0.1", "embed"], ["0.2", "positions", "embed"], ["0.2", "0.0", "0.1"]),
        (["embed", "0.2"], ["0.1"], ["embed", "0.0"]),
    ]
    for model in (SMALL, STANDARD):
        for story in stories:
            why = f"queries see {story[0]}, keys {story[1]}, values {story[2]}, by loops"
            got = in_case(heads_of(model), strict_path_model, model, TOKENS, *story)
            expect_close(got, slow.strict(model, TOKENS, *story), LOGITS, why)


@checks("strict_path_model", path_mistakes.MEANS_ALL)
def test_all_parts_are_the_model(strict_path_model):
    """Where everything sees everything, only the direct path and layer 0's own are missing."""
    heads = ["0.0", "0.1", "0.2"]
    for model, values in ((SMALL, ["embed"]), (STANDARD, ["embed", "positions"])):
        seen = ["embed", "positions", *heads]
        logits, cache = model.run_with_cache(TOKENS)
        truth = (logits - cache["blocks.1.hook_resid_pre"] @ model.W_U).detach()
        got = strict_path_model(model, TOKENS, seen, seen, values + heads)
        expect_close(got, truth, LOGITS, "all parts: the logits, less the stream before layer 1")
    case = "an empty list is a stream of zeros"
    nothing = in_case(case, strict_path_model, SMALL, TOKENS, ["embed"], ["0.0"], [])
    expect_close(nothing, torch.zeros(6, 12, 14).double(), LOGITS, "no values: nothing is written")
    even = in_case(case, strict_path_model, SMALL, TOKENS, [], ["0.0"], ["embed"])
    truth = slow.strict(SMALL, TOKENS, [], ["0.0"], ["embed"])
    expect_close(even, truth, LOGITS, "no queries: all scores 0, attention spread evenly")


@checks("strict_path_model", path_mistakes.LEFT_OUT)
def test_the_planted_story_is_all_of_the_planted_model(strict_path_model):
    model, known = planted.induction_model(), PLANTED.predictable
    story = (["embed"], ["0.0"], ["embed"])
    got, truth = strict_path_model(model, PLANTED.tokens, *story), model(PLANTED.tokens).detach()
    why = "hand-built induction, where the next token is known: its own story says everything"
    expect_close(got[known], truth[known], "token vocab", why)
    blind = strict_path_model(model, PLANTED.tokens, ["embed"], ["embed"], ["embed"])
    right = PLANTED.tokens.roll(-1, dims=1)[..., None]
    known = known & (torch.arange(16) < 15)
    hits = (blind.gather(-1, right)[..., 0] > 5)[known].double().mean()
    expect_close(hits, torch.tensor(0.0).double(), "", "keys that see the embedding find nothing")
