"""The cases of bad_input.py: what is called, and words that the answer must have in it.

The names in the expressions: bad_input_material.py. What is typed: bad_input_cases.py.
"""

import torch

from minitransformer import CheckpointError

from .bad_input import Case


def calls(*pairs: tuple[str, str], error: type[Exception] = ValueError) -> list[Case]:
    return [Case(given, says, error) for given, says in pairs]


def changed(config: str, *rows: tuple[str, str]) -> list[Case]:
    """A config with one or two other fields."""
    return [Case(f"{config}({fields})", says) for fields, says in rows]


SIZES = ("n_heads", "d_model", "d_head", "d_vocab", "n_ctx")
NO_SIZES = (0, -1, 1.5, "4", True, None)

CONFIGS = [
    *changed(
        "ModelConfig",
        *(
            (f"{name}={value!r}", f"{name} must be a whole number of at least 1, not {value!r}")
            for name in SIZES
            for value in NO_SIZES
        ),
        ("n_layers=-1", "n_layers must be a whole number of at least 0, not -1"),
        ("d_mlp=2.0", "d_mlp must be a whole number of at least 0, not 2.0"),
        ("positional_embedding_type='rotary'", "shortformer ... standard ... not 'rotary'"),
        ("layer_norm=1", "layer_norm must be True or False, not 1"),
        ("smeared_keys='yes'", "smeared_keys must be True or False, not 'yes'"),
    ),
    *changed(
        "TrainConfig",
        ("steps=0", "steps must be a whole number of at least 1, not 0"),
        ("steps=1e4", "steps must be a whole number of at least 1, not 10000.0"),
        ("batch_size=1.5", "batch_size must be a whole number of at least 1, not 1.5"),
        ("eval_every=0", "eval_every must be a whole number of at least 1, not 0"),
        ("save_every=0", "save_every must be a whole number of at least 1, not 0"),
        ("warmup=-1", "warmup must be a whole number of at least 0, not -1"),
        ("seed=-1", "seed must be a whole number of at least 0, not -1"),
        ("seed=2**70", f"seed must be below 2 ** 63, not {2**70}"),
        ("periods=5", "periods must be (shortest, longest), not 5"),
        ("periods=(4,)", "periods must be (shortest, longest), not (4,)"),
        ("periods=(1, 2, 3)", "periods must be (shortest, longest), not (1, 2, 3)"),
        ("periods=('a', 'b')", "not 'a'"),
        ("periods=(9, 2)", "periods must be (shortest, longest), not (9, 2)"),
        ("task=None", "task must be the name of a task, not None"),
        ("learning_rate=0.0", "learning_rate must be positive, not 0.0"),
        ("learning_rate='fast'", "learning_rate must be a number, not 'fast'"),
        ("learning_rate=float('inf')", "learning_rate must be a number, not inf"),
        ("weight_decay=-0.1", "weight_decay must be at least 0, not -0.1"),
        ("weight_decay=None", "weight_decay must be a number, not None"),
        ("elsewhere=1.5", "elsewhere must lie between 0 and 1, not 1.5"),
        ("elsewhere=True", "elsewhere must be a number, not True"),
        ("decay=-0.1", "decay must lie between 0 and 1, not -0.1"),
        ("target=0.0", "target must lie between 0 and 1, not 0.0"),
        ("target=1.01", "target must lie between 0 and 1, not 1.01"),
        ("target=95", "target must lie between 0 and 1, not 95"),
        ("target='all'", "target must be a number, not 'all'"),
    ),
    *calls(
        ("TrainConfig(steps=50).changed(steps=0)", "steps must be a whole number of at least 1"),
        ("config.from_dict(ModelConfig, {'rope': 1, 'n_head': 2})", "no field called n_head, rope"),
        ("config.from_dict(ModelConfig, [1])", "not [1]"),
        ("Transformer(ModelConfig(), seed='one')", "not 'one'"),
    ),
    *calls(("Transformer({'n_layers': 2})", "{'n_layers': 2}"), error=TypeError),
]

KINDS = ("arithmetic", "digits", "two-step")

