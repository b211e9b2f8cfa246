"""Our weights in a model of another library: TransformerLens below version 4 (Nanda & Bloom 2022,
"TransformerLens"). Nothing in the course needs it.
"""

import importlib.util
import warnings
from importlib import metadata

import torch
from torch import Tensor

from minitransformer import Transformer

LIBRARY = "transformer_lens"
INSTALL = f'python -m pip install "{LIBRARY}<4"'


def is_there() -> bool:
    return importlib.util.find_spec(LIBRARY) is not None


def version() -> str:
    return f"{LIBRARY} {metadata.version(LIBRARY)}"


@torch.no_grad()
def their_model(ours: Transformer):
    """A HookedTransformer with the weights of ours. Its heads have biases, which ours lack: all 0.

    Raises ValueError for smeared keys, which that library does not have.
    """
    cfg, library = ours.cfg, importlib.import_module(LIBRARY)
    if cfg.smeared_keys:
        raise ValueError(f"{LIBRARY} has no smeared keys.")
    sizes = {name: getattr(cfg, name) for name in ("n_layers", "n_heads", "d_model", "d_head")}
    sizes |= {name: getattr(cfg, name) for name in ("d_vocab", "n_ctx", "d_mlp")}
    config = library.HookedTransformerConfig(
        **sizes,
        act_fn="relu",
        attn_only=cfg.d_mlp == 0,
        normalization_type="LN" if cfg.layer_norm else None,
        positional_embedding_type=cfg.positional_embedding_type,
        use_attn_result=True,  # or the cache would lack what each head writes
        device="cpu",
        seed=0,
    )
    with warnings.catch_warnings():  # version 3 announces with each model that version 4 has none
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = library.HookedTransformer(config)
    theirs.load_state_dict(renamed(ours), strict=False)
    return theirs


def renamed(ours: Transformer) -> dict[str, Tensor]:
    """Our weights under the names that the other library gives them, layer by layer."""
    state = {"embed.W_E": ours.W_E, "pos_embed.W_pos": ours.W_pos, "unembed.W_U": ours.W_U}
    for name, weights in ours.named_parameters():
        part, _, end = name.rpartition("_")
        if part == "ln_final":
            state[f"ln_final.{end}"] = weights
        for layer in range(ours.cfg.n_layers):
            if name in ("W_Q", "W_K", "W_V", "W_O"):
                state[f"blocks.{layer}.attn.{name}"] = weights[layer]
            elif name in ("W_in", "b_in", "W_out", "b_out"):
                state[f"blocks.{layer}.mlp.{name}"] = weights[layer]
            elif part in ("ln1", "ln2"):
                state[f"blocks.{layer}.{part}.{end}"] = weights[layer]
    return state


# The lines. Where a tool calls the model in a way that the other library does not know, one line in
# it has to be written in another way: that text stands in LINES. So as not to edit the tools here,
# the function beside it changes the model: it translates the call.


def hooks_by_name(theirs) -> None:
    run = type(theirs).run_with_hooks
    theirs.run_with_hooks = lambda tokens, hooks: run(theirs, tokens, fwd_hooks=hooks)


def names_by_name(theirs) -> None:
    run = type(theirs).run_with_cache
    theirs.run_with_cache = lambda tokens, names=None: run(theirs, tokens, names_filter=names)


def hooks_around_the_cache(theirs) -> None:
    run = type(theirs).run_with_cache

    def run_with_cache(tokens, names_filter=None, fwd_hooks=()):
        with theirs.hooks(fwd_hooks=list(fwd_hooks)):
            return run(theirs, tokens, names_filter=names_filter)

    theirs.run_with_cache = run_with_cache


def last_norm(theirs) -> None:
    theirs.ln_final_w = theirs.ln_final.w


def norm_in_cfg(theirs) -> None:
    theirs.cfg.layer_norm = theirs.cfg.normalization_type is not None


LINES = {
    "hooks by name": (hooks_by_name, "model.run_with_hooks(tokens, fwd_hooks=hooks)"),
    "names by name": (names_by_name, "model.run_with_cache(tokens, names_filter=names)"),
    "hooks around the cache": (
        hooks_around_the_cache,
        "with model.hooks(fwd_hooks=hooks): model.run_with_cache(tokens, names_filter=names)",
    ),
    "the last norm's name": (last_norm, "model.ln_final.w"),
    "the norm in cfg": (norm_in_cfg, "model.cfg.normalization_type is not None"),
}
