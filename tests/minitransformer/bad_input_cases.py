"""The cases of bad_input.py: what is typed, and words that the answer must have in it.

Files and attempts in them: bad_input_material.py. What is called: bad_input_calls.py.
"""

from minitransformer import pretrained_names

from .bad_input import Case
from .bad_input_calls import CONFIGS, DATA, LOADING, MODEL, SOLUTIONS
from .bad_input_material import CUTS


def commands(module: str, *pairs: tuple[str, str], **fields) -> list[Case]:
    return [Case(f"python -m {module} {words}".strip(), says, **fields) for words, says in pairs]


def attempts(words: str, code: int, messages: dict[str, str]) -> list[Case]:
    """The same command line on several attempts at chapter 1."""
    line = f"python -m {words}"
    return [Case(line, says, code=code, attempt=attempt) for attempt, says in messages.items()]


OPTIONS = commands(
    "minitransformer",
    ("", "required: command"),
    ("dance", "'dance'"),
    ("train --preset huge", "'huge'"),
    ("train --steps many", "'many'"),
    ("train --steps 0", "steps must be a whole number of at least 1, not 0"),
    ("train --steps -1", "steps must be a whole number of at least 1, not -1"),
    ("train --seed -1", "seed must be a whole number of at least 0, not -1"),
    ("train --seed 99999999999999999999", "not 99999999999999999999"),
    ("train --device tpu", "'tpu'"),
    ("train --out ''", "argument --out: the name of a folder is empty"),
    ("train --resume ''", "argument --resume: the name of a folder is empty"),
    ("look run --out ''", "argument --out: the name of a folder is empty"),
    ("train --out run", "run already holds a run. Continue it with --resume run ... --out"),
    ("train --out leftovers", "leftovers holds snapshots of some other run"),
    ("train --out a-file", "cannot write a-file ... Choose another folder with --out"),
    ("train --out a-file/deeper", "cannot write a-file ... Choose another folder with --out"),
    ("evaluate", "required: model"),
    ("look", "required: model"),
    ("evaluate run --out figures", "--out figures"),
    ("look run --out a-file", "a-file: ... Choose another folder with --out"),
    ("look run --out a-file/deeper", "a-file ... Choose another folder with --out"),
)

CHECKPOINTS = commands(
    "minitransformer",
    ("evaluate nowhere", "there is no model at 'nowhere'"),
    ("look nowhere", "there is no model at 'nowhere'"),
    ("evaluate Induction.pt", f"one of the shipped models: {', '.join(pretrained_names())}"),
    ("look nothing-in-it", "there is no model at 'nothing-in-it'"),
    (f"evaluate {'x' * 300}", "there is no model at 'xxx"),
    *((f"evaluate {name}.pt", f"{name}.pt is damaged") for name in CUTS),
    ("evaluate training-damaged", "training-damaged/model.pt is damaged"),
    ("look half.pt", "half.pt is damaged"),
    ("look a-byte-short.pt", "a-byte-short.pt is damaged"),
    ("evaluate text.pt", "text.pt is damaged, or is no checkpoint"),
    ("evaluate code.pt", "holds more than numbers; nothing in it was run"),
    *(
        (f"evaluate {name}.pt", f"{name}.pt was not written by this project")
        for name in "foreign a-list a-tensor a-number older".split()
        + "words numbers list-weights null-weights".split()
    ),
    ("evaluate bigger.pt", "W_E is (9, 8) there, (10, 8) here"),
    ("evaluate enormous.pt", "W_E is (9, 8) there, (10000000000000, 8) here"),
    ("evaluate no-weights.pt", "W_E is missing there"),
    ("evaluate no-W_pos.pt", "W_pos is missing there"),
    ("evaluate surplus.pt", "W_gate is (2,) there, unknown here"),
    ("evaluate newer.pt", "no field called rotary"),
    ("evaluate no-heads.pt", "n_heads must be a whole number of at least 1, not 0"),
    ("evaluate no-config.pt", "the config stored in no-config.pt is not one this version"),
    ("evaluate null-config.pt", "null-config.pt is not one this version can build"),
    ("evaluate list-config.pt", "is not one this version can build ... a dict, not [2, 4]"),
    ("evaluate three-tokens.pt", "nothing can repeat in sequences of 3"),
    ("look few-words.pt", "need d_vocab >= 6, not 4"),
    ("evaluate record-no-json", "record-no-json/model.json is not the record"),
    ("look record-no-json", "record-no-json/model.json is not the record"),
    ("evaluate record-binary", "record-binary/model.json is not the record"),
    ("evaluate record-list", "it must have model, train and history"),
    ("look record-list", "record-list/model.json is not the record of this model's training"),
    ("evaluate record-a-typo", "no field called learning_rat"),
    ("evaluate record-other-task", "there is no task called 'sorting'"),
    ("look record-other-model", "it describes another model"),
    ("look record-no-history", "each row of its history must have"),
    ("look record-half-a-row", "each row of its history must have ... loss_elsewhere"),
    ("look record-words-in-a-row", "each row of its history must have numbers for step"),
)

