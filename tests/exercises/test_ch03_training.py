"""Checks of chapter 3. The oracles: what every row must look like, loops, logits written out, and
models of known habits.
"""

import torch

from minitransformer import BOS, ModelConfig, Transformer, load, planted
from minitransformer.data import repeated_tokens
from minitransformer.evaluate import held_out, strict_induction_accuracy
from solutions.ch03_training import accuracy_interval, one_copy
from tests.exercises.cases import expect_error, first_true, in_case
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles import ch03 as oracle
from tests.exercises.oracles import ch03_diagnosis as habits
from tests.exercises.oracles import ch03_steps as by_hand
from tests.exercises.oracles.ch03 import period_and_prefix, written_out
from tests.material import seeded

LENGTH, D_VOCAB, PERIODS, N_ROWS = 11, 13, (2, 5), 300


@checks("make_repeated_tokens", mistakes=oracle.ROW_MISTAKES)
def test_rows_are_what_they_should_be(make_repeated_tokens):
    state = torch.random.get_rng_state()
    tokens = make_repeated_tokens(N_ROWS, LENGTH, D_VOCAB, PERIODS, seeded())
    expect(tokens.dtype == torch.long, "expected a tensor of type torch.long")
    shape = f"[batch, length] = [{N_ROWS}, {LENGTH}], got {list(tokens.shape)}"
    expect(tokens.shape == (N_ROWS, LENGTH), f"expected the shape {shape}")
    expect((tokens[:, 0] == BOS).all(), "every row must begin with BOS, token 0")
    expect((tokens[:, 1:] != BOS).all(), "BOS may stand at position 0 only")
    largest = f"a token is {tokens.max()}; the largest is d_vocab - 1 = {D_VOCAB - 1}"
    expect(tokens.max() < D_VOCAB, largest)
    expect_blocks(tokens.tolist())
    expect_all_pairs({period_and_prefix(row) for row in tokens.tolist()})
    expect_shuffled(tokens)
    untouched = torch.equal(state, torch.random.get_rng_state())
    expect(untouched, "torch's global random state moved: draw from `generator` only")
    again = make_repeated_tokens(N_ROWS, LENGTH, D_VOCAB, PERIODS, seeded())
    expect(torch.equal(tokens, again), "the same generator state must give the same rows")


def expect_blocks(rows):
    """Each row is a prefix, a block, and the block again to the end."""
    for row in rows:
        period, prefix = period_and_prefix(row)
        late = "the prefix has at most length - 3 - period tokens"
        expect(period is not None, f"nothing comes a second time: {row}; {late}")
        for i in range(1 + prefix + period, LENGTH):
            if row[i] != row[i - period]:
                why = "were the tokens drawn with replacement?"
                if len(set(row[i:]) - set(row[:i])) == LENGTH - i:
                    why = "new tokens come; the block must go on to the end"
                sentence = f"{row[i - period]} was expected at position {i} of {row}"
                expect(False, f"the block is not repeated: {sentence}: {why}")
        in_time = prefix + period <= LENGTH - 3
        expect(in_time, f"the second copy begins too late, or never: {row}; {late}")


NOT_UP_TO = "randint leaves out its upper end"
WHY_EXTRA = {
    "the prefix comes round again with the block": lambda extra: all(
        period > PERIODS[1] and prefix == 0 for period, prefix in extra
    )
}
WHY_MISSING = {
    "one period was drawn for the whole batch": lambda missing, made: (
        len({period for period, _ in made}) == 1
    ),
    "all rows have the same prefix: is one drawn for the whole batch, or none?": (
        lambda missing, made: len({prefix for _, prefix in made}) == 1
    ),
    f"the longest period; {NOT_UP_TO}": lambda missing, made: (
        {period for period, _ in missing} == {PERIODS[1]}
    ),
    "the shortest period": lambda missing, made: {period for period, _ in missing} == {PERIODS[0]},
    f"of each period the longest prefix; {NOT_UP_TO}": lambda missing, made: all(
        prefix == LENGTH - 3 - period for period, prefix in missing
    ),
    "all those without a prefix": lambda missing, made: all(prefix == 0 for _, prefix in missing),
    "no prefix is longer than the longest period allows; draw it once the row's own period is "
    "known": lambda missing, made: all(prefix > LENGTH - 4 - PERIODS[1] for _, prefix in missing),
}


