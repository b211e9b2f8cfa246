"""Checks of chapter 3. The oracles: what every row must look like, loops, logits written out, and
models of known habits.
"""

import torch

from minitransformer import BOS, ModelConfig, Transformer, load, planted
from minitransformer.data import repeated_tokens
from minitransformer.evaluate import held_out, strict_induction_accuracy
from tests.exercises.checking import checks, expect, expect_close
from tests.exercises.oracles.ch03 import (
    crossing,
    looks_back,
    loss_in_loops,
    period_and_prefix,
    read_before,
    rows,
    seeded,
    step_with,
    verdict_from,
    written_out,
)

LENGTH, D_VOCAB, PERIODS = 10, 10, (2, 4)


@checks(
    "make_repeated_tokens",
    mistakes={
        "the longest period never comes: randint leaves out its upper end": rows(longest=False),
        "one period was drawn for the whole batch": rows(per_row=False),
        "there is no prefix, so the repeat starts at a place that can be guessed": rows(
            prefix=False
        ),
        "tokens were drawn with replacement": rows(replacement=True),
        "BOS was drawn as an ordinary token": rows(first=0),
        "the last token of the vocabulary never comes": rows(last=False),
        "BOS is missing": rows(bos=False),
        "the global random state was used instead of `generator`": rows(own=False),
    },
)
def test_rows_are_what_they_should_be(make_repeated_tokens):
    state = torch.random.get_rng_state()
    tokens = make_repeated_tokens(200, LENGTH, D_VOCAB, PERIODS, seeded())
    expect(
        isinstance(tokens, torch.Tensor) and tokens.dtype == torch.long,
        "expected a tensor of type torch.long",
    )
    expect(
        tokens.shape == (200, LENGTH),
        f"expected the shape [batch, length] = [200, {LENGTH}], got {list(tokens.shape)}",
    )
    expect((tokens[:, 0] == BOS).all(), "every row must begin with BOS, token 0")
    expect((tokens[:, 1:] != BOS).all(), "BOS may stand at position 0 only")
    expect(
        tokens.max() < D_VOCAB,
        f"a token is {tokens.max()}; the largest is d_vocab - 1 = {D_VOCAB - 1}",
    )
    made = {period_and_prefix(row) for row in tokens.tolist()}
    for row in tokens.tolist():
        period, prefix = period_and_prefix(row)
        expect(
            period is not None and prefix + period <= LENGTH - 3,
            f"the second copy begins too late, or never: {row}",
        )
        comes_back = all(row[i] == row[i - period] for i in range(1 + prefix + period, LENGTH))
        expect(
            comes_back,
            f"prefix and block must hold different tokens, and the block be repeated: {row} (period {period}?)",
        )
    wanted = {(period, prefix) for period in range(2, 5) for prefix in range(LENGTH - 2 - period)}
    extra, missing = sorted(made - wanted), sorted(wanted - made)
    expect(
        not extra, f"with periods (2, 4) no row can have these pairs (period, prefix): {extra[:4]}"
    )
    # of each period, only the longest prefix
    end = all(prefix == LENGTH - 3 - period for period, prefix in missing)
    why = " (of each period the longest prefix: randint leaves out its upper end)" if end else ""
    expect(
        not missing,
        f"pairs (period, prefix) that never came in 200 rows with periods (2, 4): {missing[:4]}{why}",
    )
    unused = set(range(1, D_VOCAB)) - set(tokens.flatten().tolist())
    expect(not unused, f"tokens that never came: {unused}")
    expect(
        torch.equal(state, torch.random.get_rng_state()),
        "torch's global random state moved: draw from `generator` only",
    )
    again = make_repeated_tokens(200, LENGTH, D_VOCAB, PERIODS, seeded())
    expect(torch.equal(tokens, again), "the same generator state must give the same rows")


