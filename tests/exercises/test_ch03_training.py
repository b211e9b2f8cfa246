"""Checks of chapter 3. The oracles: what every row must look like, loops, logits written out, and
models of known habits.
"""

import torch

from minitransformer import BOS, ModelConfig, Transformer, load, planted
from minitransformer.data import repeated_tokens
from minitransformer.evaluate import held_out, strict_induction_accuracy
from solutions.ch03_training import accuracy_interval
from tests.exercises.checking import checks, expect, expect_close, expect_value_error
from tests.exercises.oracles import ch03 as oracle
from tests.exercises.oracles import ch03_diagnosis as habits
from tests.exercises.oracles.ch03 import period_and_prefix, written_out
from tests.material import seeded

LENGTH, D_VOCAB, PERIODS = 10, 10, (2, 4)


@checks("make_repeated_tokens", mistakes=oracle.ROW_MISTAKES)
def test_rows_are_what_they_should_be(make_repeated_tokens):
    state = torch.random.get_rng_state()
    tokens = make_repeated_tokens(200, LENGTH, D_VOCAB, PERIODS, seeded())
    whole = isinstance(tokens, torch.Tensor) and tokens.dtype == torch.long
    expect(whole, "expected a tensor of type torch.long")
    shape = f"[batch, length] = [200, {LENGTH}], got {list(tokens.shape)}"
    expect(tokens.shape == (200, LENGTH), f"expected the shape {shape}")
    expect((tokens[:, 0] == BOS).all(), "every row must begin with BOS, token 0")
    expect((tokens[:, 1:] != BOS).all(), "BOS may stand at position 0 only")
    largest = f"a token is {tokens.max()}; the largest is d_vocab - 1 = {D_VOCAB - 1}"
    expect(tokens.max() < D_VOCAB, largest)
    expect_blocks(tokens.tolist())
    expect_all_pairs({period_and_prefix(row) for row in tokens.tolist()})
    unused = set(range(1, D_VOCAB)) - set(tokens.flatten().tolist())
    expect(not unused, f"tokens that never came: {unused}")
    untouched = torch.equal(state, torch.random.get_rng_state())
    expect(untouched, "torch's global random state moved: draw from `generator` only")
    again = make_repeated_tokens(200, LENGTH, D_VOCAB, PERIODS, seeded())
    expect(torch.equal(tokens, again), "the same generator state must give the same rows")


def expect_blocks(rows):
    """Each row is a prefix, a block, and the block again to the end."""
    for row in rows:
        period, prefix = period_and_prefix(row)
        in_time = period is not None and prefix + period <= LENGTH - 3
        expect(in_time, f"the second copy begins too late, or never: {row}")
        comes_back = all(row[i] == row[i - period] for i in range(1 + prefix + period, LENGTH))
        rule = "prefix and block must hold different tokens, and the block be repeated"
        expect(comes_back, f"{rule}: {row} (period {period}?)")


def expect_all_pairs(made):
    """Every pair (period, prefix) that fits has come, and no other."""
    wanted = {(period, prefix) for period in range(2, 5) for prefix in range(LENGTH - 2 - period)}
    extra, missing = sorted(made - wanted), sorted(wanted - made)
    expect(not extra, f"with periods (2, 4) no row has these pairs (period, prefix): {extra[:4]}")
    why = ""
    if all(prefix == LENGTH - 3 - period for period, prefix in missing):
        why = " (of each period the longest prefix: randint leaves out its upper end)"
    pairs = f"pairs (period, prefix) that never came in 200 rows: {missing[:4]}{why}"
    expect(not missing, pairs)


@checks("make_repeated_tokens")
def test_nothing_leaks_from_the_place(make_repeated_tokens):
    """What could be guessed without looking at the tokens: periods, prefixes and tokens are equally
    likely, about.
    """
    tokens = make_repeated_tokens(1200, LENGTH, D_VOCAB, PERIODS, seeded(1))
    made = torch.tensor([period_and_prefix(row) for row in tokens.tolist()])
    for period in range(2, 5):
        share = (made[:, 0] == period).float().mean().item()
        why = f"period {period} came in {share:.0%} of the rows; each of the 3 should in a third"
        expect(0.24 < share < 0.43, why)
        empty = (made[made[:, 0] == period, 1] == 0).float().mean().item()
        times = empty * (LENGTH - 2 - period)
        why = f"at period {period} the prefix is empty {times:.1f} times as often as it should be"
        expect(0.4 < times < 1.6, why)
    share = torch.bincount(tokens[:, 5], minlength=D_VOCAB)[1:] / 1200 * (D_VOCAB - 1)
    why = "at position 5 some tokens come much more often than others"
    expect(share.min() > 0.5 and share.max() < 1.5, why)