RESUMING = commands(
    "minitransformer",
    ("train --resume run --steps 9", "leave out all options but --device"),
    ("train --resume run --preset two-step", "leave out all options but --device"),
    ("train --resume nowhere", "there is no folder nowhere"),
    ("train --resume induction", "there is no folder induction"),
    ("train --resume a-file", "there is no folder a-file"),
    ("train --resume run/model.pt", "there is no folder run/model.pt"),
    ("train --resume nothing-in-it", "there is no model at 'nothing-in-it'"),
    ("train --resume training-none", "holds weights but no training state"),
    ("train --resume training-damaged", "training-damaged/model.pt is damaged"),
    *(
        (f"train --resume training-{name}", f"the training state in training-{name}/model.pt")
        for name in "number empty no-json no-optimizer no-dice no-step".split()
    ),
    ("train --resume training-other-task", "the task digits needs d_vocab = 14"),
    ("train --resume snapshot-cut", "snapshots/00001.pt is damaged"),
    ("train --resume snapshot-named", "snapshots/best.pt is no snapshot"),
)

COURSE = [
    *commands(
        "course",
        ("99", "there is no chapter '99'"),
        ("induction", "there is no chapter 'induction'"),
        ("²", "there is no chapter '²'"),
        ("-1", "there is no chapter '-1'"),
        ("1 2", "not understood: 1 2"),
        ("notebook", "which chapter?"),
        ("notebook 99", "there is no chapter '99'"),
        ("1 --yours", "--yours"),
        ("1 --model nowhere", "there is no model at 'nowhere'"),
        ("1 --model induction --model one-layer", "both stand in for the model 'induction'"),
    ),
    *commands("course", ("1", "figures: "), folder="in-the-way"),
    *commands("course", ("notebook 1", "ipynb exists already"), folder="in-the-way"),
    *attempts(
        "course 1 --mine",
        2,
        {
            "a bracket left open": "line 25",
            "latin-1": "it is not UTF-8 text",
            "an unknown import": "No module named 'no_such_module'",
            "a print that stops": "line 25: NameError: name 'undefined'",
            "no return": "Did a function of yours return what it should?",
        },
    ),
]

CHECK = "exercises check attention_pattern"
FILE = "exercises/ch01_transformer.py"

EXERCISES = [
    *commands(
        "exercises",
        ("dance", "'dance'"),
        ("check forwrd", "Near it: forward"),
        ("check 99", "called '99'"),
        ("check ²", "called '²'"),
        ("check forward backward", "backward"),
        ("watch nonsense", "called 'nonsense'"),
        ("hint forward 99", "forward has hints 1 to"),
        ("hint forward 0", "forward has hints 1 to"),
        ("hint forward x", "'x'"),
        ("reset", "which chapter? ... python -m exercises reset 1"),
        ("reset 99", "called '99'"),
    ),
    *attempts(
        CHECK,
        1,
        {
            "a bracket left open": f"cannot be read: '(' was never closed ({FILE}, line 25)",
            "latin-1": "cannot be read: it is not UTF-8 text",
            "a null byte": "cannot be read: source code string cannot contain null bytes",
            "a folder": "the file cannot be read",
            "an unknown import": "No module named 'no_such_module'",
            "no return": "it returned None: is the `return` missing?",
            "one argument": "takes 1 positional argument but 2 were given",
        },
    ),
    *attempts(
        CHECK,
        1,
        dict.fromkeys(["no file", "an empty file", "a renamed function"], f"is not in {FILE}"),
    ),
]

COMMANDS = [*OPTIONS, *CHECKPOINTS, *RESUMING, *COURSE, *EXERCISES]
CASES = [*COMMANDS, *CONFIGS, *LOADING, *MODEL, *DATA, *SOLUTIONS]