@checks("make_repeated_tokens")
def test_nothing_leaks_from_the_place(make_repeated_tokens):
    """What could be guessed without looking at the tokens: periods, prefixes and tokens are equally
    likely, about.
    """
    tokens = make_repeated_tokens(1200, LENGTH, D_VOCAB, PERIODS, seeded(1))
    made = torch.tensor([period_and_prefix(row) for row in tokens.tolist()])
    for period in range(2, 5):
        share = (made[:, 0] == period).float().mean().item()
        expect(
            0.24 < share < 0.43,
            f"period {period} came in {share:.0%} of the rows; each of the 3 should come in a third",
        )
        none = (made[made[:, 0] == period, 1] == 0).float().mean().item() * (LENGTH - 2 - period)
        expect(
            0.4 < none < 1.6,
            f"at period {period} the prefix is empty {none:.1f} times as often as it should be",
        )
    share = torch.bincount(tokens[:, 5], minlength=D_VOCAB)[1:] / 1200 * (D_VOCAB - 1)
    expect(
        share.min() > 0.5 and share.max() < 1.5,
        "at position 5 some tokens come much more often than others",
    )


@checks(
    "predictable_mask",
    mistakes={
        "each position was compared with itself too, so everything looks repeated": read_before(
            lambda i, j: j <= i
        ),
        "later positions were looked at: a model cannot do that": read_before(lambda i, j: j != i),
        "only later positions were looked at: that is the wrong triangle of the table": read_before(
            lambda i, j: j > i
        ),
        "off by one: it marks the token *before* the second copy, where nobody can know what comes": (
            read_before(at=lambda i: i + 1)
        ),
        "off by one: it marks the token after the one that was read before": read_before(
            at=lambda i: i - 1
        ),
        "only the token just before was compared": read_before(lambda i, j: j == i - 1),
    },
)
def test_mask_is_its_definition(predictable_mask):
    tokens = torch.tensor(
        [[0, 5, 7, 2, 7, 2, 7, 2], [0, 1, 2, 3, 4, 1, 2, 3], [0, 6, 6, 6, 6, 6, 6, 6]]
    )
    expect_close(
        predictable_mask(tokens),
        read_before()(tokens),
        "batch pos",
        "True where the token was read before",
    )
    repeats = repeated_tokens(10, LENGTH, D_VOCAB, (1, 6), seeded())
    expect_close(
        predictable_mask(repeats.tokens),
        repeats.predictable,
        "batch pos",
        "what the package says it has drawn",
    )


@checks(
    "chance_loss",
    mistakes={
        "the logarithm has base 2; nats need the natural one": (
            lambda n, seen=0, margin=0.0: written_out(n, seen, margin) / 0.6931471805599453
        ),
        "the tokens that are ruled out still count": lambda n, seen=0, margin=0.0: written_out(
            n, 0, margin
        ),
        "one token too many is ruled out: n - seen are left": (
            lambda n, seen=0, margin=0.0: written_out(n, min(seen + 1, n - 1), margin)
        ),
        "the right token was counted among the others, of which there are n - seen - 1": (
            lambda n, seen=0, margin=0.0: written_out(n + 1, seen, margin)
        ),
        "a minus sign is missing: a loss is -log p, never negative": lambda n, seen=0, margin=0.0: (
            -written_out(n, seen, margin)
        ),
        "the margin counts against the right token": lambda n, seen=0, margin=0.0: written_out(
            n, seen, -margin
        ),
        "the margin is missing": lambda n, seen=0, margin=0.0: written_out(n, seen, 0.0),
    },
)
def test_loss_of_logits_written_out(chance_loss):
    for n, seen, margin in [
        (64, 0, 0.0),
        (20, 0, 5.0),
        (64, 15, 0.0),
        (9, 3, 2.0),
        (9, 6, -1.0),
        (9, 8, 1.0),
    ]:
        got, where = (
            chance_loss(n, seen=seen, margin=margin),
            f"chance_loss({n}, seen={seen}, margin={margin})",
        )
        expect_close(
            got, written_out(n, seen, margin), "", f"{where} is -log softmax of those logits"
        )
    for seen in (-1, 4):
        try:
            chance_loss.function(4, seen=seen)
            expect(False, f"of 4 tokens {seen} cannot be ruled out: a ValueError was expected")
        except ValueError:
            pass