def expect_all_pairs(made):
    """Every pair (period, prefix) that fits has come, and no other."""
    periods = range(PERIODS[0], PERIODS[1] + 1)
    wanted = {(period, prefix) for period in periods for prefix in range(LENGTH - 2 - period)}
    extra, missing = sorted(made - wanted), sorted(wanted - made)
    why = first_true(WHY_EXTRA, extra)
    rule = f"with periods {PERIODS} no row has these pairs (period, prefix)"
    expect(not extra, f"{rule}: {extra[:4]}{why}")
    why = first_true(WHY_MISSING, missing, made)
    pairs = f"pairs (period, prefix) that never came in {N_ROWS} rows: {missing[:4]}{why}"
    expect(not missing, pairs)


def expect_shuffled(tokens):
    """Every row has tokens of its own, in any order, and each token comes."""
    one = len(tokens[:, 1].unique()) == 1
    expect(not one, "every row begins with the same token: one shuffle was drawn for all rows")
    rising = all(row[1] < row[2] for row in tokens.tolist())
    expect(not rising, "the tokens of every row are sorted; they must be shuffled")
    unused = set(range(1, D_VOCAB)) - set(tokens.flatten().tolist())
    expect(not unused, f"of 1 to d_vocab - 1 = {D_VOCAB - 1} these tokens never came: {unused}")


@checks("make_repeated_tokens", mistakes=oracle.UNEVEN_ROWS)
def test_nothing_leaks_from_the_place(make_repeated_tokens):
    """What could be guessed without looking at the tokens: periods, prefixes and tokens are equally
    likely, about.
    """
    tokens = make_repeated_tokens(3 * N_ROWS, LENGTH, D_VOCAB, PERIODS, seeded(1))
    made = torch.tensor([period_and_prefix(row) for row in tokens.tolist()])
    for period in range(PERIODS[0], PERIODS[1] + 1):
        share = (made[:, 0] == period).float().mean().item()
        why = f"period {period} came in {share:.0%} of the rows; each of the 4 should in a quarter"
        expect(0.19 < share < 0.31, why)
        empty = (made[made[:, 0] == period, 1] == 0).float().mean().item()
        times = empty * (LENGTH - 2 - period)
        why = f"at period {period} the prefix is empty {times:.1f} times as often as it should be"
        expect(0.4 < times < 1.6, why)
    share = torch.bincount(tokens[:, 5], minlength=D_VOCAB)[1:] / len(tokens) * (D_VOCAB - 1)
    why = "at position 5 some tokens come much more often than others"
    expect(share.min() > 0.5 and share.max() < 1.5, why)


MASKED = [
    [[0, 5, 7, 2, 7, 2, 7, 2], [0, 1, 2, 1, 3, 4, 5, 3], [0, 6, 6, 6, 6, 6, 6, 6]],
    [[0, 4, 0, 3, 4, 8, 3, 0], [0, 9, 8, 7, 9, 6, 7, 9]],
]


@checks("predictable_mask", mistakes=oracle.MASK_MISTAKES)
def test_mask_is_its_definition(predictable_mask):
    """In any row: where tokens come back without their block, and where BOS does, too."""
    for rows in MASKED:
        tokens = torch.tensor(rows)
        got, truth = predictable_mask(tokens), oracle.read_before()(tokens)
        expect(got.dtype == torch.bool, "expected a tensor of True and False (torch.bool)")
        expect_close(got, truth, "batch pos", f"where the token was read before, in {rows}")
    repeats = repeated_tokens(10, LENGTH, D_VOCAB, (1, 6), seeded())
    got, truth = predictable_mask(repeats.tokens), repeats.predictable
    expect_close(got, truth, "batch pos", "what the package says it has drawn")


CASES = [(64, 0, 0.0), (20, 0, 5.0), (64, 15, 0.0), (9, 3, 2.0), (9, 6, -0.5), (9, 8, 1.0)]


@checks("chance_loss", mistakes=oracle.LOSS_MISTAKES)
def test_loss_of_logits_written_out(chance_loss):
    for n, seen, margin in CASES:
        case = f"chance_loss({n}, seen={seen}, margin={margin})"
        got = in_case(case, chance_loss, n, seen=seen, margin=margin)
        expect_close(got, written_out(n, seen, margin), "", f"{case} is -log softmax of its logits")


@checks("chance_loss")
def test_what_cannot_be_ruled_out_is_refused(chance_loss):
    for seen in (-1, 4, 5):
        for margin in (0.0, 5.0):
            case = f"of 4 tokens {seen} cannot be ruled out"
            expect_error(chance_loss, (4, seen, margin), ValueError, case)


