"""The examination of chapter 18: true claims pass, all others fail, and nothing is given away."""

import pytest
import torch

from exercises import stubs
from exercises.attempts import Wrong
from minitransformer.planted import duplicated_heads_model
from solutions.ch18_blind_models import (
    UNCHANGED,
    Change,
    Route,
    edges_in,
    run_changed,
    sure_answers,
)
from solutions.examination import blind_model, changes_for, verdict_on
from solutions.investigation import claim_about, sequences
from solutions.many_changes import answers_under
from tests.exercises.guarded import Promise
from tests.exercises.oracles import ch18_models
from tests.exercises.oracles.ch18_exam import Exam
from tests.exercises.oracles.ch18_models import KINDS, blind_model_of, own_model
from tests.exercises.oracles.ch18_stories import STORIES, TEXTBOOK, q_for_k, without_one
from tests.material import small_model

SEEDS = (4, 5)  # tests/benchmarks/blind.py has twenty
OF_SEED = {seed: [blind_model_of(kind, seed) for kind in KINDS] for seed in SEEDS}
MODELS = OF_SEED[SEEDS[0]]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_true_claim_passes_and_no_other(seed):
    claims = [claim_about(model) for model in OF_SEED[seed]]
    for i, model in enumerate(OF_SEED[seed]):
        exam = Exam(model, seed)
        for j, claim in enumerate(claims):
            assert exam.holds(claim) == (i == j), f"claim {j} on model {i}"
        words = [verdict.word for verdict in exam.verdicts(claims[i])]
        assert words.count("right") >= 0.95 * (len(words) - words.count("vacuous"))
        for name, story in STORIES.items():
            is_true = name == "nothing matters" and not claims[i]
            assert exam.holds(story(model)) == is_true, f"{name}, model {i}"


@pytest.mark.parametrize("config", [{"d_mlp": 5}, {"layer_norm": True}, {"smeared_keys": True}])
def test_edges_are_those_of_attention_alone(config):
    with pytest.raises(ValueError, match="attention alone"):
        edges_in(small_model(**config))


@pytest.mark.parametrize("number", range(1, len(KINDS)))
def test_one_edge_less_is_refused(number):
    model = MODELS[number]
    claim, exam = claim_about(model), Exam(model, 1)
    for shorter in without_one(claim):
        assert not exam.holds(shorter)
    if claim:
        assert not exam.holds(q_for_k(claim))


@pytest.mark.parametrize("model", [MODELS[-1], duplicated_heads_model(2, 9, 8)])
def test_many_changes_at_once_are_each_of_them(model):
    """In the stream and beside it; three layers and two."""
    tokens = sequences(model, batch=2)
    heads = ["0.0", "1.0"]
    routes = [Route(TEXTBOOK, (f"{head}>logits",)) for head in heads]
    changes = changes_for(routes, model)[::7] + [Change(("0.0",), ("1.1",), ("1.0>logits",))]
    found = answers_under(model, tokens, [UNCHANGED, *changes])
    assert torch.equal(found[0], sure_answers(model(tokens)))
    for change, answers in zip(changes, found[1:]):
        assert torch.equal(answers, sure_answers(run_changed(model, tokens, change))), change


def test_verdicts_by_hand():
    """Ten answers, 3 4 5 ...; no change, and changes that take some of them."""
    before = torch.arange(3, 13)[None]
    none = torch.full_like(before, -1)

    def word(said, promised, after, change=UNCHANGED):
        return verdict_on(change, said, promised, after, before).word

    one_off = before.clone()
    one_off[0, 4] = 1
    change = Change(zero=("0.0",))
    assert word(before, before, before) == "right"
    assert word(one_off, one_off, before) == "wrong"  # 90 %, and 95 are asked for
    assert word(none, before, none, change) == word(before, before, before, change) == "right"
    assert word(none, before, before, change) == word(before, before, none, change) == "wrong"
    assert word(before, before, one_off, change) == "right"  # 90 % are enough here
    assert word(none, none, none, change) == word(none, none, before, change) == "vacuous"
    nothing = torch.full_like(before, -1)
    assert verdict_on(UNCHANGED, none, none, nothing, nothing).word == "right"


def test_a_claim_that_runs_the_model_is_refused():
    model = MODELS[0]

    def cheat(tokens):
        return int(model(torch.tensor([tokens]))[0, -1].argmax())

    with pytest.raises(Promise, match="without it"):
        Exam(model, 1).verdicts([Route(cheat, ("embed>logits",))])
    assert model(torch.tensor([[0, 1]])).shape == (1, 2, 19)  # and it runs again afterwards


@pytest.mark.parametrize(
    "route, sentence",
    [
        (Route(TEXTBOOK, ("0.1>0.2.k",)), "no edge '0.1>0.2.k'"),
        (Route(TEXTBOOK, "0.1>1.2.k"), "must be a tuple"),
        (Route(TEXTBOOK, ("0.1>1.2.k",), unless="0.1"), "no edge '0.1'"),
        (Route(None, ("0.1>1.2.k",)), "must be a function"),
    ],
)
def test_what_is_no_claim_gets_a_sentence(route, sentence):
    with pytest.raises(Wrong, match=sentence):
        Exam(MODELS[0], 1).verdicts([route])


def test_a_report_says_which_predictions_failed_and_on_what():
    model = MODELS[1]
    report = Exam(model, 1).report([Route(lambda tokens: 3, ("1.0>logits",))])
    first, *places = report.splitlines()
    assert "predictions" in first and places[0].startswith("  where:     unchanged; on 0 ")
    assert "the claim says 3, the model" in places[0] and len(places) <= 4
    for kind in KINDS:
        assert kind.__name__ not in report.replace("nothing", "")


def test_own_models_are_drawn_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(ch18_models, "unknown_seed", lambda: 7)
    first = own_model("B", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{x}.pt" for x in "ABCDEFGH"]
    monkeypatch.setattr(ch18_models, "unknown_seed", lambda: 8)
    assert torch.equal(own_model("B", tmp_path).W_Q, first.W_Q)
    with pytest.raises(ValueError, match="A to H"):
        blind_model("I")


def test_no_file_that_a_learner_reads_names_a_kind():
    names = ["impostor", "decoy", "pointer_", "backup", "lag matcher", "duplicate", "skip"]
    texts = [stubs.exercise_path("ch18_blind_models"), stubs.ROOT / "solutions/examination.py"]
    for path in texts:
        text = path.read_text(encoding="utf-8").lower()
        assert not [name for name in names if name in text], path.name
