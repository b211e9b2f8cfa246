"""Claims that are easily made about any model, and wrong about a blind one."""

import torch

from minitransformer import Transformer
from minitransformer.evaluate import attention
from solutions.ch05_finding_heads import prefix_matching_score, previous_token_score
from solutions.ch18_blind_models import Change, Claim, Route, edges_in
from solutions.investigation import claim_about, look_up, rules, sequences
from solutions.many_changes import answers_under

TEXTBOOK = look_up(0, 1, 0, "most")  # the token after an earlier copy of this one


def textbook(first: str, second: str) -> Route:
    """Induction by a previous-token head and an induction head."""
    edges = [f"pos>{first}.q", f"pos>{first}.k", f"embed>{first}.v", f"embed>{second}.q"]
    edges += [f"{first}>{second}.k", f"embed>{second}.v", f"{second}>logits"]
    return Route(TEXTBOOK, tuple(edges))


def nothing_matters(model: Transformer) -> Claim:
    return []


def everything_matters(model: Transformer) -> Claim:
    truth = claim_about(model)
    return [Route(truth[0].answer if truth else TEXTBOOK, tuple(edges_in(model)))]


@torch.no_grad()
def read_off_the_pictures(model: Transformer) -> Claim:
    """The head that looks back best, and the later one that looks best at what followed."""
    tokens = sequences(model, batch=16, seed=1)[:16]
    patterns = attention(model, tokens)
    back = torch.stack([previous_token_score(pattern) for pattern in patterns])
    layer, head = divmod(int(back[:-1].argmax()), model.cfg.n_heads)
    after = torch.stack([prefix_matching_score(pattern, tokens) for pattern in patterns])
    after[: layer + 1] = 0
    second = divmod(int(after.argmax()), model.cfg.n_heads)
    return [textbook(f"{layer}.{head}", f"{second[0]}.{second[1]}")]


STORIES = {
    "nothing matters": nothing_matters,
    "everything matters": everything_matters,
    "what the pictures of attention show": read_off_the_pictures,
}


# Claims beside the truth


def without_one(claim: Claim) -> list[Claim]:
    """A claim, once without each of its edges."""
    found = []
    for number, route in enumerate(claim):
        for edge in route.edges:
            kept = tuple(other for other in route.edges if other != edge)
            found.append([*claim[:number], route._replace(edges=kept), *claim[number + 1 :]])
    return found


def with_one_more(claim: Claim, model: Transformer) -> list[Claim]:
    """A claim, once with each edge that it does not name, in its first route."""
    named = {edge for route in claim for edge in route.edges}
    named |= {route.unless for route in claim}
    first, found = claim[0], []
    for edge in edges_in(model):
        if edge not in named:
            found.append([first._replace(edges=(*first.edges, edge)), *claim[1:]])
    return found


def q_for_k(claim: Claim) -> Claim:
    """A claim with all queries and keys exchanged."""
    swap = {".q": ".k", ".k": ".q"}
    found = []
    for route in claim:
        edges = tuple(edge[:-2] + swap.get(edge[-2:], edge[-2:]) for edge in route.edges)
        found.append(route._replace(edges=edges))
    return found


def other_rules(claim: Claim, model: Transformer) -> list[Claim]:
    """The right edges with every other rule that answers otherwise somewhere."""
    tokens = sequences(model, batch=4, seed=2)
    answers = answers_under(model, tokens, [Change()])[0].tolist()
    found = []
    for rule in rules():
        if rule_differs(rule, tokens.tolist(), answers):
            found.append([route._replace(answer=rule) for route in claim])
    return found


def rule_differs(rule, sequences: list, answers: list) -> bool:
    """Is the rule wrong about more than a tenth of the model's answers?"""
    wrong, given = 0, 0
    for sequence, answered in zip(sequences, answers):
        for pos, token in enumerate(answered):
            if token >= 0:
                given += 1
                wrong += rule(sequence[: pos + 1]) != token
    return wrong > 0.1 * given
