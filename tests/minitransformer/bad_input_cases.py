"""The cases of bad_input.py: what is typed or called, and words that the answer must have in it.

A case is a command line or a Python expression. Files and names in them: bad_input_material.py.
"""

from typing import NamedTuple

import torch


class Case(NamedTuple):
    given: str  # a command line that begins with "python -m", or an expression
    says: str  # a part of the message that names what was wrong
    error: type[Exception] = ValueError  # what an expression raises
    code: int = 2  # what a command line exits with
    attempt: str = ""  # which attempt at chapter 1 the learner has written; "": none
    folder: str = "."  # where it is run

    @property
    def is_command(self) -> bool:
        return self.given.startswith("python -m ")


def commands(module: str, *pairs: tuple[str, str], **fields) -> list[Case]:
    return [Case(f"python -m {module} {words}".strip(), says, **fields) for words, says in pairs]


OPTIONS = commands(
    "minitransformer",
    ("", "required: command"),
    ("dance", "'dance'"),
    ("train --preset huge", "'huge'"),
    ("train --steps many", "'many'"),
    ("train --steps 0", "steps must be a whole number of at least 1, not 0"),
    ("train --seed -1", "seed must be a whole number of at least 0, not -1"),
    ("train --seed 99999999999999999999", "not 99999999999999999999"),
    ("train --device tpu", "'tpu'"),
    ("train --out run", "run already holds a run. Continue it with --resume run"),
    ("train --out leftovers", "leftovers holds snapshots of some other run"),
    ("train --out a-file", "cannot write a-file"),
    ("train --out a-file/deeper", "cannot write a-file"),
    ("evaluate", "required: model"),
    ("evaluate run --out figures", "--out figures"),
    ("look run --out a-file", "a-file: "),
    ("look run --out a-file/deeper", "a-file"),
)

CHECKPOINTS = commands(
    "minitransformer",
    ("evaluate nowhere", "there is no model at 'nowhere'"),
    ("evaluate Induction.pt", "shipped models: additive"),
    ("look nothing-in-it", "there is no model at 'nothing-in-it'"),
    (f"evaluate {'x' * 300}", "there is no model at 'xxx"),
    ("evaluate half.pt", "half.pt is damaged"),
    ("look a-byte-short.pt", "a-byte-short.pt is damaged"),
    ("evaluate empty.pt", "empty.pt is damaged"),
    ("evaluate text.pt", "text.pt is damaged, or is no checkpoint"),
    ("evaluate code.pt", "holds more than numbers; nothing in it was run"),
    ("evaluate foreign.pt", "foreign.pt was not written by this project"),
    ("evaluate older.pt", "older.pt was not written by this project"),
    ("evaluate words.pt", "words.pt was not written by this project"),
    ("evaluate bigger.pt", "W_E is (9, 8) there, (10, 8) here"),
    ("evaluate enormous.pt", "W_E is (9, 8) there, (10000000000000, 8) here"),
    ("evaluate no-weights.pt", "W_E is missing there"),
    ("evaluate newer.pt", "no field called rotary"),
    ("evaluate no-heads.pt", "n_heads must be a whole number of at least 1, not 0"),
    ("evaluate no-config.pt", "the config stored in no-config.pt"),
    ("evaluate list-config.pt", "must be a dict, not [2, 4]"),
    ("evaluate three-tokens.pt", "nothing can repeat in sequences of 3"),
    ("look few-words.pt", "need d_vocab >= 6, not 4"),
    ("evaluate record-no-json", "record-no-json/model.json is not the record"),
    ("evaluate record-binary", "record-binary/model.json is not the record"),
    ("evaluate record-list", "it must have model, train and history"),
    ("evaluate record-a-typo", "no field called learning_rat"),
    ("evaluate record-other-task", "there is no task called 'sorting'"),
    ("look record-other-model", "it describes another model"),
    ("look record-no-history", "each row of its history must have"),
)

