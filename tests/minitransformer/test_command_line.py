"""python -m minitransformer: what a learner types, and what they are told when it cannot be
done.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minitransformer import ModelConfig, Transformer, checkpoint, load, train
from minitransformer.__main__ import EXIT_BAD_INPUT, EXIT_INTERRUPTED, choose_device, main
from minitransformer.config import PRESETS

PICTURES = {f"run_{name}.png" for name in ("training", "loss_by_position", "attention")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder, what was printed) of a training far too short to learn anything."""
    folder, printed = tmp_path_factory.mktemp("runs") / "run", io.StringIO()
    arguments = ["train", "--steps", "12", "--seed", "3", "--device", "cpu", "--out", str(folder)]
    with contextlib.redirect_stdout(printed):
        assert main(arguments) == 0
    return folder, printed.getvalue()


@pytest.fixture
def folder(trained, tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def refuses(capsys, words, *arguments):
    """Exit code 2, one sentence on stderr with these words in it, no traceback."""
    assert main([str(argument) for argument in arguments]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert (
        words in said and "Traceback" not in said and said.count("\n") == 1 and said.endswith(".\n")
    )


# ---- what works


def test_train_says_what_it_does_what_it_reached_and_what_to_expect(trained):
    folder, printed = trained
    for words in (
        "device: cpu (as asked)",
        f"training 'induction' into {folder}",
        "trained 12 steps",
        "stopped by: steps",
        "reached: strict induction accuracy",
        "expect: ",
        *PICTURES,
    ):
        assert words in printed
    # 0 to 11
    assert isinstance(load(folder), Transformer) and len(train.load_snapshots(folder)) == 12
    assert is_picture(folder / "figures", PICTURES)
    record = json.loads((folder / "model.json").read_text())
    assert record["train"]["seed"] == 3 and record["steps"] == 12


def is_picture(folder, names) -> bool:
    return {path.name for path in folder.iterdir()} == names and all(
        path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 10_000
        for path in folder.iterdir()
    )


def test_look_draws_into_the_folder_asked_for(trained, tmp_path, capsys):
    assert main(["look", str(trained[0]), "--out", str(tmp_path / "new" / "pictures")]) == 0
    assert is_picture(tmp_path / "new" / "pictures", PICTURES)
    printed = capsys.readouterr().out
    assert all(str(tmp_path / "new" / "pictures" / name) in printed for name in PICTURES)


def test_evaluate_prints_every_period_every_position_and_every_head(trained, capsys):
    assert main(["evaluate", str(trained[0])]) == 0
    printed = capsys.readouterr().out
    assert "  1* " in printed and " 16* " in printed and " 17  " in printed and " 29  " in printed
    assert all(f"head {layer}.{head}" in printed for layer in range(2) for head in range(4))
    assert (
        "loss by position" in printed
        and "induction_accuracy" in printed
        and "held out" not in printed
    )


def test_a_model_without_layers_or_record_can_be_evaluated_and_looked_at(tmp_path, capsys):
    checkpoint.save(tmp_path / "bigram.pt", Transformer(ModelConfig(n_layers=0)))
    assert main(["evaluate", str(tmp_path / "bigram.pt")]) == 0
    assert main(["look", str(tmp_path / "bigram.pt"), "--out", str(tmp_path / "out")]) == 0
    assert is_picture(tmp_path / "out", {"bigram_loss_by_position.png"})


@pytest.mark.parametrize("preset", ["arithmetic", "digits"])
def test_arithmetic_models_get_their_own_tables_and_pictures(preset, tmp_path, capsys):
    arguments = [
        "train",
        "--preset",
        preset,
        "--steps",
        "2",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(arguments) == 0
    pictures = {"run_training.png", "run_right_answers.png"}
    assert is_picture(tmp_path / "run" / "figures", pictures)
    printed = capsys.readouterr().out
    assert "reached: right answers: train" in printed and "induction" not in printed
    # a snapshot has no record beside it
    for where in (tmp_path / "run", tmp_path / "run" / "snapshots" / "00002.pt"):
        assert main(["evaluate", str(where)]) == 0
        printed = capsys.readouterr().out
        assert (
            "right answers      train   held out     region" in printed
            and "induction" not in printed
        )
        assert ("  x  " in printed) == (preset == "arithmetic")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
def test_ctrl_c_saves_says_how_to_go_on_and_that_works(tmp_path, capsys, monkeypatch):
    real = train.training_step

    def press(run):
        if run.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        real(run)

    monkeypatch.setattr(train, "training_step", press)
    arguments = ["train", "--preset", "one-layer", "--steps", "8", "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == EXIT_INTERRUPTED
    printed = capsys.readouterr().out
    assert "stopped at step 5, everything saved" in printed
    monkeypatch.setattr(train, "training_step", real)
    (command,) = [line for line in printed.splitlines() if "--resume" in line]
    assert main(command.split()[3:]) == 0
    assert "resuming" in (printed := capsys.readouterr().out) and "trained 8 steps" in printed


def test_the_device_is_chosen_with_a_reason(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert (
        choose_device("auto") == "cpu"
        and "cpu (no cuda and no mps here)" in capsys.readouterr().out
    )
    with pytest.raises(ValueError, match="--device cuda: .* has no cuda. It has: cpu"):
        choose_device("cuda")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device("auto") == "mps" and choose_device("cpu") == "cpu"


# ---- what is refused


def test_numbers_that_make_no_sense_are_refused(tmp_path, capsys):
    for option, words in (("--steps", "steps must be"), ("--seed", "seed must be")):
        refuses(capsys, words, "train", option, "-1", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["train", "--preset", "x"], ["train", "--steps", "x"], ["look"]]
)
def test_options_that_do_not_exist_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == EXIT_BAD_INPUT and "error:" in capsys.readouterr().err


def test_an_existing_run_is_refused_and_untouched(folder, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    refuses(
        capsys, f"already holds a run. Continue it with --resume {folder}", "train", "--out", folder
    )
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_a_place_that_cannot_be_written_is_refused(trained, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        refuses(capsys, "Choose another folder with --out", "train", "--out", out)
        refuses(capsys, "Choose another folder with --out", "look", trained[0], "--out", out)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("command", ["evaluate", "look"])
def test_a_model_that_is_not_there_or_is_broken_is_refused(command, folder, tmp_path, capsys):
    out = ["--out", tmp_path / "out"] if command == "look" else []
    refuses(capsys, "there is no model at", command, tmp_path / "nothing", *out)
    for record in ("{", '["a list"]'):
        (folder / "model.json").write_text(record)
        refuses(capsys, "is not the record of this model's training", command, folder, *out)
    whole = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(whole[: len(whole) // 2])
    refuses(capsys, "is damaged", command, folder, *out)


def test_what_cannot_be_resumed_is_refused(folder, tmp_path, capsys):
    refuses(capsys, "there is no folder", "train", "--resume", tmp_path / "nothing")
    refuses(
        capsys, "leave out all options but --device", "train", "--resume", folder, "--steps", "50"
    )
    (folder / "model.pt").write_bytes(b"")
    refuses(capsys, "is damaged", "train", "--resume", folder)


# ---- as a program


PROGRAM = """
import sys
import minitransformer
from minitransformer.__main__ import main
print(sorted({"matplotlib", "pytest", "torchvision"} & set(sys.modules)))
sys.exit(main(["evaluate", "no-such-model"]))
"""


def test_a_fresh_process_loads_no_plotting_and_answers_bad_input_with_one_sentence():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == EXIT_BAD_INPUT and done.stdout == "[]\n"
    assert (
        done.stderr.startswith("error: there is no model at 'no-such-model'")
        and done.stderr.count("\n") == 1
    )


def test_every_preset_says_what_it_is_for_and_what_to_expect(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = capsys.readouterr().out
    for name, preset in PRESETS.items():
        assert name in printed and preset.purpose in printed and preset.expect