@checks("chance_loss")
def test_loss_of_a_model_built_by_hand(chance_loss):
    model = planted.induction_model(d_vocab=12, n_ctx=12, s=4.0).double()
    repeats = held_out(model, (1, 9), batch=20)
    log_probs = model(repeats.tokens).detach().log_softmax(dim=-1)[:, :-1]
    losses = -log_probs.gather(2, repeats.tokens[:, 1:, None])[..., 0][repeats.predictable[:, :-1]]
    why = "planted.induction_model(12, 12, s=4.0) gives the right token the logit 4, the other 11 tokens 0"
    expect_close(chance_loss(12, margin=4.0), losses.mean(), "", why)


CFG = ModelConfig(n_heads=2, d_model=8, d_head=4, d_vocab=D_VOCAB, n_ctx=LENGTH)


def model_and_batches():
    batches = [
        repeated_tokens(2, LENGTH, D_VOCAB, (2, 4), seeded(number)).tokens for number in range(2)
    ]
    return Transformer(CFG, seed=1).double(), *batches


@checks(
    "training_step_by_hand",
    mistakes={
        "each position was asked for the token it has just read, not for the next one": step_with(
            shift=0
        ),
        "the mask is shifted: position i counts fully if the token *at* i was read before": step_with(
            mask_shift=1
        ),
        "all positions weigh the same": step_with(weighted=False),
        "the weighted sum was divided by the number of positions, not by the sum of the weights": step_with(
            mean=False
        ),
    },
)
def test_loss_before_the_step(training_step_by_hand):
    """With a learning rate of 0 nothing moves, so that the loss can be compared with the loops."""
    model, tokens, _ = model_and_batches()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for elsewhere in (0.1, 0.5):
        truth = loss_in_loops(model, tokens, elsewhere).item()
        got = training_step_by_hand(model, optimizer, tokens, elsewhere)
        expect_close(
            got,
            truth,
            "",
            f"the weighted mean of the losses, elsewhere = {elsewhere}, as a plain float",
        )


def expect_descent(step, times):
    """Plain gradient descent: the change divided by -lr is the gradient, and that is known from the
    loops.
    """
    model, *batches = model_and_batches()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for tokens in batches[:times]:
        before = model.W_E.detach().clone()
        (gradient,) = torch.autograd.grad(loss_in_loops(model, tokens, 0.1), [model.W_E])
        step(model, optimizer, tokens)
    moved = (before - model.W_E.detach()) / 0.5
    expect(
        moved.any(),
        "W_E did not move: is optimizer.step() missing, or were gradients cleared between backward and step?",
    )
    last = (
        "the one step",
        "the second of two steps, whose gradient must not contain that of the first,",
    )[times - 1]
    expect_close(moved, gradient, "vocab d_model", f"{last} moved W_E by -lr times its gradient")


@checks(
    "training_step_by_hand",
    mistakes={"optimizer.step() is missing, so the weights never move": step_with(go=False)},
)
def test_the_step_goes_down_the_gradient(training_step_by_hand):
    expect_descent(training_step_by_hand, times=1)


@checks(
    "training_step_by_hand",
    mistakes={"the gradients of the step before were not cleared": step_with(clear=False)},
)
def test_each_step_goes_down_its_own_gradient(training_step_by_hand):
    expect_descent(training_step_by_hand, times=2)


