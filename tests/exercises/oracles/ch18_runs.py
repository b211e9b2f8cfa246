"""Runs of a changed model, the long way: every receiver reads a stream of its own. And what people
get wrong about them.
"""

import math

import torch
from torch import Tensor

from minitransformer import Transformer
from solutions.ch18_blind_models import Change, refuse_unknown, run_changed


class Streams:
    """One run in which every receiver reads the sum of the senders' messages, or of their means
    where an edge is cut.
    """

    def __init__(self, model: Transformer, tokens: Tensor, change: Change, means: dict):
        self.model, self.change, self.means = model, change, means
        positions = model.W_pos[: tokens.shape[1]].expand(len(tokens), -1, -1)
        self.messages = {"embed": model.W_E[tokens], "pos": positions}
        for layer in range(model.cfg.n_layers):
            written = {}
            for head in range(model.cfg.n_heads):
                written[f"{layer}.{head}"] = self.head(layer, head)
            self.messages |= written
        self.logits = self.read("logits") @ model.W_U

    def read(self, receiver: str) -> Tensor:
        """The stream as one receiver sees it."""
        everywhere = self.model.cfg.positional_embedding_type == "standard"
        heard = []
        for sender, message in self.messages.items():
            if sender != "pos" or everywhere or receiver.endswith((".q", ".k")):
                is_cut = f"{sender}>{receiver}" in self.change.cut
                heard.append(self.means[sender].expand_as(message) if is_cut else message)
        return torch.stack(heard).sum(dim=0)

    def head(self, layer: int, head: int) -> Tensor:
        """What one head writes, [batch, pos, d_model]."""
        name, out = f"{layer}.{head}", self.computed(layer, head)
        if name in self.change.zero:
            return torch.zeros_like(out)
        return self.means[name].expand_as(out) if name in self.change.mean else out

    def computed(self, layer: int, head: int) -> Tensor:
        """What it would write if the change did not speak of it."""
        model, name = self.model, f"{layer}.{head}"
        q = self.read(f"{name}.q") @ model.W_Q[layer, head]
        k = self.read(f"{name}.k") @ model.W_K[layer, head]
        v = self.read(f"{name}.v") @ model.W_V[layer, head]
        scores = q @ k.mT / math.sqrt(model.cfg.d_head)
        later = torch.ones_like(scores).triu(1).bool()
        return scores.masked_fill(later, -math.inf).softmax(dim=-1) @ v @ model.W_O[layer, head]


def means_of(model: Transformer, tokens: Tensor, axes=(0, 1)) -> dict:
    plain = Streams(model, tokens, Change(), {})
    return {name: x.mean(dim=axes, keepdim=True) for name, x in plain.messages.items()}


@torch.no_grad()
def by_streams(model: Transformer, tokens: Tensor, change: Change) -> Tensor:
    refuse_unknown(model, change)
    return Streams(model, tokens, change, means_of(model, tokens)).logits


def with_means(make):
    """by_streams with other means: make(model, tokens, change) -> sender: tensor."""

    @torch.no_grad()
    def run(model, tokens, change):
        refuse_unknown(model, change)
        return Streams(model, tokens, change, make(model, tokens, change)).logits

    return run


def with_change(make):
    """The right run of another change: make(model, change) -> Change."""

    def run(model, tokens, change):
        refuse_unknown(model, change)
        return run_changed(model, tokens, make(model, change))

    return run


class Nothing(Streams):
    """A cut edge carries nothing."""

    def read(self, receiver: str) -> Tensor:
        means = self.means
        self.means = {name: torch.zeros_like(mean) for name, mean in means.items()}
        stream = super().read(receiver)
        self.means = means
        return stream


@torch.no_grad()
def carries_nothing(model, tokens, change):
    refuse_unknown(model, change)
    return Nothing(model, tokens, change, means_of(model, tokens)).logits


def means_of_changed(model, tokens, change):
    changed = Streams(model, tokens, change, means_of(model, tokens))
    return {name: x.mean(dim=(0, 1), keepdim=True) for name, x in changed.messages.items()}