RESUMING = commands(
    "minitransformer",
    ("train --resume run --steps 9", "leave out all options but --device"),
    ("train --resume run --preset two-step", "leave out all options but --device"),
    ("train --resume nowhere", "there is no folder nowhere"),
    ("train --resume induction", "there is no folder induction"),
    ("train --resume a-file", "there is no folder a-file"),
    ("train --resume nothing-in-it", "there is no model at 'nothing-in-it'"),
    ("train --resume training-none", "holds weights but no training state"),
    ("train --resume training-number", "the training state in training-number/model.pt"),
    ("train --resume training-empty", "the training state in training-empty/model.pt"),
    ("train --resume training-no-json", "the training state in training-no-json/model.pt"),
    (
        "train --resume training-no-optimizer",
        "the training state in training-no-optimizer/model.pt",
    ),
    ("train --resume training-no-dice", "the training state in training-no-dice/model.pt"),
    ("train --resume training-no-step", "the training state in training-no-step/model.pt"),
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
    *commands(
        "course", ("1", "figures: "), ("notebook 1", "ipynb exists already"), folder="in-the-way"
    ),
    Case("python -m course 1 --mine", "line 23", attempt="a bracket left open"),
    Case("python -m course 1 --mine", "it is not UTF-8 text", attempt="latin-1"),
    Case(
        "python -m course 1 --mine", "No module named 'no_such_module'", attempt="an unknown import"
    ),
    Case(
        "python -m course 1 --mine",
        "line 23: NameError: name 'undefined'",
        attempt="a print that stops",
    ),
    Case(
        "python -m course 1 --mine",
        "Did a function of yours return what it should?",
        attempt="no return",
    ),
]

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
        ("reset", "required: CHAPTER"),
        ("reset 99", "called '99'"),
    ),
    *(
        Case("python -m exercises check attention_pattern", says, code=1, attempt=attempt)
        for attempt, says in {
            "a bracket left open": "cannot be read: '(' was never closed (exercises/ch01_transformer.py, line 23)",
            "latin-1": "cannot be read: it is not UTF-8 text",
            "a null byte": "cannot be read: source code string cannot contain null bytes",
            "a folder": "the file cannot be read",
            "an unknown import": "No module named 'no_such_module'",
            "no return": "it returned None: is the `return` missing?",
            "one argument": "takes 1 positional argument but 2 were given",
        }.items()
    ),
    *(
        Case(
            "python -m exercises check attention_pattern",
            "is not in exercises/ch01_transformer.py",
            code=0,
            attempt=attempt,
        )
        for attempt in ("no file", "an empty file", "a renamed function")
    ),
]

CONFIGS = [
    Case("ModelConfig(n_layers=-1)", "n_layers must be a whole number of at least 0, not -1"),
    Case("ModelConfig(d_model='64')", "not '64'"),
    Case("ModelConfig(positional_embedding_type='rotary')", "not 'rotary'"),
    Case("ModelConfig(layer_norm=1)", "layer_norm must be True or False, not 1"),
    Case("TrainConfig(steps=1e4)", "steps must be a whole number of at least 1, not 10000.0"),
    Case("TrainConfig(seed=2**70)", f"not {2**70}"),
    Case("TrainConfig(periods=5)", "not 5"),
    Case("TrainConfig(periods=('a', 'b'))", "not 'a'"),
    Case("TrainConfig(periods=(9, 2))", "not (9, 2)"),
    Case("TrainConfig(learning_rate='fast')", "learning_rate must be a number, not 'fast'"),
    Case("TrainConfig(learning_rate=float('inf'))", "not inf"),
    Case("TrainConfig(target=95)", "target must lie between 0 and 1, not 95"),
    Case("TrainConfig(weight_decay=None)", "weight_decay must be a number, not None"),
    Case("config.from_dict(ModelConfig, {'rotary': True})", "no field called rotary"),
    Case("config.from_dict(ModelConfig, [1])", "not [1]"),
    Case("Transformer({'n_layers': 2})", "{'n_layers': 2}", TypeError),
    Case("Transformer(ModelConfig(), seed='one')", "not 'one'"),
    Case("train.train(ModelConfig(n_ctx=8), TrainConfig())", "length - 3 = 6: 1 to 16"),
    Case("train.train(ModelConfig(), TrainConfig('digits'))", "not 65 and 32"),
    Case("train.train(ModelConfig(), TrainConfig('sorting'))", "no task called 'sorting'"),
    Case("train.train(ModelConfig(), TrainConfig(), device='tpu')", "put on 'tpu'"),
    Case("train.resume('nowhere')", "no folder nowhere"),
    Case("choose_device('tpu')", "has no tpu"),
    Case("load(None)", "no model at 'None'"),
    Case("load('half.pt')", "half.pt is damaged"),
    Case("load('induction', device='tpu')", "put on 'tpu'"),
    Case("checkpoint.save('a-file/model.pt', model)", "cannot write a-file/model.pt"),
    Case("planted.gate_model('xor')", "not 'xor'"),
    Case("desk.the_model('nonsense')", "no model at 'nonsense'"),
    Case(
        "cells.write_notebook(Path('ch01_transformer.py'), Path('in-the-way'))",
        "ipynb exists already",
    ),
]

