"""What is measured, against the definitions in loops, and on models whose answer is known."""

import math

import pytest
import torch

from minitransformer import (
    ModelConfig,
    Repeats,
    TrainConfig,
    Transformer,
    checkpoint,
    evaluate,
    pretrained_names,
)
from minitransformer.config import from_dict
from minitransformer.data import random_tokens, repeated_tokens
from minitransformer.evaluate import (
    follows_earlier_copy,
    head_scores,
    held_out,
    predict,
    repeat_scores,
)
from minitransformer.planted import induction_model
from minitransformer.report import provenance_of
from minitransformer.tasks import task_called
from tests.material import seeded

SMALL = ModelConfig(n_heads=3, d_model=12, d_head=5, d_vocab=16, n_ctx=12)


def batch(periods=(1, 6), rows=5, vocab=16, length=12):
    return repeated_tokens(rows, length, vocab, periods, seeded())


def slow_follows(tokens, query, key):
    """Does key stand directly after an earlier copy of the token at query?"""
    return 1 <= key <= query and tokens[key - 1] == tokens[query]


def test_follows_earlier_copy_is_its_definition():
    tokens = torch.cat([batch().tokens, random_tokens(5, 12, 4, seeded(1))])
    found = follows_earlier_copy(tokens)
    for row, sequence in enumerate(tokens.tolist()):
        for query in range(12):
            for key in range(12):
                assert found[row, query, key] == slow_follows(sequence, query, key)


@torch.no_grad()
def test_head_scores_are_their_definitions():
    model, repeats = Transformer(SMALL, seed=1).double(), batch()
    _, cache = model.run_with_cache(repeats.tokens)
    scores = head_scores(model, repeats)
    for layer in range(2):
        for head in range(3):
            pattern = cache[f"blocks.{layer}.attn.hook_pattern"][:, head]  # batch query key
            previous, induction = [], []
            for row, tokens in enumerate(repeats.tokens.tolist()):
                previous += [pattern[row, query, query - 1].item() for query in range(1, 12)]
                for query in range(12):
                    if repeats.predictable[row, query]:
                        keys = [key for key in range(12) if slow_follows(tokens, query, key)]
                        induction.append(sum(pattern[row, query, key].item() for key in keys))
            found = scores.previous_token[layer, head].item(), scores.induction[layer, head].item()
            expected = sum(previous) / len(previous), sum(induction) / len(induction)
            assert found == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_losses_and_accuracy_are_their_definitions():
    model, repeats = Transformer(SMALL, seed=1).double(), batch()
    found, log_probs = predict(model, repeats.tokens), model(repeats.tokens).log_softmax(dim=-1)
    known, elsewhere, right = [], [], []
    for row, tokens in enumerate(repeats.tokens.tolist()):
        for position in range(11):
            loss = -log_probs[row, position, tokens[position + 1]].item()
            best = max(range(16), key=lambda token: log_probs[row, position, token].item())
            assert found.losses[row, position].item() == pytest.approx(loss, abs=1e-10)
            assert found.correct[row, position].item() == (best == tokens[position + 1])
            if repeats.predictable[row, position]:
                known.append(loss)
                right.append(best == tokens[position + 1])
            else:
                elsewhere.append(loss)
    scores = repeat_scores(model, repeats)
    assert scores["loss_predictable"] == pytest.approx(sum(known) / len(known))
    assert scores["loss_elsewhere"] == pytest.approx(sum(elsewhere) / len(elsewhere))
    assert scores["induction_accuracy"] == pytest.approx(sum(right) / len(right))


def test_a_batch_run_in_parts_scores_as_it_does_in_one(monkeypatch):
    model, repeats = Transformer(SMALL, seed=1).double(), batch(rows=7)
    whole = predict(model, repeats.tokens), head_scores(model, repeats)
    monkeypatch.setattr(evaluate, "rows_at_once", lambda numbers: 3)  # 3 + 3 + 1
    parts = predict(model, repeats.tokens), head_scores(model, repeats)
    for one, other in zip([*whole[0], *whole[1]], [*parts[0], *parts[1]]):
        torch.testing.assert_close(one, other)


