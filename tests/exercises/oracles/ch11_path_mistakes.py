"""What people get wrong in chapter 11, third part: inputs and paths."""

import torch

from tests.exercises.oracles.ch11 import cache_of, named, paths_by_algebra, read_by

# direct_inputs


def z_names(model):
    return [named(layer, "z") for layer in range(model.cfg.n_layers)]


def inputs_by_running(fix, names=z_names, run_on=lambda tokens, other: tokens):
    """direct_inputs by running; fix(activation, name, sender, here, there) changes an activation of
    these names; here and there are the caches of both runs.
    """

    def function(model, tokens, other, sender):
        here, there = cache_of(model, tokens), cache_of(model, other)

        def hook_fn(x, hook):
            fix(x, hook.name, sender, here, there)
            return x

        hooks = [(name, hook_fn) for name in names(model)]
        return dict(model.run_with_cache(run_on(tokens, other), read_by(model), hooks)[1])

    return function


def is_sender(name, sender):
    return name == named(sender[0], "z")


def send_only(x, name, sender, here, there):
    if is_sender(name, sender):
        x[:, :, sender[1]] = there[name][:, :, sender[1]]


def send_and_freeze(x, name, sender, here, there):
    x.copy_(here[name])
    send_only(x, name, sender, here, there)


def freeze_next_layer(x, name, sender, here, there):
    if name in (named(layer, "z") for layer in range(sender[0] + 2)):
        x.copy_(here[name])
    send_only(x, name, sender, here, there)


def freeze_there(x, name, sender, here, there):
    x.copy_(there[name])


def all_from_other_but_sender(x, name, sender, here, there):
    x.copy_(there[name])
    if is_sender(name, sender):
        x[:, :, sender[1]] = here[name][:, :, sender[1]]


def send_layer(x, name, sender, here, there):
    x.copy_(there[name] if is_sender(name, sender) else here[name])


def send_in_every_layer(x, name, sender, here, there):
    x.copy_(here[name])
    x[:, :, sender[1]] = there[name][:, :, sender[1]]


def send_last_position(x, name, sender, here, there):
    x.copy_(here[name])
    if is_sender(name, sender):
        x[:, -1, sender[1]] = there[name][:, -1, sender[1]]


def zero_sender(x, name, sender, here, there):
    x.copy_(here[name])
    if is_sender(name, sender):
        x[:, :, sender[1]] = 0


def add_to_sender(x, name, sender, here, there):
    x.copy_(here[name])
    if is_sender(name, sender):
        x[:, :, sender[1]] += there[name][:, :, sender[1]]


def send_neighbour(x, name, sender, here, there):
    x.copy_(here[name])
    if is_sender(name, sender):
        x[:, :, sender[1]] = there[name][:, :, sender[1] - 1]


def freeze_patterns(x, name, sender, here, there):
    if name.endswith("pattern"):
        x.copy_(here[name])
    send_only(x, name, sender, here, there)


def last_layer_everywhere(x, name, sender, here, there):
    """What lambdas in a loop do that read the loop's variable: all name the last layer."""
    last = max(each for each in here if each.endswith("hook_z"))
    x.copy_(here[last])
    send_only(x, last, sender, here, there)


def patterns_and_z(model):
    return [named(layer, x) for layer in range(model.cfg.n_layers) for x in ("pattern", "z")]


RIGHT_INPUTS = inputs_by_running(send_and_freeze)


def changes_only(model, tokens, other, sender):
    plain, inputs = cache_of(model, tokens), RIGHT_INPUTS(model, tokens, other, sender)
    return {name: inputs[name] - plain[name] for name in inputs}


INPUT_MISTAKES = {
    "the other heads were not frozen: they reacted to the sender": inputs_by_running(send_only),
    "only the layer after the sender's was frozen; later ones reacted": inputs_by_running(
        freeze_next_layer
    ),
    "the patterns were frozen, the outputs z were not: values reacted": inputs_by_running(
        freeze_patterns, patterns_and_z
    ),
    "the other heads were frozen at what they are in other; they stay as in tokens": (
        inputs_by_running(freeze_there)
    ),
    "the roles are exchanged: only the sender is as in tokens, all other heads as in other": (
        inputs_by_running(all_from_other_but_sender)
    ),
    "it ran on other; tokens runs, with the sender's output from other": inputs_by_running(
        send_and_freeze, run_on=lambda tokens, other: other
    ),
    "all heads of the sender's layer were replaced": inputs_by_running(send_layer),
    "the head of the sender's number was replaced in every layer": inputs_by_running(
        send_in_every_layer
    ),
    "the sender was replaced at the last position only": inputs_by_running(send_last_position),
    "all layers got the last layer's z: a lambda in a loop read `name` late; use hook.name": (
        inputs_by_running(last_layer_everywhere)
    ),
    "the sender was zeroed; it writes what it writes in other": inputs_by_running(zero_sender),
    "the sender's output in other was added; it takes the place of its own": inputs_by_running(
        add_to_sender
    ),
    "a neighbouring head's output was put in": inputs_by_running(send_neighbour),
    "the results are changes; give what each reader reads": changes_only,
}

# path_patch


def paths_with(**switches):
    return lambda *arguments: paths_by_algebra(*arguments, **switches)


def other_receivers(receivers_of):
    """path_patch that takes other receivers: receivers_of(model, receivers)."""

    def function(model, tokens, other, sender, receivers):
        taken = receivers_of(model, receivers)
        return paths_by_algebra(model, tokens, other, sender, taken)

    return function