@checks("chance_loss")
def test_loss_of_a_model_built_by_hand(chance_loss):
    model = planted.induction_model(d_vocab=12, n_ctx=12, s=4.0).double()
    repeats = held_out(model, (1, 9), batch=20)
    log_probs = model(repeats.tokens).detach().log_softmax(dim=-1)[:, :-1]
    losses = -log_probs.gather(2, repeats.tokens[:, 1:, None])[..., 0][repeats.predictable[:, :-1]]
    why = "planted.induction_model(12, 12, s=4.0) gives the right token the logit 4, the others 0"
    expect_close(chance_loss(12, margin=4.0), losses.mean(), "", why)


# One token less than the rows have: the last one is predicted, and never read.
CFG = ModelConfig(n_heads=2, d_model=8, d_head=5, d_vocab=D_VOCAB, n_ctx=LENGTH - 1)
RATE = 0.5
MOVES = ("model", "optimizer")


def model_and_batches():
    drawn = [repeated_tokens(3, LENGTH, D_VOCAB, PERIODS, seeded(seed)) for seed in (0, 1)]
    return Transformer(CFG, seed=1), *[repeats.tokens for repeats in drawn]


@checks("training_step_by_hand", mistakes=by_hand.STEP_MISTAKES, changes=MOVES)
def test_loss_before_the_step(training_step_by_hand):
    """With a learning rate of 0 nothing moves, so that the loss can be compared with the loops."""
    model, tokens, _ = model_and_batches()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for elsewhere in (0.1, 0.3):
        truth = by_hand.loss_of_tokens(model, tokens, elsewhere).item()
        case = f"{len(tokens)} rows of {LENGTH} tokens, elsewhere = {elsewhere}"
        got = in_case(case, training_step_by_hand, model, optimizer, tokens, elsewhere)
        number = f"{case}: expected a plain number, got {type(got).__name__}: .item()"
        expect(isinstance(got, float), number)
        expect_close(got, truth, "", f"{case}: the weighted mean of the losses", 1e-5)


@checks(
    "training_step_by_hand",
    mistakes={"the loss was computed after the step": by_hand.after_the_step},
    changes=MOVES,
)
def test_it_says_the_loss_before_the_step(training_step_by_hand):
    model, tokens, _ = model_and_batches()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    before = by_hand.loss_of_tokens(model, tokens).item()
    got = training_step_by_hand(model, optimizer, tokens)
    after = by_hand.loss_of_tokens(model, tokens).item()
    late = f"it returned {got:.4f}, the loss after the step; before the step it is {before:.4f}"
    expect(abs(got - after) > 1e-4 or abs(got - before) < 1e-4, late)
    expect_close(got, before, "", "the loss before the step", 1e-5)


def expect_descent(step, n_steps, left_over, which):
    """Plain gradient descent: the change of the last step divided by -lr is the gradient, and that
    is known from the loops. left_over: what stands in .grad before the first step.
    """
    model, *batches = model_and_batches()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, left_over)
    earlier = torch.full_like(model.W_E, left_over)
    for tokens in batches[:n_steps]:
        before = model.W_E.detach().clone()
        loss = by_hand.loss_of_tokens(model, tokens)
        (gradient,) = torch.autograd.grad(loss, [model.W_E])
        step(model, optimizer, tokens)
        moved = (before - model.W_E.detach()) / RATE
        by_hand.expect_moved_by(moved, gradient, earlier, which)
        earlier = gradient


@checks("training_step_by_hand", changes=MOVES)
def test_the_step_goes_down_the_gradient(training_step_by_hand):
    expect_descent(training_step_by_hand, 1, 0.0, "the one step")


@checks("training_step_by_hand", changes=MOVES)
def test_each_step_goes_down_its_own_gradient(training_step_by_hand):
    expect_descent(training_step_by_hand, 1, 0.3, "a step after gradients of .3 everywhere")
    expect_descent(training_step_by_hand, 2, 0.0, "the second of two steps")


@checks("training_step_by_hand", changes=MOVES)
def test_it_learns_induction(training_step_by_hand):
    """A tiny set-up, two layers: 100 steps, about a second."""
    generator = seeded()
    model = Transformer(ModelConfig(n_heads=2, d_model=32, d_vocab=14, n_ctx=12), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2, betas=(0.9, 0.99), weight_decay=0.0)
    for _ in range(100):
        tokens = repeated_tokens(32, 13, 14, (2, 5), generator).tokens
        training_step_by_hand(model, optimizer, tokens)
    right = strict_induction_accuracy(model, held_out(model, (2, 5), 128))
    got = f"after 100 of your steps {right:.0%} of the predictable tokens are right"
    expect(right > 0.9, f"{got}; more than 90 % can be")