@checks("training_step_by_hand")
def test_it_learns_induction(training_step_by_hand):
    """A tiny set-up, two layers: 100 steps, about a second."""
    model, generator = (
        Transformer(ModelConfig(n_heads=2, d_model=32, d_vocab=14, n_ctx=12), seed=0),
        seeded(),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2, betas=(0.9, 0.99), weight_decay=0.0)
    for _ in range(100):
        training_step_by_hand(
            model, optimizer, repeated_tokens(32, 13, 14, (2, 5), generator).tokens
        )
    right = strict_induction_accuracy(model, held_out(model, (2, 5), 128))
    expect(
        right > 0.9,
        f"after 100 of your steps {right:.0%} of the predictable tokens are right; more than 90 % can be",
    )


@checks(
    "crossing_step",
    mistakes={
        "the share is of the last value, not of the way from the first to the last": crossing(
            from_zero=True
        ),
        "a measured step was returned; go on a straight line between two measurements": crossing(
            between="none"
        ),
        "the index of the measurement was returned, not a step": crossing(between="index"),
        "the last crossing was taken, not the first": crossing(last=True),
        "a falling curve was treated like a rising one": crossing(rising=True),
    },
)
def test_crossings_that_can_be_drawn(crossing_step):
    steps = [0, 1, 2, 4, 8, 16, 32]
    curves = [
        ("rising", [0.2, 0.2, 0.3, 0.35, 0.7, 0.9, 1.0], 0.5, 4 + 4 * 0.25 / 0.35),
        ("falling", [4.0, 3.9, 3.0, 2.1, 2.0, 0.5, 0.0], 0.25, 2.0),
        ("there, back, and there again", [1.0, 1.5, 2.5, 1.2, 1.0, 2.0, 3.0], 0.5, 1.5),
    ]
    for name, values, share, step in curves:
        got = float(crossing_step(steps, values, share))
        expect_close(
            got, step, "", f"{name}: {values} at the steps {steps} has gone {share:.0%} of its way"
        )
    try:
        crossing_step.function([0, 1, 2], [1.0, 3.0, 1.0])
        expect(
            False, "a curve that ends where it began has no way to go: a ValueError was expected"
        )
    except ValueError:
        pass


@checks(
    "diagnose",
    mistakes={
        "one good period is enough for it; any habit has that": verdict_from(
            lambda right: (max(right), max(right))
        ),
        "the accuracies were averaged over the periods": verdict_from(
            lambda right: 2 * (sum(right) / len(right),)
        ),
        "all positions were counted, also those where nobody can know the next token": (
            verdict_from(lambda right: (min(right), max(right)), everywhere=True)
        ),
    },
)
def test_models_of_known_habits(diagnose):
    zoo = [("induction", "planted.induction_model", planted.induction_model(12, 12))]
    zoo += [("induction", "planted.pointer_model", planted.pointer_model(12, 12))]
    zoo += [
        ("some periods only", f"a model that copies what stood {d} back", looks_back(d))
        for d in (6, 5, 8)
    ]
    zoo += [("neither", "random weights", Transformer(CFG, seed=seed)) for seed in range(2)]
    for right, name, model in zoo:
        got = diagnose(model)
        expect(got == right, f'{name}: expected "{right}", got {got!r}')


@checks(
    "diagnose",
    mistakes={
        "only one period was tried: a model that was trained on that one passes": (
            verdict_from(lambda right: (right[0], right[0]), periods=lambda n: [10])
        )
    },
)
def test_trained_models(diagnose):
    """The impostor among them, to which one period was all the world; and a model whose n_ctx is
    more than its d_vocab.
    """
    right = {
        "induction": "induction",
        "additive": "induction",
        "impostor": "some periods only",
        "one-layer": "some periods only",
    }
    zoo = {name: (load(name), truth) for name, truth in right.items()}
    zoo["planted.induction_model()"] = planted.induction_model(), "induction"
    zoo["planted.pointer_model()"] = planted.pointer_model(), "induction"
    zoo["random weights"] = Transformer(ModelConfig(), seed=0), "neither"
    for name, (model, truth) in zoo.items():
        got = diagnose(model)
        expect(got == truth, f'{name}: expected "{truth}", got {got!r}')
