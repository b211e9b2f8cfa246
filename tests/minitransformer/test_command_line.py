"""python -m minitransformer: what a learner types. What is refused: bad_input_cases.py."""

import contextlib
import io
import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

from minitransformer import ModelConfig, Transformer, checkpoint, load, train
from minitransformer.__main__ import main
from minitransformer.commands import EXIT_BAD_INPUT, EXIT_INTERRUPTED, choose_device
from minitransformer.config import PRESETS

PICTURES = {f"run_{name}.png" for name in ("training", "loss_by_position", "attention")}


def typed(words: str, *paths) -> int:
    """The exit code of a command line; the paths come last."""
    return main([*words.split(), *map(str, paths)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder, what was printed) of a training far too short to learn anything."""
    folder, printed = tmp_path_factory.mktemp("runs") / "run", io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert typed("train --steps 12 --seed 3 --device cpu --out", folder) == 0
    return folder, printed.getvalue()


def test_train_says_what_it_does_what_it_reached_and_what_to_expect(trained):
    folder, printed = trained
    for words in (
        "device: cpu (as asked)",
        f"training 'induction' into {folder}",
        "trained 12 steps",
        "stopped by: steps",
        "reached: accuracy on predictable tokens",
        "expect: ",
        *PICTURES,
    ):
        assert words in printed
    assert isinstance(load(folder), Transformer)
    assert len(train.load_snapshots(folder)) == 12  # 0 to 11
    assert is_picture(folder / "figures", PICTURES)
    record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert record["train"]["seed"] == 3 and record["steps"] == 12


def is_picture(folder, names) -> bool:
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    drawn = [text[:4] == b"\x89PNG" and len(text) > 10_000 for text in contents.values()]
    return set(contents) == names and all(drawn)


def test_look_draws_into_the_folder_asked_for(trained, tmp_path, capsys):
    folder = tmp_path / "new" / "pictures"
    assert typed("look", trained[0], "--out", folder) == 0
    assert is_picture(folder, PICTURES)
    printed = capsys.readouterr().out
    assert all(str(folder / name) in printed for name in PICTURES)


def test_evaluate_prints_every_period_every_position_and_every_head(trained, capsys):
    assert typed("evaluate", trained[0]) == 0
    printed = capsys.readouterr().out
    for words in ("  1* ", " 16* ", " 17  ", " 29  ", "loss by position", "induction_accuracy"):
        assert words in printed
    assert all(f"head {layer}.{head}" in printed for layer in range(2) for head in range(4))
    assert "held out" not in printed


def test_a_model_without_layers_or_record_can_be_evaluated_and_looked_at(tmp_path, capsys):
    checkpoint.save(tmp_path / "bigram.pt", Transformer(ModelConfig(n_layers=0)))
    assert typed("evaluate", tmp_path / "bigram.pt") == 0
    assert typed("look", tmp_path / "bigram.pt", "--out", tmp_path / "out") == 0
    assert is_picture(tmp_path / "out", {"bigram_loss_by_position.png"})


@pytest.mark.parametrize("preset", ["arithmetic", "digits"])
def test_arithmetic_models_get_their_own_tables_and_pictures(preset, tmp_path, capsys):
    run = tmp_path / "run"
    assert typed(f"train --preset {preset} --steps 2 --device cpu --out", run) == 0
    assert is_picture(run / "figures", {"run_training.png", "run_right_answers.png"})
    printed = capsys.readouterr().out
    assert "reached: right answers: train" in printed and "induction" not in printed
    for where in (run, run / "snapshots" / "00002.pt"):  # a snapshot has no record beside it
        assert typed("evaluate", where) == 0
        printed = capsys.readouterr().out
        assert "right answers      train   held out     region" in printed
        assert "induction" not in printed
        assert ("  x  " in printed) == (preset == "arithmetic")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_ctrl_c_saves_says_how_to_go_on_and_that_works(tmp_path, capsys, monkeypatch):
    real = train.training_step

    def press(run):
        if run.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        real(run)

    monkeypatch.setattr(train, "training_step", press)
    words = "train --preset one-layer --steps 8 --device cpu --out"
    assert typed(words, tmp_path / "my run") == EXIT_INTERRUPTED
    printed = capsys.readouterr().out
    assert "stopped at step 5, everything saved" in printed
    monkeypatch.setattr(train, "training_step", real)
    (command,) = [line for line in printed.splitlines() if "--resume" in line]
    assert main(shlex.split(command)[3:]) == 0
    printed = capsys.readouterr().out
    assert "resuming" in printed and "trained 8 steps" in printed


def test_pictures_that_cannot_be_written_do_not_hide_that_the_model_is(tmp_path, capsys):
    (tmp_path / "figures").write_text("in the way", encoding="utf-8")
    assert typed("train --steps 3 --device cpu --out", tmp_path) == EXIT_BAD_INPUT
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: the model is saved, but no pictures: ")
    assert said.endswith(f"Draw them with: python -m minitransformer look {tmp_path} --out figures")
    assert (tmp_path / "model.json").exists() and load(tmp_path).cfg.n_layers == 2


def test_the_device_is_chosen_with_a_reason(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    assert "cpu (no cuda and no mps here)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--device cuda: .* has no cuda. It has: cpu"):
        choose_device("cuda")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device("auto") == "mps" and choose_device("cpu") == "cpu"


# ---- as a program


PROGRAM = """
import sys
import minitransformer
from minitransformer.__main__ import main
print(sorted({"matplotlib", "pytest", "torchvision"} & set(sys.modules)))
sys.exit(main(["evaluate", "no-such-model"]))
"""


def test_a_fresh_process_loads_no_plotting_and_answers_bad_input_with_one_sentence():
    program = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(program, capture_output=True, encoding="utf-8")
    assert done.returncode == EXIT_BAD_INPUT and done.stdout == "[]\n"
    assert done.stderr.startswith("error: there is no model at 'no-such-model'")
    assert done.stderr.count("\n") == 1


def test_every_preset_says_what_it_is_for_and_what_to_expect(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = capsys.readouterr().out
    for name, preset in PRESETS.items():
        assert name in printed and preset.purpose in printed and preset.expect