# ---- models whose answer is known


def test_a_model_that_knows_nothing_pays_ln_of_the_vocabulary():
    model = Transformer(SMALL)
    with torch.no_grad():
        model.W_U.zero_()
    tokens = random_tokens(50, 12, 16, seeded())
    assert predict(model, tokens).losses.mean().item() == pytest.approx(math.log(16), abs=1e-5)


def test_no_model_beats_ln_of_the_vocabulary_on_random_tokens_by_more_than_luck():
    """The best guess there is costs ln 19 (BOS never comes back), and a planted expert on repeats
    pays no less.
    """
    tokens = random_tokens(4000, 20, 20, seeded())
    assert predict(induction_model(), tokens).losses.mean().item() > math.log(19) - 0.02


def test_planted_heads_get_full_marks():
    model = induction_model(n_ctx=20)
    repeats = held_out(model, (1, 10), batch=64)
    scores, quality = head_scores(model, repeats), repeat_scores(model, repeats)
    assert scores.previous_token.max().item() == pytest.approx(1, abs=1e-5)
    assert scores.induction.max().item() == pytest.approx(1, abs=1e-5)
    assert quality["induction_accuracy"] == 1 and quality["loss_predictable"] < 0.01


def test_patterns_set_by_hand_get_the_marks_they_deserve(monkeypatch):
    """Attention to itself earns nothing, to the previous token 1, to all evenly what chance is."""
    repeats, n = batch(periods=(4, 4)), 12
    on_self, on_previous = torch.eye(n), torch.eye(n).roll(-1, dims=1)
    on_previous[0] = torch.eye(n)[0]
    evenly = torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]
    heads = torch.stack([on_self, on_previous, evenly])
    pattern = heads.expand(1, len(repeats.tokens), -1, -1, -1)
    monkeypatch.setattr(evaluate, "attention", lambda model, tokens: pattern)
    scores = head_scores(Transformer(ModelConfig(n_layers=1, n_heads=3, d_vocab=16)), repeats)
    chance = sum(1 / query for query in range(2, n + 1)) / (n - 1)
    assert scores.previous_token[0].tolist() == pytest.approx([0, 1, chance])
    assert scores.induction[0, :2].tolist() == [0, 0] and 0 < scores.induction[0, 2] < 0.5


def test_a_model_without_layers_has_no_heads_to_score():
    model = Transformer(ModelConfig(n_layers=0))
    assert head_scores(model, held_out(model, (1, 8), 8)).induction.shape == (0, 4)
    assert evaluate.summary(model, (1, 8))["best_induction_score"] == 0


def test_the_measuring_sequences_are_the_same_every_time_and_not_those_of_training():
    model = Transformer(ModelConfig())
    first, again = held_out(model, (1, 16)), held_out(model, (1, 16))
    assert torch.equal(first.tokens, again.tokens) and isinstance(first, Repeats)
    seeds = range(50)
    assert evaluate.HELD_OUT not in seeds


def test_accuracy_by_period_covers_every_period_that_fits():
    assert list(evaluate.accuracy_by_period(Transformer(SMALL), batch=4)) == list(range(1, 10))


# ---- the models that ship with the course


@pytest.mark.parametrize("name", pretrained_names())
def test_the_recorded_scores_of_shipped_models_follow_from_their_weights(name):
    model = checkpoint.load(name)
    record = provenance_of(name, model)
    config = from_dict(TrainConfig, record["train"])
    scores = task_called(config.task).summary(model, config)
    assert scores == pytest.approx(record["scores"], abs=1e-3)
    for field in ("command", "model", "train", "versions", "steps", "seconds", "history"):
        assert record[field], field