@checks("predictable_mask", mistakes=oracle.MASK_MISTAKES)
def test_mask_is_its_definition(predictable_mask):
    rows = [[0, 5, 7, 2, 7, 2, 7, 2], [0, 1, 2, 3, 4, 1, 2, 3], [0, 6, 6, 6, 6, 6, 6, 6]]
    tokens = torch.tensor(rows)
    truth = oracle.read_before()(tokens)
    expect_close(predictable_mask(tokens), truth, "batch pos", "where the token was read before")
    repeats = repeated_tokens(10, LENGTH, D_VOCAB, (1, 6), seeded())
    got, truth = predictable_mask(repeats.tokens), repeats.predictable
    expect_close(got, truth, "batch pos", "what the package says it has drawn")


CASES = [(64, 0, 0.0), (20, 0, 5.0), (64, 15, 0.0), (9, 3, 2.0), (9, 6, -1.0), (9, 8, 1.0)]


@checks("chance_loss", mistakes=oracle.LOSS_MISTAKES)
def test_loss_of_logits_written_out(chance_loss):
    for n, seen, margin in CASES:
        got = chance_loss(n, seen=seen, margin=margin)
        why = f"chance_loss({n}, seen={seen}, margin={margin}) is -log softmax of those logits"
        expect_close(got, written_out(n, seen, margin), "", why)
    for seen in (-1, 4):
        expect_value_error(chance_loss, (4, seen), f"of 4 tokens {seen} cannot be ruled out")


@checks("chance_loss")
def test_loss_of_a_model_built_by_hand(chance_loss):
    model = planted.induction_model(d_vocab=12, n_ctx=12, s=4.0).double()
    repeats = held_out(model, (1, 9), batch=20)
    log_probs = model(repeats.tokens).detach().log_softmax(dim=-1)[:, :-1]
    losses = -log_probs.gather(2, repeats.tokens[:, 1:, None])[..., 0][repeats.predictable[:, :-1]]
    why = "planted.induction_model(12, 12, s=4.0) gives the right token the logit 4, the others 0"
    expect_close(chance_loss(12, margin=4.0), losses.mean(), "", why)


CFG = ModelConfig(n_heads=2, d_model=8, d_head=5, d_vocab=D_VOCAB, n_ctx=LENGTH)


def model_and_batches():
    one = repeated_tokens(2, LENGTH, D_VOCAB, (2, 4), seeded(0)).tokens
    other = repeated_tokens(2, LENGTH, D_VOCAB, (2, 4), seeded(1)).tokens
    return Transformer(CFG, seed=1).double(), one, other


@checks("training_step_by_hand", mistakes=oracle.STEP_MISTAKES)
def test_loss_before_the_step(training_step_by_hand):
    """With a learning rate of 0 nothing moves, so that the loss can be compared with the loops."""
    model, tokens, _ = model_and_batches()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for elsewhere in (0.1, 0.5):
        truth = oracle.loss_in_loops(model, tokens, elsewhere).item()
        got = training_step_by_hand(model, optimizer, tokens, elsewhere)
        why = f"the weighted mean of the losses, elsewhere = {elsewhere}, as a plain float"
        expect_close(got, truth, "", why)


