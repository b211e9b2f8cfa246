"""Checks of chapter 9. The oracles: really zeroing W_O, a forward pass in loops, planted models
with exact losses.
"""

import math
from copy import deepcopy
from functools import partial

import torch

from minitransformer import ModelConfig, Transformer, planted
from minitransformer.data import Repeats, repeated_tokens
from tests.exercises.checking import checks, expect_close
from tests.exercises.oracles import ch09 as slow

torch.manual_seed(9)
AXES = "batch pos head d_head"
Z, REFERENCE = torch.randn(2, 4, 5, 3, 2).double()  # each batch pos head d_head
DONORS = torch.tensor([2, 0, 3, 1])  # not its own inverse


def expect_replaced(builder, values, why, *rest, activation=Z):
    """Heads 0 and 2 of three must have become `values`, head 1 must be untouched."""
    truth = activation.clone()
    for head in (0, 2):
        truth[:, :, head] = values.expand_as(activation)[:, :, head]
    expect_close(slow.apply(builder, activation, [0, 2], *rest), truth, AXES, why)


@checks(
    "zero_ablate",
    mistakes={
        "positions were zeroed; the heads are the third axis": slow.at(slice(None)),
        "sequences were zeroed; the heads are the third axis": slow.at(),
        "entries within every head (d_head) were zeroed; the heads are the third axis": slow.at(
            ...
        ),
        "all the other heads were zeroed": slow.hook(slow.others_zero),
        "all heads were zeroed": slow.hook(lambda new, heads: new.zero_()),
        "the activation was edited in place; work on a copy: activation.clone()": slow.in_place,
        "the activation was edited in place and nothing returned; return a new one": partial(
            slow.in_place, returned=False
        ),
    },
)
def test_zero_is_zero_for_these_heads_only(zero_ablate):
    expect_replaced(zero_ablate, torch.zeros(1).double(), "0 for heads 0 and 2, the rest as it was")
    two = torch.ones(2, 3, 2, 2)
    expect_close(
        slow.apply(zero_ablate, two, [1]).sum(dim=(0, 1, 3)),
        torch.tensor([12.0, 0]),
        "head",
        "head 1 zeroed",
    )


@checks(
    "zero_ablate", mistakes={"all heads were zeroed": slow.hook(lambda new, heads: new.zero_())}
)
def test_zero_is_what_zeroing_W_O_does(zero_ablate):
    for head in (0, 2):
        name = "blocks.0.attn.hook_z"
        slow.apply(zero_ablate, SMALL.run_with_cache(TOKENS)[1][name], [head])
        got = SMALL.run_with_hooks(TOKENS, [(name, zero_ablate.function([head]))]).detach()
        expect_close(
            got,
            slow.silenced(SMALL, [(0, head)])(TOKENS).detach(),
            "batch pos vocab",
            f"W_O of 0.{head} set to 0",
        )


OWN_MEAN = "the mean of the activation at hand was taken; take that of `reference`"


@checks(
    "mean_ablate",
    mistakes={
        "the mean went over the sequences only; over the positions too": slow.to(
            lambda x, z: x.mean(0, keepdim=True)
        ),
        "the mean went over the positions only; over the sequences too": slow.to(
            lambda x, z: x.mean(1, keepdim=True)
        ),
        "the mean went over the heads too; each has its own": slow.to(
            lambda x, z: x.mean((0, 1, 2), keepdim=True)
        ),
        "the mean went over d_head too; it is a vector": slow.to(
            lambda x, z: x.mean((0, 1, 3), keepdim=True)
        ),
        "the median was taken, not the mean": slow.to(
            lambda x, z: x.flatten(0, 1).median(0).values[None, None]
        ),
        OWN_MEAN: slow.to(lambda x, z: z.mean((0, 1), keepdim=True)),
        "the mean was subtracted; the heads must become the mean": slow.to(
            lambda x, z: z - x.mean((0, 1), keepdim=True)
        ),
    },
)
def test_mean_is_one_vector_per_head(mean_ablate):
    truth = sum(REFERENCE[b, p] for b in range(4) for p in range(5)) / 20  # head d_head
    expect_replaced(
        mean_ablate,
        truth[None, None],
        "the mean over 4 sequences and 5 positions, by loops",
        REFERENCE,
    )
    hand = torch.tensor([[1.0, 2.0], [3.0, 6.0]])[:, :, None, None]  # batch pos head d_head
    got = slow.apply(mean_ablate, torch.zeros(2, 2, 1, 1), [0], hand)
    expect_close(got, torch.full((2, 2, 1, 1), 3.0), AXES, "the mean of 1, 2, 3 and 6")


