"""Arithmetic: the problems against their definition, the tasks that train on them, the shipped
models.
"""

import re
from itertools import product

import pytest
import torch

from minitransformer import (
    ModelConfig,
    TrainConfig,
    arithmetic,
    checkpoint,
    pretrained_names,
    train,
)
from minitransformer.arithmetic import (
    KINDS,
    MINUS,
    OPERATORS,
    PAIRS,
    REGION,
    TIMES,
    TRAIN,
    draw_problems,
    problems,
)
from minitransformer.config import PRESETS
from minitransformer.evaluate import answered, problem_scores, wrong_answers
from minitransformer.files import PRETRAINED
from minitransformer.report import kinds_of_mistakes, right_by_operands, task_of
from minitransformer.tasks import predict_by, task_called, task_that_fits
from tests.material import same_tensors, seeded, small_model

SHIPPED = [name for name in pretrained_names() if name in KINDS]
COMPUTE = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "x": lambda a, b: a * b % 100}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def some_rows(kind, count=2000):
    rows = torch.randperm(len(problems(kind).tokens), generator=seeded(0))[:count]
    return problems(kind), rows.tolist()


# ---- the problems


def problem(listed, row):
    """("-", 12, 34)"""
    return OPERATORS[listed.operator[row]], listed.a[row].item(), listed.b[row].item()


def expected_text(kind, operator, a, b, d):
    c = COMPUTE[operator](a, b)
    if kind == "digits":
        return " ".join(["BOS", *f"{a:02d}", operator, *f"{b:02d}", "=", *f"{c:03d}"])
    second = f" ; {c} + {d} = {c + d}" if kind == "two-step" else ""
    return f"{a} {operator} {b} = {c}{second}"


def test_every_row_is_its_problem_worked_out(kind):
    listed, rows = some_rows(kind)
    for row in rows:
        operator, a, b = problem(listed, row)
        d = int(listed.words[listed.tokens[row, 8]]) if kind == "two-step" else None
        text = expected_text(kind, operator, a, b, d)
        assert listed.decode(listed.tokens[row]) == text
        assert torch.equal(listed.encode(text)[0], listed.tokens[row])