LOADING = [
    *calls(
        ("train.train(ModelConfig(n_ctx=8), TrainConfig())", "length - 3 = 6: 1 to 16"),
        ("train.train(ModelConfig(), TrainConfig('sorting'))", "no task called 'sorting'"),
        ("train.train(ModelConfig(), TrainConfig(), device='tpu')", "put on 'tpu'"),
        ("choose_device('tpu')", "has no tpu"),
        ("load('induction', device='tpu')", "put on 'tpu'"),
        ("planted.gate_model('xor')", 'kind must be "and" or "or", not \'xor\''),
        ("desk.the_model('nonsense')", "no model at 'nonsense'"),
        (
            "cells.write_notebook(Path('ch01_transformer.py'), Path('in-the-way'))",
            "ipynb exists already",
        ),
    ),
    *calls(
        *(
            (f"train.train(ModelConfig(), TrainConfig('{kind}'))", f"task {kind} ... not 65 and 32")
            for kind in KINDS
        )
    ),
    *calls(
        ("train.train(model.cfg, TrainConfig(periods=(1, 3)), folder='run')", "--resume run"),
        ("train.resume('nowhere')", "no folder nowhere"),
        ("train.resume('training-none')", "holds weights but no training state"),
        ("load(None)", "no model at 'None'"),
        ("load('nothing-in-it')", "no model at 'nothing-in-it'"),
        ("load('half.pt')", "half.pt is damaged"),
        ("load('foreign.pt')", "foreign.pt was not written by this project"),
        ("load('bigger.pt')", "bigger.pt does not fit this config: W_E is (9, 8) there"),
        ("load('newer.pt')", "the config stored in newer.pt"),
        ("publish.publish(Path('nothing-in-it'))", "nothing-in-it holds no finished run"),
        ("checkpoint.save('a-file/model.pt', model)", "cannot write a-file/model.pt ... --out"),
        ("checkpoint.save('a-file/deeper/model.pt', model)", "cannot write a-file/deeper"),
        error=CheckpointError,
    ),
]

# ---- the model and its hooks

MISSPELT = ("blocks.1.attn.hook_patern", "blocks.1.hook_pattern", "blocks.7.attn.hook_pattern")


def hooked(*pairs: tuple[str, str], error: type[Exception] = ValueError) -> list[Case]:
    """A forward pass with this for `fwd_hooks`."""
    rows = [(f"model.run_with_hooks(tokens, {hooks})", says) for hooks, says in pairs]
    return calls(*rows, error=error)


def returning(*pairs: tuple[str, str], error: type[Exception] = ValueError) -> list[Case]:
    """A hook on hook_embed that returns this for the activation x."""
    name = "the hook on hook_embed returned "
    rows = [(f"[('hook_embed', lambda x, hook: {value})]", name + says) for value, says in pairs]
    return hooked(*rows, error=error)