@checks(
    "mean_ablate",
    mistakes={
        "these heads became 0": slow.hook(lambda new, heads, *_: new[:, :, heads].zero_() or None)
    },
)
def test_mean_of_what_is_constant_changes_nothing(mean_ablate):
    constant = torch.randn(1, 1, 3, 2).double().expand(4, 5, 3, 2)
    expect_replaced(
        mean_ablate,
        constant,
        "all sequences and positions alike: nothing changes",
        constant,
        activation=constant,
    )
    expect_replaced(
        mean_ablate, constant, "a reference with more sequences", constant[:1].repeat(7, 1, 1, 1)
    )


@checks(
    "mean_per_position_ablate",
    mistakes={
        "the mean went over the positions as well": slow.to(
            lambda x, z: x.mean((0, 1), keepdim=True)
        ),
        "the mean went over the positions; it must go over the sequences": (
            slow.to(lambda x, z: x.mean(1, keepdim=True))
        ),
        "the mean went over the heads too; each has its own": slow.to(
            lambda x, z: x.mean((0, 2), keepdim=True)
        ),
        OWN_MEAN: slow.to(lambda x, z: z.mean(0, keepdim=True)),
        "only the first sequence of the reference was taken": slow.to(lambda x, z: x[:1]),
    },
)
def test_mean_per_position_is_one_vector_per_head_and_position(mean_per_position_ablate):
    truth = sum(REFERENCE[b] for b in range(4)) / 4  # pos head d_head
    expect_replaced(
        mean_per_position_ablate, truth[None], "the mean over 4 sequences, by a loop", REFERENCE
    )
    hand = torch.tensor([[1.0, 2.0], [3.0, 6.0]])[:, :, None, None]
    got = slow.apply(mean_per_position_ablate, torch.zeros(2, 2, 1, 1), [0], hand)
    expect_close(
        got,
        torch.tensor([2.0, 4.0])[None, :, None, None].expand(2, -1, 1, 1),
        AXES,
        "means of 1, 3 and of 2, 6",
    )


@checks(
    "mean_per_position_ablate",
    mistakes={"the mean went over the positions too": slow.to(lambda x, z: x.mean((0, 1)))},
)
def test_mean_per_position_of_equal_sequences_changes_nothing(mean_per_position_ablate):
    equal = torch.randn(1, 5, 3, 2).double().expand(4, 5, 3, 2)
    why = "all sequences alike, positions not: nothing changes"
    expect_replaced(mean_per_position_ablate, equal, why, equal, activation=equal)


@checks(
    "resample_ablate",
    mistakes={
        "the donors were used the wrong way round: sequence b gets row donors[b]": slow.to(
            lambda x, z, d: x[d.argsort()]
        ),
        "the activation at hand was reordered; the donors are rows of `reference`": slow.to(
            lambda x, z, d: z[d]
        ),
        "positions were shuffled; each gets what was written at the same one": slow.to(
            lambda x, z, d: x[d].roll(1, 1)
        ),
        "the donors were ignored": slow.to(lambda x, z, d: x),
        "the mean of the donors was taken": slow.to(lambda x, z, d: x[d].mean(0, keepdim=True)),
        "all heads were replaced": slow.hook(lambda new, heads, x, d: new.copy_(x[d])),
    },
)
def test_resample_takes_the_rows_of_the_donors(resample_ablate):
    truth = torch.stack([REFERENCE[int(donor)] for donor in DONORS])
    expect_replaced(
        resample_ablate, truth, "row donors[b] of the reference for sequence b", REFERENCE, DONORS
    )
    hand = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])[:, :, None, None]
    got = slow.apply(resample_ablate, torch.zeros(2, 2, 1, 1), [0], hand, torch.tensor([2, 2]))
    truth = torch.tensor([[5.0, 6.0], [5.0, 6.0]])[:, :, None, None]
    expect_close(got, truth, AXES, "both sequences get row 2 of three")


@checks(
    "resample_ablate", mistakes={"positions were shuffled": slow.to(lambda x, z, d: x[d].flip(1))}
)
def test_resample_with_itself_changes_nothing(resample_ablate):
    expect_replaced(
        resample_ablate, Z, "every sequence is its own donor: nothing changes", Z, torch.arange(4)
    )
    equal = Z[:1].expand(4, -1, -1, -1)
    expect_replaced(
        resample_ablate,
        equal,
        "all sequences alike: nothing changes",
        equal,
        DONORS,
        activation=equal,
    )


# Groups of heads