def test_every_problem_is_there_once(kind):
    listed = problems(kind)
    columns = [listed.operator, listed.a, listed.b]
    if kind == "two-step":
        columns.append(listed.tokens[:, 8])
    assert len(torch.stack(columns).unique(dim=1).T) == len(listed.tokens)
    every = {"arithmetic": 3 * 50 * 50, "digits": 100 * 100 + 100 * 101 // 2, "two-step": 2 * 50**3}
    assert len(listed.tokens) == every[kind]


def test_every_word_is_used_and_no_other(kind):
    listed = problems(kind)
    assert listed.tokens.unique().tolist() == list(range(len(listed.words)))
    assert len(set(listed.words)) == len(listed.words)


def test_predictable_positions_come_before_the_answers(kind):
    listed = problems(kind)
    words = listed.decode(listed.tokens[0]).split()
    for position, predictable in enumerate(listed.predictable.tolist()):
        begun = "=" in words[: position + 1] and position + 1 < len(words)
        assert predictable == (begun and (kind == "digits" or words[position] in ("=", ";")))


def test_the_first_answer_is_read_back(kind):
    listed, rows = some_rows(kind, 200)
    each = [problem(listed, row) for row in rows]
    expected = [COMPUTE[operator](a, b) for operator, a, b in each]
    assert listed.first_answer(listed.tokens[rows]) == expected
    broken = listed.tokens[rows[:1]].clone()
    broken[0, listed.predictable.nonzero()[0] + 1] = listed.words.index("=")
    assert listed.first_answer(broken) == [None]


def test_the_worked_rows_are_problems(kind):
    listed = problems(kind)
    rows = re.findall(r"token +(.* =.*)", arithmetic.__doc__)
    (text,) = [row for row in rows if len(row.split()) == len(listed.predictable)]
    assert (listed.tokens == listed.encode(text)).all(dim=1).any()


# ---- what is kept from training


def test_the_region_is_all_differences_of_large_numbers_and_nothing_else(kind):
    listed, start = problems(kind), {"digits": 70}.get(kind, 35)
    for row in some_rows(kind)[1]:
        operator, a, _ = problem(listed, row)
        assert (listed.split[row].item() == REGION) == (operator == "-" and a >= start)


def test_held_out_is_a_tenth_in_both_orders_or_with_x_in_one(kind):
    listed = problems(kind)
    columns = (listed.operator, listed.a, listed.b, listed.split)
    splits = {}  # of each first step
    for operator, a, b, split in zip(*(column.tolist() for column in columns)):
        splits.setdefault((operator, a, b), set()).add(split)
    trained = {step: TRAIN in found for step, found in splits.items() if REGION not in found}
    for operator in listed.operator.unique().tolist():
        shares = [share for step, share in trained.items() if step[0] == operator]
        assert 0.08 < 1 - sum(shares) / len(shares) < 0.12
    for (operator, a, b), here in trained.items():
        mirrored = trained.get((operator, b, a))
        if mirrored is not None and operator == TIMES:
            assert here or mirrored
        elif mirrored is not None:
            assert here == mirrored


def test_second_steps_are_held_out_too():
    listed = problems("two-step")
    train, kept = listed.rows(TRAIN), listed.rows(PAIRS)
    second = listed.tokens[:, 6] * 1000 + listed.tokens[:, 8]  # c + d
    first = (listed.operator * 1000 + listed.a) * 1000 + listed.b
    old = torch.isin(second[kept], second[train]) & torch.isin(first[kept], first[train])
    assert not old.any()  # in every held-out problem at least one of the two steps is new
    assert (~torch.isin(second[kept], second[train])).float().mean() > 0.3


def test_the_split_is_the_same_on_every_machine():
    """The first held-out problems, written down: who trains elsewhere holds out the same ones."""
    listed = problems("arithmetic")
    first = [listed.decode(listed.tokens[row]) for row in listed.rows(PAIRS)[:4]]
    assert first == ["0 + 10 = 10", "0 + 12 = 12", "0 + 25 = 25", "0 + 33 = 33"]
    assert [len(listed.rows(split)) for split in range(3)] == [6105, 645, 750]


def test_batches_are_training_problems_and_the_generator_decides_them(kind):
    listed, state = problems(kind), torch.get_rng_state()
    first, again = draw_problems(listed, 500, seeded()), draw_problems(listed, 500, seeded())
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.tokens, draw_problems(listed, 500, seeded(1)).tokens)
    assert torch.equal(torch.get_rng_state(), state)
    trained = {tuple(row) for row in listed.tokens[listed.rows(TRAIN)].tolist()}
    assert all(tuple(row) in trained for row in first.tokens.tolist())
    assert first.predictable.tolist() == [listed.predictable.tolist()] * 500


# ---- the tasks


def model_for(kind, **config):
    """With LayerNorm and MLPs, of the kind's vocabulary and length."""
    words, length = len(problems(kind).words), problems(kind).tokens.shape[1]
    shape = {"n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": words, "n_ctx": length}
    return small_model(0, **shape | {"d_mlp": 12, "layer_norm": True} | config)


def test_every_preset_fits_its_task_and_a_model_without_a_record_is_recognised(kind):
    preset = PRESETS[kind]
    task_called(kind).check(preset.model, preset.train)
    assert preset.train.task == kind == task_that_fits(preset.model)
    assert task_that_fits(ModelConfig()) == "repeats"


def test_the_target_is_about_held_out_problems():
    config = TrainConfig("arithmetic", steps=200, batch_size=256, elsewhere=0.0, eval_every=2)
    run = train.train(model_for("arithmetic").cfg, config.changed(target=0.02))
    assert run.stopped == "target"
    assert min(row["held_out_accuracy"] for row in run.history[-2:]) >= 0.02