STEPS = [0, 3, 5, 11, 17, 29, 41]
CURVES = [
    ("there exactly, and for a while", [0.0, 1.0, 2.0, 2.0, 2.0, 3.0, 4.0], 0.5, 5.0),
    ("rising", [0.2, 0.2, 0.3, 0.53, 0.8, 0.9, 1.0], 0.5, 11 + 6 * 0.07 / 0.27),
    ("there, back, and there again", [1.0, 1.5, 2.6, 1.2, 1.1, 2.2, 3.0], 0.5, 3 + 2 * 0.5 / 1.1),
    ("falling", [4.0, 3.9, 3.1, 2.3, 1.5, 0.7, 0.5], 0.25, 3 + 2 * 0.775 / 0.8),
    ("first up, then down", [4.2, 4.6, 4.0, 2.0, 1.0, 0.3, 0.2], 0.5, 5 + 6 * 0.9),
    ("far the other way first", [2.0, 1.2, 0.9, 1.6, 2.2, 2.9, 3.0], 0.5, 17 + 12 * 0.3 / 0.7),
    ("below its last value, then up", [2.0, 1.7, 0.2, 0.4, 0.9, 1.3, 1.0], 0.7, 3 + 0.8 / 1.5),
    ("all of its way", [0.0, 1.0, 3.0, 4.0, 4.5, 3.5, 4.0], 1.0, 11.0),
]


@checks("crossing_step", mistakes=by_hand.CROSSING_MISTAKES)
def test_crossings_that_can_be_drawn(crossing_step):
    for name, values, share, truth in CURVES:
        case = f"{name}: {values} at the steps {STEPS} has gone {share:.0%} of its way"
        got = in_case(case, crossing_step, STEPS, values, share)
        expect_close(float(got), truth, "", case)
    got = in_case("share left out", crossing_step, STEPS, CURVES[1][1])
    expect_close(float(got), CURVES[1][3], "", "share is one half if it is left out")


@checks("crossing_step")
def test_a_curve_that_goes_nowhere_is_refused(crossing_step):
    for values in ([1.0, 3.0, 1.0], [2.0, 2.0, 2.0]):
        case = f"{values} ends where it began, and has no way to go"
        expect_error(crossing_step, ([0, 1, 2], values), ValueError, case)


def expect_diagnosis(diagnose, name, model, verdict, n_tokens=200):
    got = in_case(name, diagnose, model, n_tokens)
    expect(hasattr(got, "verdict"), f"expected a Diagnosis, got {type(got).__name__}")
    periods = habits.all_periods(model)
    if got.verdict != verdict:
        lows = sorted(habits.measured(model, period).low for period in periods)
        ends = f"the lower end is {lows[0]:.3f}, at its best {lows[-1]:.3f}"
        expect(False, f'{name}: at its worst period {ends}: "{verdict}", you say {got.verdict!r}')
    fits = f"{name}: periods 1 to {len(periods)} fit, you name period {got.period}"
    expect(got.period in periods, fits)
    expect_interval(got, name, model, n_tokens)
    return got


def expect_interval(got, name, model, n_tokens):
    """The interval is that of the period, and as wide as it is with n_tokens tokens."""
    right, n = habits.counted_right(model, got.period)
    shown = f"{got.low:.3f} to {got.high:.3f}"
    said = f"{name}: period {got.period} is named, with an accuracy of {shown}"
    off = 0.05 if n_tokens >= 1000 else 0.15  # the worst of many draws is a bit low
    if not got.low - off <= right / n <= got.high + off:
        shares = [habits.measured(model, period).share for period in habits.all_periods(model)]
        pooled = abs((got.low + got.high) / 2 - sum(shares) / len(shares)) < 0.12
        why = "; is that the interval of all periods together?" if pooled else ""
        expect(False, f"{said}; at that period {right} of {n} tokens are right{why}")
    low, high = accuracy_interval(int(n_tokens * right / n), n_tokens)
    rule = f"with {n_tokens} tokens it is about {high - low:.3f} wide"
    width = got.high - got.low
    fewer = "were fewer than n_tokens counted, such as those of a fixed number of sequences?"
    expect(width < 1.3 * (high - low) + 0.02, f"{said}: too wide; {rule}: {fewer}")
    more = "were more than n_tokens counted?"
    expect(width > 0.6 * (high - low) - 0.002, f"{said}: too narrow; {rule}: {more}")