def paths_exchanged(model, tokens, other, *args):
    """path_patch that runs other and takes the sender from tokens."""
    return paths_by_algebra(model, other, tokens, *args)


def run_on_other(model, tokens, other, sender, receivers):
    """The right changes, added in the run on other."""
    plain, heard = cache_of(model, tokens), RIGHT_INPUTS(model, tokens, other, sender)

    def there(model, _tokens, _other, _sender):
        now = cache_of(model, other)
        return {name: now[name] + heard[name] - plain[name] for name in heard}

    return paths_by_algebra(model, other, tokens, sender, receivers, direct=there)


def last_head_everywhere(model, receivers):
    """What hooks made in a loop do if they name the loop's variable: all of them find the head of
    the last receiver.
    """
    return [(layer, receivers[-1][1], what) for layer, _, what in receivers]


def one_for_each_name(model, receivers):
    """What a dict of hooks by name keeps: of several heads the last."""
    return list({(layer, what): (layer, head, what) for layer, head, what in receivers}.values())


def all_heads(model, receivers):
    layers = dict.fromkeys((layer, what) for layer, _, what in receivers)
    return [(at, head, x) for at, x in layers for head in range(model.cfg.n_heads)]


def keys_queries_values(model, receivers):
    heads = dict.fromkeys((layer, head) for layer, head, _ in receivers)
    return [(*head, what) for head in heads for what in "qkv"]


def added_up(model, tokens, other, sender, receivers):
    """One receiver at a time, the changes of the logits added."""
    plain = model(tokens)[:, -1].detach()
    total = plain.clone()
    for receiver in receivers:
        total += paths_by_algebra(model, tokens, other, sender, [receiver]) - plain
    return total


def and_the_sender(model, tokens, other, sender, receivers):
    """The sender patched besides, so that everybody hears it."""
    there = cache_of(model, other)

    def send(z, hook):
        send_only(z, hook.name, sender, None, there)
        return z

    hook = (named(sender[0], "z"), send)
    return paths_by_algebra(model, tokens, other, sender, receivers, extra=[hook])


def others_frozen(model, tokens, other, sender, receivers):
    """Heads that are no receivers do not react to those that are."""
    here, receiving = cache_of(model, tokens), {each[:2] for each in receivers if each != "logits"}

    def freeze(z, hook):
        for head in range(model.cfg.n_heads):
            if (int(hook.name.split(".")[1]), head) not in receiving:
                z[:, :, head] = here[hook.name][:, :, head]
        return z

    frozen = [(name, freeze) for name in z_names(model)]
    return paths_by_algebra(model, tokens, other, sender, receivers, extra=frozen)


PATH_MISTAKES = {
    "all hooks changed the last receiver's head: `head` was read too late; bind it, head=head": (
        other_receivers(last_head_everywhere)
    ),
    "of several heads of one layer only the last was patched: hooks with one name replaced "
    "each other": other_receivers(one_for_each_name),
    "every head of the layer received the change: that is more than one edge": paths_with(
        moved=lambda x, change, mask, heard: x + change
    ),
    "all heads of a receiver's layer received the change, once: that is more than one edge": (
        other_receivers(all_heads)
    ),
    "queries, keys and values all received the change; a receiver is one of them": (
        other_receivers(keys_queries_values)
    ),
    "the receiver's input was set; add the change, or later receivers miss what earlier ones do": (
        paths_with(moved=lambda x, change, mask, heard: x * (1 - mask) + heard * mask)
    ),
    "the receiver's input was taken from other; only the sender's change reaches it": paths_with(
        moved=lambda x, change, mask, heard: x * (1 - mask) + heard * mask,
        direct=lambda model, tokens, other, sender: cache_of(model, other),
    ),
    "the change was subtracted: it is direct_inputs minus the plain run": paths_with(
        moved=lambda x, change, mask, heard: x - change * mask
    ),
    "the change was added at the last position only": paths_with(
        moved=lambda x, change, mask, heard: torch.cat(
            [x[:, :-1], (x + change * mask)[:, -1:]], dim=1
        )
    ),
    "only the first receiver was patched": other_receivers(lambda model, receivers: receivers[:1]),
    "only the last receiver was patched": other_receivers(lambda model, receivers: receivers[-1:]),
    "one receiver was patched at a time and the changes added; patch all in one run": added_up,
    "tokens and other are exchanged: tokens runs, the sender's output comes from other": (
        paths_exchanged
    ),
    "the last run was on other; it is on tokens": run_on_other,
    "the input changed by all that differs between the runs; only the sender may change": (
        paths_with(direct=lambda model, tokens, other, sender: cache_of(model, other))
    ),
    "the other heads were not frozen when the input was recorded": paths_with(
        direct=inputs_by_running(send_only)
    ),
    "the sender was patched as well, so that all its readers heard it": and_the_sender,
    "heads that are no receivers were frozen in the last run; there they react": others_frozen,
}
LOGITS_MISTAKES = {
    "the unembedding is a receiver, too: its input was not changed": other_receivers(
        lambda model, receivers: [each for each in receivers if each != "logits"]
    ),
    "the unembedding's input was set; add the change": paths_with(
        moved=lambda x, change, mask, heard: heard if x.ndim == 3 else x + change * mask
    ),
}
