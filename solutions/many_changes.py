"""What a model answers under many changes, in one pass: for the examination of chapter 18, and its
reference answers. The same as `run_changed` for each change, which is what the tests say.

A change joins the pass at the layer where it begins; up to there its run is the unchanged one. Axis
words: change batch pos d_model.
"""

import math

import torch
from einops import repeat
from torch import Tensor

from minitransformer import Transformer
from minitransformer.hooks import NO_HOOKS
from minitransformer.model import causal_mask, each_output, products, weighted_sum
from solutions.ch18_blind_models import Change, is_message, messages_in, sure_answers


class Pass:
    """All changed runs of one model on tokens [batch, pos], layer by layer."""

    def __init__(self, model: Transformer, tokens: Tensor):
        self.model, self.batch = model, len(tokens)
        _, cache = model.run_with_cache(tokens, lambda name: is_message(name) or "resid" in name)
        self.plain = messages_in(cache, model)
        self.means = {name: message.mean(dim=(0, 1)) for name, message in self.plain.items()}
        layers = range(model.cfg.n_layers)
        self.streams = [cache[f"blocks.{layer}.hook_resid_pre"] for layer in layers]
        self.streams.append(cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"])
        in_stream = model.cfg.positional_embedding_type == "standard"
        self.positions = None if in_stream else cache["hook_pos_embed"][:1]
        self.heard = {}  # head -> what it writes, [change, batch, pos, d_model]

    def logits(self, changes: list[Change]) -> Tensor:
        """[change, batch, pos, vocab], in the order of the changes."""
        n_layers = self.model.cfg.n_layers
        order = sorted(range(len(changes)), key=lambda i: first_layer(changes[i], n_layers))
        changes = [changes[i] for i in order]
        begins = [first_layer(change, n_layers) for change in changes]
        resid = self.streams[0].new_empty(0, *self.streams[0].shape)
        for layer in range(n_layers):
            resid = self.joined(resid, layer, begins.count(layer))
            resid = resid + self.written(layer, resid, changes[: len(resid)])
        resid = self.joined(resid, n_layers, begins.count(n_layers))
        for i, _, sender, _ in cuts(changes, "logits"):
            resid[i] += self.means[sender] - self.message(sender, i)
        back = torch.tensor(order).argsort()
        return (resid @ self.model.W_U)[back]

    def joined(self, resid: Tensor, layer: int, count: int) -> Tensor:
        """The streams, and below them that of the unchanged run for each change that begins."""
        for name, message in self.heard.items():
            self.heard[name] = self.more(message, self.plain[name], count)
        return self.more(resid, self.streams[layer], count)

    def more(self, many: Tensor, plain: Tensor, count: int) -> Tensor:
        return torch.cat([many, repeat(plain, "... -> change ...", change=count)])

    def message(self, sender: str, i: int) -> Tensor:
        """What a sender wrote in the run of change i, [batch, pos, d_model]."""
        return self.heard[sender][i] if sender in self.heard else self.plain[sender]

    def written(self, layer: int, resid: Tensor, changes: list[Change]) -> Tensor:
        """What the heads of a layer add to the streams [change, batch, pos, d_model]."""
        flat, shape = resid.flatten(0, 1), resid.shape[:2]
        found = self.model.qkv(layer, flat, self.positions, NO_HOOKS)
        read = {what: x.unflatten(0, shape).clone() for what, x in zip("qkv", found)}
        for i, head, sender, what in cuts(changes, f"{layer}."):
            W = getattr(self.model, f"W_{what.upper()}")[layer, head]
            move = self.means[sender] - self.message(sender, i)
            read[what][i, :, :, head] += move @ W
        q, k = read["q"].flatten(0, 1), read["k"].flatten(0, 1)
        scores = products(q, k) / math.sqrt(self.model.cfg.d_head) + causal_mask(q)
        z = weighted_sum(scores.softmax(dim=-1), read["v"].flatten(0, 1))
        result = each_output(z, self.model.W_O[layer]).unflatten(0, shape)
        self.silence(layer, result, changes)
        for head in range(self.model.cfg.n_heads):
            self.heard[f"{layer}.{head}"] = result[:, :, :, head]
        return result.sum(dim=3)

    def silence(self, layer: int, result: Tensor, changes: list[Change]) -> None:
        """Let the heads of a layer write 0, or their mean, where a change says so."""
        for i, change in enumerate(changes):
            for name in [*change.zero, *change.mean]:
                where, head = name.split(".")
                if int(where) == layer:
                    result[i, :, :, int(head)] = self.means[name] if name in change.mean else 0.0


def first_layer(change: Change, n_layers: int) -> int:
    """Where a change begins; n_layers: at the unembedding, or nowhere."""
    places = [*change.zero, *change.mean, *[edge.split(">")[1] for edge in change.cut]]
    numbers = [place.split(".")[0] for place in places]
    return min([int(number) for number in numbers if number != "logits"], default=n_layers)


def cuts(changes: list[Change], where: str) -> list[tuple[int, int, str, str]]:
    """The cut edges whose receiver begins with `where`: number of the change, head, sender, q, k or
    v (head 0 and "" at the logits).
    """
    found = []
    for i, change in enumerate(changes):
        for edge in change.cut:
            sender, receiver = edge.split(">")
            if receiver.startswith(where):
                _, head, what = receiver.split(".") if "." in receiver else ("", 0, "")
                found.append((i, int(head), sender, what))
    return found


@torch.no_grad()
def answers_under(model: Transformer, tokens: Tensor, changes: list[Change]) -> Tensor:
    """What the model answers under each change, by sure_answers: [change, batch, pos]."""
    logits = Pass(model, tokens).logits(changes)
    return sure_answers(logits.flatten(0, 1)).unflatten(0, (len(changes), len(tokens)))
