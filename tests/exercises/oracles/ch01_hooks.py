"""What the checks of forward_with_hooks compare with: the package's hooks, and what people get
wrong. Hooks here are pairs (name, fn) with fn(stream, name).
"""

from tests.exercises.oracles.ch01_forward import package


def places_of(weights):
    """Our names -> the package's."""
    n_layers = len(weights["W_Q"])
    places = {f"stream.{layer}": f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers)}
    return places | {f"stream.{n_layers}": f"blocks.{n_layers - 1}.hook_resid_post"}


def on_the_package(weights, tokens, fwd_hooks):
    """forward_with_hooks by way of the package's hooks."""
    places = places_of(weights)
    for name, _ in fwd_hooks:
        if name not in places:
            raise ValueError(name)

    def renamed(fn, name):
        return lambda stream, hook: fn(stream, name)

    hooks = [(places[name], renamed(fn, name)) for name, fn in fwd_hooks]
    return package(weights, tokens, hooks)


def with_other_hooks(change):
    """The right pass with another list of hooks: change(hooks, number of layers)."""
    return lambda w, t, hooks: on_the_package(w, t, change(hooks, len(w["W_Q"])))


def with_other_answers(answer):
    """Every hook answers otherwise: answer(fn, stream, name)."""

    def changed(fn):
        return lambda stream, name: answer(fn, stream, name)

    return with_other_hooks(lambda hooks, n: [(name, changed(fn)) for name, fn in hooks])


def dropped(fn, stream, name):
    fn(stream, name)


def added(fn, stream, name):
    new = fn(stream.clone(), name)
    return None if new is None else stream + new


def moved(by):
    def change(hooks, n):
        return [(f"stream.{min(max(int(name[7:]) + by, 0), n)}", fn) for name, fn in hooks]

    return with_other_hooks(change)


def all_see_the_original(hooks, n):
    first = {}

    def remember(stream, name):
        first[name] = stream.clone()

    def changed(fn):
        return lambda stream, name: fn(first[name].clone(), name)

    names = {name: remember for name, _ in hooks}
    return [*names.items(), *[(name, changed(fn)) for name, fn in hooks]]


def read_but_not_kept(weights, tokens, fwd_hooks):
    """The layer reads what the hook returned, but adds to the stream as it was."""
    last, lost = f"stream.{len(weights['W_Q'])}", {}

    def changed(fn):
        def hook(stream, name):
            new = fn(stream.clone(), name)
            if new is not None and name != last:
                layer = int(name[7:])
                lost[layer] = lost.get(layer, 0) + stream - new
            return new

        return hook

    def restore(stream, name):
        return stream + lost.pop(int(name[7:]) - 1, 0)

    back = [(name, restore) for name in places_of(weights)]
    return on_the_package(weights, tokens, back + [(name, changed(fn)) for name, fn in fwd_hooks])


HOOK_MISTAKES = {
    "what the hook returned was not used": with_other_answers(dropped),
    "what the hook returned was added to the stream; it takes the stream's place": (
        with_other_answers(added)
    ),
    "the hooks fired one layer late: stream.L is the stream before layer L": moved(1),
    "the hooks fired one layer early: stream.L is the stream before layer L": moved(-1),
    "of several hooks on one name only the last was called": with_other_hooks(
        lambda hooks, n: list(dict(hooks).items())
    ),
    "of several hooks on one name only the first was called": with_other_hooks(
        lambda hooks, n: list(dict(hooks[::-1]).items())
    ),
    "the hooks were called from the last to the first": with_other_hooks(
        lambda hooks, n: hooks[::-1]
    ),
    "each hook of a name saw the stream as it was before the others": with_other_hooks(
        all_see_the_original
    ),
    "the layer read what the hook returned, but the old stream was carried on": read_but_not_kept,
}
