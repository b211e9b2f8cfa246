"""Look at, or change, any activation of one forward pass. Nothing outlives the call.

    logits, cache = model.run_with_cache(tokens)
    logits = model.run_with_hooks(tokens, fwd_hooks=[("blocks.1.attn.hook_z", zero_head_3)])

No magic: the forward pass calls `hook(name, activation)` at every named place and goes on with what
comes back. `Hooks` decides what comes back. It is made for one call and thrown away with it, so
there is nothing to remove, and an exception inside a hook leaves nothing behind.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class HookPoint(NamedTuple):
    """What a hook function is told about where it is: its `name`."""

    name: str


Where = str | Callable[[str], bool]  # one name, or a predicate that picks names
Hook = Callable[[Tensor, HookPoint], Tensor | None]


class ActivationCache(dict):
    """A dict from hook name to activation. Each value is a detached copy: editing one changes
    nothing else.
    """

    def __missing__(self, name):
        raise KeyError(f"no activation called {name!r} was cached. {nearest(str(name), self)}")


class Hooks:
    """The listeners of one forward pass.

    names: every hook name the model has. fwd_hooks: pairs (where, fn). cached: the names of the
    activations to copy into `cache`. Raises ValueError if a name is unknown or a predicate picks
    nothing, TypeError if these are no pairs.
    """

    def __init__(
        self,
        names: Sequence[str] = (),
        fwd_hooks: Iterable[tuple[Where, Hook]] = (),
        cached: Iterable[str] = (),
    ):
        self.cache = ActivationCache()
        self._cached = set(cached)
        self._functions: dict[str, list[Hook]] = {}
        for where, fn in _pairs(fwd_hooks):
            for name in select_names(names, where):
                self._functions.setdefault(name, []).append(fn)

    def listens(self, name: str) -> bool:
        """Does anybody want this activation? The forward pass skips what nobody looks at."""
        return name in self._functions or name in self._cached

    def edits(self, name: str) -> bool:
        return name in self._functions

    def __call__(self, name: str, activation: Tensor, fresh: bool = False) -> Tensor:
        """What the forward pass goes on with.

        fresh: it was just made, and neither the forward pass nor autograd will need it later.
        """
        for fn in self._functions.get(name, ()):
            # A private copy for each function: an edit in place does what it says, and only here.
            activation = activation.clone()
            activation = _checked(name, activation, _called(name, fn, activation))
        if name in self._cached:
            alone = fresh and name not in self._functions  # nobody else holds it: no copy needed
            self.cache[name] = activation.detach() if alone else activation.detach().clone()
        return activation


class Recorder(Hooks):
    """Changes nothing, and notes in `names` what the forward pass calls, in its order."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def listens(self, name: str) -> bool:
        return True

    def __call__(self, name: str, activation: Tensor, fresh: bool = False) -> Tensor:
        self.names.append(name)
        return activation


def select_names(names: Sequence[str], where: Where | Iterable[Where] | None) -> list[str]:
    """The hook names that `where` picks: a name, a predicate, a list of either, or None for all."""
    if where is None:
        return list(names)
    if isinstance(where, str):
        if where not in names:
            raise ValueError(f"this model has no hook called {where!r}. {nearest(where, names)}")
        return [where]
    if callable(where):
        picked = [name for name in names if where(name)]
        if not picked:
            raise ValueError(
                f"the predicate {getattr(where, '__name__', where)} picks none of "
                f"the {len(names)} hook names."
            )
        return picked
    if not isinstance(where, Iterable):
        raise TypeError(
            "activations are picked by a name, a predicate on names, a list of these, or None; "
            f"not {where!r}."
        )
    return [name for each in where for name in select_names(names, each)]


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence that lists the known names closest to a misspelt one."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.4) or names[:4]
    return f"Near it: {', '.join(near)}." if near else "Nothing was cached."


def _pairs(fwd_hooks: Iterable[tuple[Where, Hook]]) -> list[tuple[Where, Hook]]:
    is_list = isinstance(fwd_hooks, Iterable) and not isinstance(fwd_hooks, str | dict)
    pairs = list(fwd_hooks) if is_list else [fwd_hooks]
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not callable(pair[1]):
            raise TypeError(
                "fwd_hooks must be a list of pairs (where, function), like [(name, fn)]; "
                f"{pair!r} is none."
            )
    return pairs


def _called(name: str, fn: Hook, activation: Tensor) -> Tensor | None:
    """fn(activation, hook). What goes wrong inside fn passes through as it is."""
    try:
        return fn(activation, HookPoint(name))
    except TypeError as error:
        if error.__traceback__.tb_next is not None:  # fn had begun
            raise
        raise TypeError(
            f"the hook on {name} must be a function of two, fn(activation, hook): {error}."
        ) from None


def _checked(name: str, before: Tensor, after: Tensor | None) -> Tensor:
    if after is None:
        return before
    if not isinstance(after, torch.Tensor):
        raise TypeError(
            f"the hook on {name} returned {type(after).__name__}; "
            "return a tensor, or None to change nothing."
        )
    if after.shape != before.shape or after.dtype != before.dtype:
        raise ValueError(
            f"the hook on {name} returned {after.dtype} {list(after.shape)}; "
            f"the activation there is {before.dtype} {list(before.shape)}, and must stay so."
        )
    return after


NO_HOOKS = Hooks()