def test_a_run_stopped_and_resumed_goes_on_bit_for_bit(kind, tmp_path):
    cfg = model_for(kind).cfg
    config = TrainConfig(kind, steps=12, batch_size=8, weight_decay=1.0, save_every=5, eval_every=6)
    whole = train.train(cfg, config)
    run = train.start(cfg, config)
    for _ in range(7):
        train.training_step(run)
    train.save_run(run, tmp_path / "run")
    rest = train.resume(tmp_path / "run")
    assert same_tensors(rest.model.state_dict(), whole.model.state_dict())


def test_scores_count_a_problem_as_right_only_if_its_whole_answer_is(kind):
    model, (listed, rows) = model_for(kind), some_rows(kind, 40)
    losses, right = problem_scores(model, listed, torch.tensor(rows))
    log_probs = model(listed.tokens[rows]).log_softmax(dim=-1)
    known = listed.predictable.nonzero()[:, 0].tolist()
    for i, row in enumerate(rows):
        answer = [listed.tokens[row, position + 1] for position in known]
        total = -sum(log_probs[i, position, token].item() for position, token in zip(known, answer))
        assert losses[i].item() == pytest.approx(total / len(known), rel=1e-4)
        said = [log_probs[i, position].argmax() for position in known]
        assert right[i] == (said == answer)


def test_a_model_that_writes_its_own_answers_is_right_about_the_same_problems(kind):
    model = checkpoint.load(kind) if kind in SHIPPED else model_for(kind).float()
    listed = problems(kind)
    rows = torch.cat([listed.rows(PAIRS)[:150], listed.rows(REGION)[:150]])
    written = answered(model, listed, rows)
    same = (written == listed.tokens[rows]).all(dim=1)
    assert torch.equal(same, problem_scores(model, listed, rows).correct)
    changed = (written != listed.tokens[rows]).any(dim=0)
    assert not changed[0] and not changed[1:][~listed.predictable[:-1]].any()


def test_mistakes_are_counted_by_what_they_are():
    listed, rows = problems("arithmetic"), problems("arithmetic").rows(REGION)
    assert listed.operator[rows].unique().tolist() == [MINUS]
    wrong = wrong_answers(plus_instead(listed), listed, rows)
    assert {(each.a, each.b) for each in wrong} == set(product(range(35, 50), range(1, 50)))
    kinds = kinds_of_mistakes(wrong)
    assert len(kinds["a + b"]) == len(wrong) and "no number" not in kinds
    assert len(kinds["a multiple of ten away"]) == 15 * 9  # 2b is, for b = 5, 10, ..., 45
    distances = [kind for kind in kinds if kind[0] == "+"]
    assert len(distances) == 5
    for distance in distances:
        assert all(each.said - each.right == int(distance) for each in kinds[distance])


def plus_instead(listed):
    """Stands in for a model: whatever the operator, it says a + b."""

    class Plus(torch.nn.Module):
        cfg, W_E = ModelConfig(), torch.zeros(1)

        def forward(self, tokens):
            logits = torch.zeros(*tokens.shape, len(listed.words))
            logits[:, -1].scatter_(1, (tokens[:, 0] + tokens[:, 2])[:, None], 1.0)
            return logits

    return Plus()


# ---- the models that ship with the course


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_generalises_to_pairs_and_not_to_the_region(name):
    model = checkpoint.load(name)
    assert task_of(name, model) == name
    task = task_called(name)
    (scores,) = task.scores(predict_by(model), task.sample(model, PRESETS[name].train))
    assert scores["train_accuracy"] > 0.98 and scores["held_out_accuracy"] > 0.95
    assert scores["region_accuracy"] < 0.5
    assert (PRETRAINED / f"{name}.pt").stat().st_size < 700_000


def test_the_map_of_right_answers_is_the_share_of_right_problems():
    model, task = model_for("arithmetic").float(), task_called("arithmetic")
    share = right_by_operands(model, task, TIMES)
    rows = (task.problems.operator == TIMES).nonzero()[:, 0]
    right = problem_scores(model, task.problems, rows).correct
    for row, ok in list(zip(rows.tolist(), right.tolist()))[::97]:
        assert share[task.problems.a[row], task.problems.b[row]] == float(ok)
    assert share.shape == (50, 50)
    assert share.sum().item() == pytest.approx(right.sum().item(), abs=1e-3)
