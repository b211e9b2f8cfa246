"""The examination of chapter 18: a claim's predictions on fresh inputs and under many changes, held
against what the model does. It knows no mechanism: it runs the model, and that is all.
"""

import contextlib
from itertools import combinations

import torch
from torch import Tensor

from exercises.attempts import Wrong
from minitransformer import Transformer
from minitransformer.data import BOS, random_tokens, repeated_tokens
from solutions.ch18_blind_models import BETWEEN, NO_IDEA, UNCHANGED, Change, edges_in, heads_in
from solutions.examination import (
    Verdict,
    change_in_words,
    changes_for,
    passes,
    single_changes,
    verdict_on,
)
from solutions.many_changes import answers_under
from tests.exercises.guarded import Promise
from tests.exercises.oracles.ch18_routes import still_open

ROWS, FEW = 4, 9  # sequences of each sort; tokens in some of them
MORE, FEWER = 64, 6  # sequences for the rule alone, in which several places fit; tokens in them
SHOWN = 4  # wrong predictions in a report


def fresh_rows(model: Transformer, generator: torch.Generator) -> Tensor:
    """[2 ROWS, pos]: repeated blocks of several periods, and random tokens, half of them from FEW
    different ones, so that tokens come back in several companies.
    """
    n, vocab = model.cfg.n_ctx, model.cfg.d_vocab
    blocks = repeated_tokens(ROWS, n, vocab, (3, n // 2 - 1), generator).tokens
    random = random_tokens(ROWS, n, vocab, generator)
    random[::2] = random[::2].remainder(min(FEW, vocab - 1)) + 1
    random[:, 0] = BOS
    return torch.cat([blocks, random])


def rows_with_ties(model: Transformer, generator: torch.Generator) -> Tensor:
    """[MORE, pos]: random tokens of so few kinds that two rules which differ in what they do where
    several places fit differ in many answers.
    """
    some = min(FEWER, model.cfg.d_vocab - 1)
    tokens = torch.randint(1, 1 + some, (MORE, model.cfg.n_ctx), generator=generator)
    tokens[:, 0] = BOS
    return tokens


class Exam:
    """One model, fresh sequences, and what the model answers under every change tried so far.

    The unchanged model is asked on many sequences more, `rich` in ties: there a wrong rule shows.
    """

    def __init__(self, model: Transformer, seed: int):
        generator = torch.Generator().manual_seed(seed)
        self.model, self.tokens = model, fresh_rows(model, generator)
        self.rich = torch.cat([self.tokens, rows_with_ties(model, generator)])
        self.rich_answers = answers_under(model, self.rich, [UNCHANGED])[0]
        self.answers = {}
        self.pairs = []  # new changes: two heads at once
        for one, other in combinations(heads_in(model), 2):
            silent = bool(torch.randint(2, (1,), generator=generator))
            change = Change(zero=(one,), mean=(other,)) if silent else Change((other,), (one,))
            self.pairs.append(change)
        self.try_out([UNCHANGED, *single_changes(model), *self.pairs])

    def try_out(self, changes: list[Change]) -> None:
        new = [change for change in changes if change not in self.answers]
        if new:
            self.answers |= dict(zip(new, answers_under(self.model, self.tokens, new)))

    def verdicts(self, claim: list) -> list[Verdict]:
        """One for each prediction. Raises Wrong for what is no claim about this model."""
        refuse(claim, self.model)
        tables = [self.table(route, self.tokens) for route in claim]
        changes = [*changes_for(claim, self.model), *self.pairs]
        self.try_out(changes)
        return [self.verdict(claim, tables, change) for change in changes]

    def verdict(self, claim: list, tables: list[Tensor], change: Change) -> Verdict:
        """Of one prediction."""
        if change == UNCHANGED:
            said = self.promised(claim)
            return verdict_on(change, said, said, self.rich_answers, self.rich_answers)
        before, after = self.answers[UNCHANGED], self.answers[change]
        promised, said = self.said(claim, tables, UNCHANGED), self.said(claim, tables, change)
        return verdict_on(change, said, promised, after, before)

    def holds(self, claim: list) -> bool:
        """Does the claim pass? (One that fails on the unchanged model is tried no further.)"""
        refuse(claim, self.model)
        if self.verdict(claim, [], UNCHANGED).word != "right":
            return False
        return passes(self.verdicts(claim))

    def promised(self, claim: list) -> Tensor:
        """What the claim says of the unchanged model, on the rich sequences, [batch, pos]."""
        tables = [self.table(route, self.rich) for route in claim]
        return self.said(claim, tables, UNCHANGED, self.rich)

    def table(self, route, tokens: Tensor) -> Tensor:
        """What a route's answer function says at each place of tokens, [batch, pos]."""
        said = torch.full_like(tokens, NO_IDEA)
        with no_model():
            for row, sequence in enumerate(tokens.tolist()):
                for pos in range(len(sequence)):
                    answer = route.answer(sequence[: pos + 1])
                    said[row, pos] = NO_IDEA if answer is None else answer
        return said

    def said(self, claim: list, tables: list[Tensor], change: Change, tokens=None) -> Tensor:
        """What the claim predicts under a change, [batch, pos]; tokens: those of the tables."""
        said = torch.full_like(self.tokens if tokens is None else tokens, NO_IDEA)
        for number in still_open(claim, change):
            said = torch.where(said == NO_IDEA, tables[number], said)
        return said

    def report(self, claim: list) -> str:
        """What is wrong with a claim: which predictions, on which input, and never why; "" if it
        passes.
        """
        verdicts = self.verdicts(claim)
        if passes(verdicts):
            return ""
        words = [verdict.word for verdict in verdicts]
        counts = [f"{words.count(word)} {word}" for word in ("right", "wrong", "vacuous")]
        lines = [f"the claim does not hold. Of {len(words)} predictions {', '.join(counts)}"]
        if words[0] == "wrong":  # the others follow from it
            lines += self.places(self.promised(claim))
        else:
            wrong = [verdict for verdict in verdicts if verdict.word == "wrong"]
            lines += [self.in_words(verdict, claim) for verdict in wrong[:SHOWN]]
        return "\n  where:     ".join(lines)

    def places(self, said: Tensor) -> list[str]:
        """Where the claim is wrong about the unchanged model, at most once in a sequence."""
        answers = self.rich_answers
        found, wrong = {}, ((said != answers) & (answers != BETWEEN)).nonzero().tolist()
        for row, pos in reversed(wrong):  # of each row the first one stays
            pair = [answer_in_words(int(x[row, pos])) for x in (said, answers)]
            read = in_words(self.rich, row, pos)
            sentence = f"on {read} the claim says {pair[0]}, the model {pair[1]}"
            found[row] = f"unchanged; {sentence}"
        return list(dict.fromkeys(found[row] for row in sorted(found)))[:SHOWN]

    def in_words(self, verdict: Verdict, claim: list) -> str:
        """One wrong prediction about a changed model, at the first place where it is wrong."""
        row, pos = verdict.place
        tables = [self.table(route, self.tokens) for route in claim]
        stays = self.said(claim, tables, verdict.change) == self.answers[UNCHANGED]
        fate = "stays; it is lost" if stays[row, pos] else "is lost; it stays"
        answer = f"the answer {int(self.answers[UNCHANGED][row, pos])} {fate}"
        what = change_in_words(verdict.change)
        return f"{what}; on {in_words(self.tokens, row, pos)} the claim says that {answer}"


def in_words(tokens: Tensor, row: int, pos: int) -> str:
    """What a model has read at a place."""
    return " ".join([str(token) for token in tokens[row, : pos + 1].tolist()])


def answer_in_words(answer: int) -> str:
    return str(answer) if answer >= 0 else "nothing"


def refuse(claim: list, model: Transformer) -> None:
    """Raises Wrong unless the routes name edges that this model has."""
    known = set(edges_in(model))
    for number, route in enumerate(claim, 1):
        which = f"route {number} of {len(claim)}"
        if isinstance(route.edges, str):
            raise Wrong(f"{which}: edges must be a tuple; one edge alone is written (edge,)")
        unknown = {*route.edges, *filter(None, [route.unless])} - known
        if unknown:
            raise Wrong(f"{which}: this model has no edge {min(unknown)!r}; see edges_in(model)")
        if not callable(route.answer):
            raise Wrong(f"{which}: answer must be a function of the tokens so far")


@contextlib.contextmanager
def no_model():
    """Inside, no model runs: a claim has to stand without it."""

    def refused(self, *_, **__):
        raise Promise("an answer function ran the model; a claim must predict without it")

    forward = Transformer.forward
    Transformer.forward = refused
    try:
        yield
    finally:
        Transformer.forward = forward