MODEL = [
    Case("model([[0, 1]])", "not list", TypeError),
    Case("model(tokens.float())", "not torch.float32", TypeError),
    Case("model(tokens[0])", "not [4]. One sequence: tokens[None]"),
    Case("model(tokens[:, :0])", "not [2, 0]"),
    Case("model(torch.zeros(1, 7, dtype=torch.long))", "the sequence has 7 tokens"),
    Case("model(tokens + 5)", "tokens run from 5 to 11"),
    Case("model(tokens - 1)", "tokens run from -1 to 5"),
    Case(
        "model.run_with_hooks(tokens, [('hook_embd', fails)])",
        "no hook called 'hook_embd'. Near it: hook_embed",
    ),
    Case(
        "model.run_with_hooks(tokens, [(lambda name: 'mlp' in name, fails)])",
        "picks none of the 22 hook names",
    ),
    Case("model.run_with_hooks(tokens, ('hook_embed', fails))", "'hook_embed' is none", TypeError),
    Case(
        "model.run_with_hooks(tokens, {'hook_embed': print})",
        "{'hook_embed': <built-in function print>}",
        TypeError,
    ),
    Case(
        "model.run_with_hooks(tokens, [('hook_embed', 'zero')])",
        "('hook_embed', 'zero') is none",
        TypeError,
    ),
    Case("model.run_with_hooks(tokens, [(3, fails)])", "not 3", TypeError),
    Case(
        "model.run_with_hooks(tokens, [('hook_embed', lambda x: x)])",
        "fn(activation, hook)",
        TypeError,
    ),
    Case(
        "model.run_with_hooks(tokens, [('hook_embed', lambda x, hook: x[:1])])",
        "returned torch.float32 [1, 4, 8]",
    ),
    Case(
        "model.run_with_hooks(tokens, [('hook_embed', lambda x, hook: x.double())])",
        "returned torch.float64",
    ),
    Case(
        "model.run_with_hooks(tokens, [('hook_embed', lambda x, hook: 0)])",
        "hook_embed returned int",
        TypeError,
    ),
    Case(
        "model.run_with_hooks(tokens, [('hook_embed', fails)])",
        "a hook's own mistake",
        RuntimeError,
    ),
    Case("model.run_with_cache(tokens, 'blocks.2.attn.hook_z')", "Near it: blocks.1.attn.hook_z"),
    Case("model.run_with_cache(tokens, 3)", "not 3", TypeError),
    Case(
        "model.run_with_cache(tokens, 'hook_embed')[1]['hook_z']",
        "no activation called 'hook_z' was cached",
        KeyError,
    ),
]

DATA = [
    Case("repeated_tokens(4, 12, 20, (5, 4), generator)", "5 to 4"),
    Case("repeated_tokens(4, 12, 20, (1, 10), generator)", "length - 3 = 9: 1 to 10"),
    Case("repeated_tokens(4, 12, 20, (1, 9), generator, prefix=1)", "1 to 10"),
    Case(
        "repeated_tokens(4, 12, 20, (1, 9), generator, prefix=-1)",
        "prefix must be a whole number of at least 0, not -1",
    ),
    Case("repeated_tokens(4, 12, 11, (1, 9), generator)", "need d_vocab >= 12, not 11"),
    Case("repeated_tokens(4, 3, 20, (1, 1), generator)", "sequences of 3"),
    Case("repeated_tokens(4, 12, 20, 5, generator)", "not 5"),
    Case("repeated_tokens(4, 12, 20, (1.5, 2), generator)", "not 1.5"),
    Case(
        "repeated_tokens(-4, 12, 20, (1, 4), generator)",
        "batch must be a whole number of at least 1, not -4",
    ),
    Case(
        "repeated_tokens(4, 12, 20, (1, 4), 0)",
        "torch.Generator().manual_seed(0), not 0",
        TypeError,
    ),
    Case(
        "data.random_tokens(4, 12, 1, generator)",
        "d_vocab must be a whole number of at least 2, not 1",
    ),
    Case("arithmetic.problems('roman')", "no problems called 'roman'"),
    Case("arithmetic.problems('arithmetic').encode('12 + VII =')", "no token stands for VII"),
    Case("arithmetic.problems('arithmetic').encode('12 + 34 =', '5 =')", "these have [4, 2]"),
    Case(
        "arithmetic.problems('arithmetic').decode(tokens)", "not [2, 4]; one of a batch: tokens[0]"
    ),
    Case(
        "arithmetic.problems('arithmetic').decode(torch.tensor([153]))", "0 to 152; these are [153]"
    ),
    Case("tasks.task_called('sorting')", "no task called 'sorting'"),
]