def expect_descent(step, batches, model, which):
    """Plain gradient descent: the change of the last step divided by -lr is the gradient, and that
    is known from the loops.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for tokens in batches:
        before = model.W_E.detach().clone()
        loss = oracle.loss_in_loops(model, tokens, 0.1)
        (gradient,) = torch.autograd.grad(loss, [model.W_E])
        step(model, optimizer, tokens)
    moved = (before - model.W_E.detach()) / 0.5
    why = "is optimizer.step() missing, or were gradients cleared between backward and step?"
    expect(moved.any(), f"W_E did not move: {why}")
    why = f"{which} moved W_E by -lr times its gradient"
    expect_close(moved, gradient, "vocab d_model", why)


@checks(
    "training_step_by_hand",
    mistakes={"optimizer.step() is missing, so the weights never move": oracle.step_with(go=False)},
)
def test_the_step_goes_down_the_gradient(training_step_by_hand):
    model, tokens, _ = model_and_batches()
    expect_descent(training_step_by_hand, [tokens], model, "the one step")


@checks(
    "training_step_by_hand",
    mistakes={"the gradients of the step before were not cleared": oracle.step_with(clear=False)},
)
def test_each_step_goes_down_its_own_gradient(training_step_by_hand):
    model, *batches = model_and_batches()
    which = "the second of two steps, whose gradient must not contain that of the first,"
    expect_descent(training_step_by_hand, batches, model, which)


@checks("training_step_by_hand")
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


@checks("crossing_step", mistakes=oracle.CROSSING_MISTAKES)
def test_crossings_that_can_be_drawn(crossing_step):
    steps = [0, 1, 2, 4, 8, 16, 32]
    curves = [
        ("rising", [0.2, 0.2, 0.3, 0.35, 0.7, 0.9, 1.0], 0.5, 4 + 4 * 0.25 / 0.35),
        ("falling", [4.0, 3.9, 3.0, 2.1, 2.0, 0.5, 0.0], 0.25, 2.0),
        ("there, back, and there again", [1.0, 1.5, 2.5, 1.2, 1.0, 2.0, 3.0], 0.5, 1.5),
    ]
    for name, values, share, truth in curves:
        got = float(crossing_step(steps, values, share))
        why = f"{name}: {values} at the steps {steps} has gone {share:.0%} of its way"
        expect_close(got, truth, "", why)
    back = ([0, 1, 2], [1.0, 3.0, 1.0])
    expect_value_error(crossing_step, back, "a curve that ends where it began has no way to go")


def expect_diagnosis(diagnose, name, model, verdict):
    got = diagnose(model)
    expect(hasattr(got, "verdict"), f"expected a Diagnosis, got {type(got).__name__}")
    expect(got.verdict == verdict, f'{name}: expected "{verdict}", got {got.verdict!r}')
    right, n = habits.counted_right(model, got.period)
    said = (
        f"{name}: period {got.period} is named, with an accuracy of {got.low:.3f} to {got.high:.3f}"
    )
    near = got.low - 0.05 <= right / n <= got.high + 0.05  # the worst of many draws is a bit low
    expect(near, f"{said}; {right} of {n} tokens are right there")
    low, high = accuracy_interval(right, n)
    wide = high - low + 0.02
    expect(got.high - got.low < wide, f"{said}; with 1000 tokens that is at most {wide:.3f} wide")
    return got


@checks("diagnose", mistakes=habits.DIAGNOSIS_MISTAKES)
def test_models_of_known_habits(diagnose):
    for verdict, name, model in habits.known_habits():
        expect_diagnosis(diagnose, name, model, verdict)


@checks("diagnose", mistakes=habits.BEST_SHOWN)
def test_it_shows_where_the_model_does_worst(diagnose):
    """Look 6 back: right at periods 1, 2, 3 and 6 (but for the start), never at the others."""
    got = expect_diagnosis(diagnose, "6 back", habits.looks_back(6), "in part")
    expect(got.high < 0.1, f"6 back: at period 4 nothing is right; you show {got.high:.3f}")
    got = expect_diagnosis(diagnose, "never the token just read", habits.no_echo(), "in part")
    expect(got.period == 1, f"a model that never says the token just read: 1, not {got.period}")


@checks("diagnose")
def test_every_period_that_fits_is_tried(diagnose):
    for n_ctx, d_vocab in ((10, 13), (13, 10)):
        model = habits.Remembering(ModelConfig(n_heads=1, d_model=8, d_vocab=d_vocab, n_ctx=n_ctx))
        diagnose(model)
        tried = sorted({period_and_prefix(row)[0] for row in model.rows})
        where = f"n_ctx {n_ctx}, d_vocab {d_vocab}"
        expect(tried == list(range(1, 8)), f"{where}: periods 1 to 7 fit; you tried {tried}")


@checks("diagnose", mistakes=habits.ONE_PERIOD)
def test_trained_models(diagnose):
    """The impostor among them, to which one period was all the world; and a model whose n_ctx is
    more than its d_vocab.
    """
    expect_diagnosis(diagnose, "the impostor", load("impostor"), "in part")
    expect_diagnosis(diagnose, "the course's model", load("induction"), "induction")
    handmade = planted.induction_model()
    expect_diagnosis(diagnose, "planted.induction_model()", handmade, "induction")