MODEL = [
    *calls(
        ("model([[0, 1]])", "whole numbers (torch.long), not list"),
        ("model(tokens.float())", "whole numbers (torch.long), not torch.float32"),
        ("model(tokens.bool())", "whole numbers (torch.long), not torch.bool"),
        error=TypeError,
    ),
    *calls(
        ("model(tokens[0])", "[batch, pos], ... not [4]. One sequence: tokens[None]"),
        ("model(tokens[None])", "neither of them 0, not [1, 2, 4]"),
        ("model(tokens[:0])", "neither of them 0, not [0, 4]"),
        ("model(tokens[:, :0])", "neither of them 0, not [2, 0]"),
        ("model(torch.zeros(1, 7, dtype=torch.long))", "7 tokens ... at most n_ctx = 6"),
        ("model(tokens + 5)", "tokens run from 5 to 11 ... d_vocab - 1 = 8"),
        ("model((tokens + 3).int())", "tokens run from 3 to 9 ... d_vocab - 1 = 8"),
        ("model(tokens - 1)", "tokens run from -1 to 5"),
    ),
    *hooked(
        ("[('hook_embd', fails)]", "no hook called 'hook_embd'. Near it: hook_embed"),
        ("[(lambda name: 'mlp' in name, fails)]", "picks none of the 22 hook names"),
    ),
    *(
        Case(
            f"model.{call}", f"no hook called {name!r} ... Near it: ... blocks.1.attn.hook_pattern"
        )
        for name in MISSPELT
        for call in (
            f"run_with_hooks(tokens, [({name!r}, fails)])",
            f"run_with_cache(tokens, {name!r})",
            f"run_with_cache(tokens, [{name!r}])",
        )
    ),
    *hooked(
        ("('hook_embed', fails)", "'hook_embed' is none"),
        ("{'hook_embed': print}", "{'hook_embed': <built-in function print>}"),
        ("[('hook_embed', 'zero')]", "('hook_embed', 'zero') is none"),
        ("[(3, fails)]", "not 3"),
        ("[('hook_embed', lambda x: x)]", "fn(activation, hook)"),
        error=TypeError,
    ),
    *returning(
        ("x[:1]", "torch.float32 [1, 4, 8] ... torch.float32 [2, 4, 8], and must stay so"),
        ("x[:, :1]", "torch.float32 [2, 1, 8] ... torch.float32 [2, 4, 8], and must stay so"),
        ("x.double()", "torch.float64 [2, 4, 8] ... torch.float32 [2, 4, 8], and must stay so"),
    ),
    *returning(
        ("0", "int; return a tensor, or None"),
        ("0.0", "float; return a tensor, or None"),
        ("x.tolist()", "list; return a tensor, or None"),
        ("(x, x)", "tuple; return a tensor, or None"),
        error=TypeError,
    ),
    *hooked(("[('hook_embed', fails)]", "a hook's own mistake"), error=RuntimeError),
    *calls(
        ("model.run_with_cache(tokens, 'blocks.2.attn.hook_z')", "Near it: blocks.1.attn.hook_z"),
        ("model.run_with_cache(tokens, str.isdigit)", "isdigit picks none of the 22 hook names"),
    ),
    *calls(("model.run_with_cache(tokens, 3)", "not 3"), error=TypeError),
    *calls(
        (
            "model.run_with_cache(tokens, 'hook_embed')[1]['hook_z']",
            "no activation called 'hook_z' was cached. Near it: hook_embed",
        ),
        error=KeyError,
    ),
]

# ---- sequences and problems

DATA = [
    *calls(
        ("repeated_tokens(4, 12, 20, (0, 5), generator)", "a whole number of at least 1, not 0"),
        ("repeated_tokens(4, 12, 20, (5, 4), generator)", "1 <= low <= high ... 5 to 4"),
        ("repeated_tokens(4, 12, 20, (1, 10), generator)", "length - 3 = 9: 1 to 10"),
        ("repeated_tokens(4, 12, 20, (1, 9), generator, 1)", "length - 3 = 9: 1 to 10"),
        ("repeated_tokens(4, 12, 20, (1, 9), generator, -1)", "prefix must be ... not -1"),
        ("repeated_tokens(4, 12, 11, (1, 9), generator)", "need d_vocab >= 12, not 11"),
        ("repeated_tokens(4, 3, 20, (1, 1), generator)", "in sequences of 3 ... at least 4 tokens"),
        ("repeated_tokens(4, 12.5, 20, (1, 4), generator)", "length must be ... not 12.5"),
        ("repeated_tokens(4, 12, 20.5, (1, 4), generator)", "d_vocab must be ... not 20.5"),
        ("repeated_tokens(4, 12, 20, 5, generator)", "not 5"),
        ("repeated_tokens(4, 12, 20, (1.5, 2), generator)", "not 1.5"),
        ("repeated_tokens(-4, 12, 20, (1, 4), generator)", "batch must be ... at least 1, not -4"),
        ("data.random_tokens(4, 0, 9, generator)", "length must be ... at least 1, not 0"),
        ("data.random_tokens(4, 12, 1, generator)", "d_vocab must be ... at least 2, not 1"),
        ("arithmetic.problems('roman')", "no problems called 'roman'"),
        ("arithmetic.problems('arithmetic').encode('12 + VII =')", "no token stands for VII"),
        *(
            (f"arithmetic.problems('{kind}').encode('zero + x1 =')", "no token stands for x1, zero")
            for kind in KINDS
        ),
        ("arithmetic.problems('arithmetic').encode('1 + 3 =', '5 =')", "these have [4, 2]"),
        ("arithmetic.problems('arithmetic').decode(tokens)", "[2, 4]; one of a batch: tokens[0]"),
        ("arithmetic.problems('arithmetic').decode(torch.tensor([153]))", "0 to 152 ... [153]"),
        ("tasks.task_called('sorting')", "'sorting'; the tasks are repeats, arithmetic"),
    ),
    *calls(
        ("repeated_tokens(4, 12, 20, (1, 4), 0)", "torch.Generator().manual_seed(0), not 0"),
        error=TypeError,
    ),
]