class OldMessages(Streams):
    """Takes from a receiver what its sender wrote in the unchanged run."""

    def read(self, receiver: str) -> Tensor:
        cut, self.change = self.change.cut, self.change._replace(cut=())
        stream = super().read(receiver)
        self.change = self.change._replace(cut=cut)
        for edge in cut:
            sender, end = edge.split(">")
            if end == receiver:
                stream = stream + self.means[sender] - self.before[sender]
        return stream


@torch.no_grad()
def old_messages(model, tokens, change):
    refuse_unknown(model, change)
    OldMessages.before = Streams(model, tokens, Change(), {}).messages
    return OldMessages(model, tokens, change, means_of(model, tokens)).logits


class NotedTooEarly(Streams):
    """Takes from a receiver what its sender would have written."""

    def __init__(self, *arguments):
        self.noted = {}
        super().__init__(*arguments)

    def computed(self, layer: int, head: int) -> Tensor:
        self.noted[f"{layer}.{head}"] = super().computed(layer, head)
        return self.noted[f"{layer}.{head}"]

    def read(self, receiver: str) -> Tensor:
        stream = super().read(receiver)
        for edge in self.change.cut:
            sender, end = edge.split(">")
            if end == receiver and sender in self.noted:
                stream = stream + self.messages[sender] - self.noted[sender]
        return stream


@torch.no_grad()
def noted_too_early(model, tokens, change):
    refuse_unknown(model, change)
    return NotedTooEarly(model, tokens, change, means_of(model, tokens)).logits


def all_parts(model, change):
    """Every receiver of the same head loses the message."""
    every = []
    for edge in change.cut:
        stem = edge[:-1] if edge.endswith((".q", ".k", ".v")) else edge
        parts = "qkv" if stem != edge else [""]
        every += [f"{stem}{part}" for part in parts]
    in_stream = model.cfg.positional_embedding_type == "standard"
    kept = [e for e in every if in_stream or not (e.startswith("pos>") and e.endswith(".v"))]
    return change._replace(cut=tuple(kept))


def all_heads(model, change):
    """Every head of the layer loses the message."""
    every = []
    for edge in change.cut:
        sender, receiver = edge.split(">")
        if receiver == "logits":
            every.append(edge)
            continue
        layer, _, part = receiver.split(".")
        every += [f"{sender}>{layer}.{head}.{part}" for head in range(model.cfg.n_heads)]
    return change._replace(cut=tuple(every))


def without_logits(model, change):
    return change._replace(cut=tuple(e for e in change.cut if not e.endswith(">logits")))


RUN_MISTAKES = {
    "a cut edge carries its mean, not nothing": carries_nothing,
    "the mean is over batch *and* positions": with_means(
        lambda model, tokens, change: means_of(model, tokens, axes=(0,))
    ),
    "the means come from the unchanged run, not from the changed one": with_means(means_of_changed),
    "what is taken out is the message of this run, not of the unchanged one": old_messages,
    "what is taken out is what the head writes after the change, not what it would have written": (
        noted_too_early
    ),
    "one of q, k and v loses the message, not all three": with_change(all_parts),
    "one head loses the message, not its whole layer": with_change(all_heads),
    "edges into the logits were left as they are": with_change(without_logits),
    "only the last of the cut edges is cut": with_change(
        lambda model, change: change._replace(cut=change.cut[-1:])
    ),
    "change.mean was taken for change.zero": with_change(
        lambda model, change: change._replace(zero=change.zero + change.mean, mean=())
    ),
    "change.zero was left out": with_change(lambda model, change: change._replace(zero=())),
}


def accepts_anything(model, tokens, change):
    known = {f"{a}.{b}" for a in range(model.cfg.n_layers) for b in range(model.cfg.n_heads)}
    zero = tuple(name for name in change.zero if name in known)
    return run_changed(model, tokens, Change(zero=zero))