SMALL = Transformer(
    ModelConfig(n_heads=3, d_model=8, d_head=4, d_vocab=14, n_ctx=12), seed=4
).double()
REPEATS = repeated_tokens(6, 12, 14, (2, 5), torch.Generator().manual_seed(1))
TOKENS = REPEATS.tokens
GROUP = [(0, 2), (1, 0), (1, 1)]


@checks(
    "joint_ablation",
    mistakes={
        "the loss without the heads was returned; subtract that of the whole model": partial(
            slow.cost, minus=0.0
        ),
        "the sign is wrong: what it costs is positive": lambda *args: -slow.cost(*args),
        "every position counted; use loss_where_known": partial(slow.cost, everywhere=True),
        "the single effects were added up; ablate the group in one run": lambda model, repeats, heads, kind="zero": (
            sum(slow.cost(model, repeats, [head], kind) for head in heads)
        ),
        "only the first head was ablated": lambda m, r, heads, kind="zero": slow.cost(
            m, r, heads[:1], kind
        ),
        "only the last head was ablated": lambda m, r, heads, kind="zero": slow.cost(
            m, r, heads[-1:], kind
        ),
        "all the other heads were ablated": partial(slow.cost, keep=True),
        "the outputs were taken away after all layers had read them (from the last stream); do it in hook_z": (
            partial(slow.cost, late=True)
        ),
    },
)
def test_joint_is_the_loss_of_a_model_without_these_heads(joint_ablation):
    for heads in ([(0, 2), (1, 0)], GROUP):
        expect_close(
            joint_ablation(SMALL, REPEATS, heads),
            slow.cost(SMALL, REPEATS, heads),
            "",
            f"{heads} with W_O set to 0",
        )


@checks(
    "joint_ablation",
    mistakes={
        "the heads were always zeroed; use `kind`": lambda m, r, heads, kind="": slow.cost(
            m, r, heads
        )
    },
)
def test_joint_of_every_kind(joint_ablation):
    """For heads of the last layer the long way is short: swap what they add to the logits."""
    for kind in ("mean", "mean per position", "resample"):
        got = joint_ablation(SMALL, REPEATS, [(1, 0), (1, 2)], kind)
        expect_close(got, slow.cost(SMALL, REPEATS, [(1, 0), (1, 2)], kind), "", f'kind "{kind}"')
    same = Repeats(TOKENS[:1].expand(4, -1), REPEATS.predictable[:1].expand(4, -1), None, None)
    for kind in ("mean per position", "resample"):
        expect_close(
            joint_ablation(SMALL, same, GROUP, kind), 0.0, "", f'"{kind}", all sequences alike'
        )


PLANTED = repeated_tokens(8, 16, 20, (3, 6), torch.Generator().manual_seed(2))


@checks(
    "joint_ablation",
    mistakes={
        "the single effects were added up": lambda m, r, heads, *_: sum(
            slow.cost(m, r, [head]) for head in heads
        )
    },
)
def test_joint_of_planted_heads(joint_ablation):
    """Two equal induction heads: .0009 without one, 3.0 without both. A negative head: the model is
    better off without.
    """
    twins = planted.duplicated_heads_model(2).double()
    for k in (0, 1, 2):
        truth = slow.exact_loss(10.0 * (2 - k)) - slow.exact_loss(20.0)
        got = joint_ablation(twins, PLANTED, [(1, head) for head in range(k)])
        expect_close(
            got,
            truth,
            "",
            f"{k} of two equal induction heads, each enough by itself",
            tolerance=1e-8,
        )
    model = planted.negative_head_model(s=4.0, negative=2.0).double()
    expect_close(
        joint_ablation(model, PLANTED, [(1, 1)]),
        slow.exact_loss(4.0) - slow.exact_loss(2.0),
        "",
        "a head against the answer",
    )


@checks(
    "ablation_table",
    mistakes={
        "rows and columns are exchanged: [layer, head]": lambda *args: slow.single(*args).T,
        "the heads before were not put back: one at a time": slow.one_after_another,
        "all heads but one were ablated; ablate one": partial(slow.single, keep=True),
        "the loss was returned; subtract that of the whole model": partial(slow.single, minus=0.0),
        "it was divided by the loss of the model; the unit is nats": lambda m, r, kind="zero": (
            slow.single(m, r, kind) / slow.cost(m, r, [], minus=0.0)
        ),
    },
)
def test_table_is_every_head_alone(ablation_table):
    for kind in ("zero", "mean"):
        got, truth = ablation_table(SMALL, REPEATS, kind), slow.single(SMALL, REPEATS, kind)
        expect_close(
            got, truth, "layer head", f'each head alone, "{kind}", the long way', tolerance=1e-5
        )