@checks("diagnose")
def test_every_period_that_fits_is_tried(diagnose):
    for n_ctx, d_vocab in ((10, 13), (13, 10)):
        model = habits.Remembering(ModelConfig(n_heads=1, d_model=8, d_vocab=d_vocab, n_ctx=n_ctx))
        where = f"n_ctx {n_ctx}, d_vocab {d_vocab}: the longest sequence that fits has 10 tokens"
        in_case(where, diagnose, model, 100)
        tried = sorted({period_and_prefix(row)[0] for row in model.rows})
        expect(tried == list(range(1, 8)), f"{where}, so periods 1 to 7; you tried {tried}")
        lengths = {len(row) for row in model.rows}
        expect(lengths == {10}, f"{where}; you tried lengths of {sorted(lengths)}")


@checks("diagnose", mistakes=habits.DIAGNOSIS_MISTAKES)
def test_models_of_known_habits(diagnose):
    for verdict, name, model, n_tokens in habits.known_habits():
        expect_diagnosis(diagnose, name, model, verdict, n_tokens)


@checks("diagnose", mistakes=habits.BEST_SHOWN)
def test_it_shows_where_the_model_does_worst(diagnose):
    """Look 6 back: right at periods 1, 2, 3 and 6 (but for the start), never at the others."""
    got = expect_diagnosis(diagnose, "6 back", habits.looks_back(6), "in part")
    expect(got.high < 0.1, f"6 back: at period 4 nothing is right; you show {got.high:.3f}")
    least = f"6 back: at 4, 5, 7, 8 and 9 nothing is right; the shortest is 4, not {got.period}"
    expect(got.period == 4, least)
    got = expect_diagnosis(diagnose, "never the token just read", habits.no_echo(), "in part")
    expect(got.period == 1, f"a model that never says the token just read: 1, not {got.period}")


@checks("diagnose", mistakes=habits.OTHER_COPIES)
def test_each_token_counts_once_per_sequence_early_or_late(diagnose):
    """The last copies alone never ask the late model early, nor the first ones the tired one
    late; counted everywhere, sequences in which a token comes often weigh more.
    """
    base = planted.induction_model(16, 16)
    late = "an induction model that is silent before position 9"
    expect_diagnosis(diagnose, late, habits.Awake(base, first=9), "in part", 1000)
    for last, verdict in ((14, "in part"), (12, "no")):
        tired = f"an induction model that is silent from position {last} on"
        expect_diagnosis(diagnose, tired, habits.Awake(base, last=last), verdict, 1000)


@checks("diagnose", mistakes=habits.ALWAYS_1000)
def test_as_many_tokens_as_were_asked_for(diagnose):
    for n_tokens in (100,):
        model = habits.missing_tokens(6)
        expect_diagnosis(diagnose, f"n_tokens = {n_tokens}", model, "in part", n_tokens)


def test_one_copy_of_each_token_that_is_given():
    """Read again are a b c a b c a: of each token one is drawn, any of its copies alike."""
    repeats = repeated_tokens(4000, 12, 14, (3, 3), seeded(), prefix=0)
    counted = one_copy(repeats, seeded(1)).float()
    assert not (counted * ~repeats.predictable[:, :-1]).any()
    for copies in ([4, 7, 10], [5, 8], [6, 9]):
        assert (counted[:, copies].sum(dim=1) == 1).all()
        share = counted[:, copies].mean(dim=0)
        assert torch.allclose(share, torch.ones(len(copies)) / len(copies), atol=0.03)


@checks("diagnose")
def test_the_same_model_gets_the_same_verdict(diagnose):
    model = habits.missing_tokens(6)
    first, again = diagnose(model, 100), diagnose(model, 100)
    said = f"the same model twice: {first}, then {again}"
    expect(first == again, f"{said}; draw from a generator with a fixed seed")


@checks("diagnose")
def test_trained_models(diagnose):
    """The impostor among them, to which one period was all the world."""
    expect_diagnosis(diagnose, "the impostor", load("impostor"), "in part", 100)
    expect_diagnosis(diagnose, "the course's model", load("induction"), "induction", 100)