SOLUTIONS = [
    Case(
        "forward_with_hooks(dict(model.named_parameters()), tokens, [('stream.3', fails)])",
        "'stream.3'",
    ),
    Case("rotate_head(*[torch.zeros(3, 3)] * 5)", "singular", torch.linalg.LinAlgError),
    Case("chance_loss(5, seen=5)", "not 5"),
    Case("crossing_step([1, 2], [3.0, 3.0])", "at 3.0"),
    Case("icl_score(torch.zeros(5), early=3, late=2)", "early 3, late 2"),
    Case("induction_accuracy(model, tokens, tokens < 0)", "no position is predictable"),
    Case("distinct_tokens(1, 9, 9, generator)", "9 distinct tokens were asked for"),
    Case("partial_repeat_tokens(5, (2, 6), 1, 1, 9, generator)", "not (2, 6)"),
    Case("distractor_tokens('', 1, 1, 9, generator)", "followers is empty"),
    Case("find_heads(Transformer(ModelConfig(n_ctx=3)))", "sequences of 3"),
    Case("LowRank(torch.ones(2, 3), torch.ones(2, 3))", "[2, 3] and [2, 3]"),
    Case("effective_ov(model, [(0, 0), (1, 0)])", "not [(0, 0), (1, 0)]"),
    Case("effective_ov(model, [])", "not []"),
    Case("corrupt_pairs(torch.arange(14)[None], 3, 9, 'letter')", "cannot swap 'letter'"),
    Case("corrupt_pairs(torch.arange(14)[None], 3, 4, 'key')", "A at 3 and C at 4 in 14 tokens"),
    Case(
        "normalised_metric(torch.ones(4), torch.ones(4), torch.ones(4))",
        "clean and corrupt have the same mean",
    ),
    Case("held_out_accuracy(torch.ones(5, 2, 3), torch.full((5, 2), -1), 4)", "they have 0 and 0"),
    Case("run_circuit(model, tokens, [(2, 0)])", "no head (2, 0)"),
    Case(
        "faithfulness(model, repeats, [], lambda logits, repeats: logits.sum() * 0)",
        "no better than no heads at all",
    ),
    Case(
        "orthogonal_subspaces(8, {'token': 5, 'position': 4}, generator)", "9 orthogonal directions"
    ),
    Case(
        "relative_importance(torch.tensor([0.5, -0.5]), torch.tensor([True, False]))",
        "no positive effect",
    ),
    Case(
        "arithmetic_faithfulness(neurons, tokens, [], means, lambda logits, right: logits[..., 0] * 0)",
        "nothing to explain",
    ),
    Case("auroc(torch.tensor([]), torch.tensor([1.0, 2.0]))", "they have 0 and 2"),
    Case(
        "at_equal_results(torch.ones(2), torch.arange(2), torch.arange(2) == 0, torch.arange(2) == 1)",
        "none of the 1",
    ),
    Case("missing_and_weak(0, 1.0, 2, 3.0)", "not (0, 1.0, 2, 3.0)"),
]

CASES = [
    *OPTIONS,
    *CHECKPOINTS,
    *RESUMING,
    *COURSE,
    *EXERCISES,
    *CONFIGS,
    *MODEL,
    *DATA,
    *SOLUTIONS,
]