@checks(
    "ablation_table",
    mistakes={"rows and columns are exchanged: [layer, head]": lambda *args: slow.single(*args).T},
)
def test_table_of_planted_heads(ablation_table):
    """No induction head of two seems to matter, the previous-token head does."""
    got = ablation_table(planted.duplicated_heads_model(2).double(), PLANTED)
    truth = torch.tensor(
        [
            [math.log(20) - slow.exact_loss(20.0), 0],
            [slow.exact_loss(10.0) - slow.exact_loss(20.0)] * 2,
        ]
    )
    expect_close(got.float(), truth, "layer head", "two equal induction heads", tolerance=1e-5)


# What goes through patterns


@checks(
    "pattern_preserving_ablation",
    mistakes={
        "the patterns are those of the ablated run; force those of the undisturbed one": slow.without,
        "the values were kept as well": partial(slow.without, layers=(0, 1), values=True),
        "all layers got the patterns of the last: a lambda in a loop reads `name` too late; use hook.name": (
            slow.last_pattern_everywhere
        ),
        "nothing was ablated": lambda model, tokens, heads: slow.by_hand(model, tokens, []),
        "all the other heads were ablated": lambda model, tokens, heads: slow.by_hand(
            model, tokens, [(a, b) for a in range(2) for b in range(3) if (a, b) not in heads]
        ),
    },
)
def test_patterns_stay_and_values_go(pattern_preserving_ablation):
    for heads in ([(0, 1)], [(0, 0), (0, 2), (1, 1)]):
        got, why = (
            pattern_preserving_ablation(SMALL, TOKENS, heads),
            f"{heads} silent, clean patterns, by loops",
        )
        expect_close(got, slow.by_hand(SMALL, TOKENS, heads), "batch pos vocab", why)


@checks("pattern_preserving_ablation", mistakes={"the patterns were not kept": slow.without})
def test_the_planted_previous_token_head_works_through_patterns_only(pattern_preserving_ablation):
    model = planted.induction_model()
    got, truth = (
        pattern_preserving_ablation(model, PLANTED.tokens, [(0, 0)]),
        model(PLANTED.tokens).detach(),
    )
    expect_close(
        got,
        truth,
        "batch pos vocab",
        "hand-built induction, 0.0 silent, patterns kept: nothing is lost",
    )


BOTH = [(0, 0), (0, 2)]


@checks("targeted_ablation", mistakes=slow.TARGET_MISTAKES)
def test_target_sees_the_stream_without_the_sources(targeted_ablation):
    for side, sources in (("k", [(0, 1)]), ("k", BOTH), ("q", BOTH)):
        got = targeted_ablation(SMALL, TOKENS, sources, (1, 1), side)
        truth = slow.pattern_without(SMALL, TOKENS, sources, (1, 1), side)
        why = f"{sources} out of {side} of 1.1: {side} from a run with their W_O at 0, the rest from a clean run"
        expect_close(got, truth, "batch query key", why)


@checks(
    "targeted_ablation",
    mistakes={"the queries lost the sources": slow.aimed(lambda s, target, side: (s, target, "q"))},
)
def test_planted_induction_needs_its_keys(targeted_ablation):
    """Without "the token before me" in its keys, the hand-built head rests on BOS. Its queries need
    nothing.
    """
    model = deepcopy(planted.induction_model())
    clean = slow.pattern_without(model, PLANTED.tokens, [(0, 0)], (1, 0), "")
    keys = targeted_ablation(model, PLANTED.tokens, [(0, 0)], (1, 0))
    expect_close(
        keys[:, :, 0],
        torch.ones(8, 16),
        "batch query",
        "0.0 out of the keys of 1.0: attention 1 on BOS everywhere",
    )
    queries = targeted_ablation(model, PLANTED.tokens, [(0, 0)], (1, 0), "q")
    expect_close(
        queries, clean, "batch query key", "0.0 out of the queries of 1.0: nothing changes"
    )


@checks("targeted_ablation")
def test_target_with_positions_in_the_stream(targeted_ablation):
    options = {"n_heads": 2, "d_model": 6, "d_head": 3, "d_vocab": 14, "n_ctx": 12}
    model = Transformer(
        ModelConfig(positional_embedding_type="standard", n_layers=2, **options), seed=1
    ).double()
    got, truth = (
        f(model, TOKENS, [(0, 1)], (1, 0)) for f in (targeted_ablation, slow.pattern_without)
    )
    expect_close(
        got, truth, "batch query key", "positions in the stream: they must stay in the keys"
    )