# ---- what the solutions promise to refuse

SOLUTIONS = [
    *calls(
        ("forward_with_hooks(weights, tokens, [('stream.3', fails)])", "'stream.3'"),
        ("chance_loss(5, seen=5)", "not 5"),
        ("crossing_step([1, 2], [3.0, 3.0])", "at 3.0"),
        ("icl_score(torch.zeros(5), early=3, late=2)", "early 3, late 2"),
        ("induction_accuracy(model, tokens, tokens < 0)", "no position is predictable"),
        ("distinct_tokens(1, 9, 9, generator)", "9 distinct tokens were asked for"),
        ("partial_repeat_tokens(5, (2, 6), 1, 1, 9, generator)", "not (2, 6)"),
        ("distractor_tokens('', 1, 1, 9, generator)", "followers is empty"),
        ("find_heads(Transformer(ModelConfig(n_ctx=3)))", "sequences of 3"),
        ("LowRank(torch.ones(2, 3), torch.ones(2, 3))", "[2, 3] and [2, 3]"),
        ("effective_ov(model, [(0, 0), (1, 0)])", "not [(0, 0), (1, 0)]"),
        ("effective_ov(model, [])", "not []"),
        ("corrupt_pairs(torch.arange(14)[None], 3, 9, 'letter')", "not 'letter'"),
        (
            "corrupt_pairs(torch.arange(14)[None], 3, 4, 'key')",
            "A B at 3 and C D at 4 do not fit ... 14",
        ),
        ("normalised_metric(ones, ones, ones)", "clean and corrupt have the same mean"),
        ("held_out_accuracy(torch.ones(5, 2, 3), torch.full((5, 2), -1), 4)", "they have 0 and 0"),
        ("run_circuit(model, tokens, [(2, 0)])", "no head (2, 0)"),
        (
            "faithfulness(model, repeats, [], lambda logits, repeats: logits.sum() * 0)",
            "no better than no heads at all",
        ),
        (
            "orthogonal_subspaces(8, {'token': 5, 'position': 4}, generator)",
            "9 orthogonal directions",
        ),
        ("relative_importance(torch.tensor([0.5, -0.5]), two == 0)", "no effect to share"),
        ("arithmetic_faithfulness(neurons, tokens, [], means, no_score)", "nothing to explain"),
        ("auroc(torch.tensor([]), torch.tensor([1.0, 2.0]))", "they have 0 and 2"),
        ("at_equal_results(ones[:2], two, two == 0, two == 1)", "no wanted problem has a result"),
        ("missing_and_weak(0, 1.0, 2, 3.0)", "not (0, 1.0, 2, 3.0)"),
        ("edges_in(neurons)", "models of attention alone"),
        ("refuse_unknown(model, Change(zero=('7.0',)))", "no '7.0'; it has ... ..."),
        ("run_changed(model, tokens, Change(cut=('embed>0.0',)))", "no 'embed>0.0'; it has"),
    ),
    *calls(
        ("rotate_head(*[torch.zeros(3, 3)] * 5)", "singular"),
        ("stretch_stream(weights, torch.zeros(8, 8))", "singular"),
        error=torch.linalg.LinAlgError,
    ),
]
