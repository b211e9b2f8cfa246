"""The guided experiments of the lab: a state of the page, a question, an answer.

What an answer says of other deals and draws was measured when the page was made, on the models that
are in it (measures.py). Heads are found, never named here: with a reader's model the texts name
that model's heads, and an experiment on a head that it does not have says so instead.
"""

from typing import NamedTuple

from torch import Tensor

from minitransformer import Transformer

from . import measures
from .measures import DEALS

AGENT = (
    "Agent James Bond met Eve Penny in Rome . At dawn Eve Penny left . "
    "Agent James Bond took a train to Rome . James"
)
TWO = "James Bond met Eve . James Bean met Adam . Who is James"
MOST_WORDS = len(AGENT.split())
TRAINED, OTHER, SHORT, LONG = 10, 9, 3, 13  # periods: the impostor's, another, one layer's, long
STRETCHES = 20


class Cast(NamedTuple):
    """The models, and what the experiments on the first of them share."""

    model: Transformer
    impostor: Transformer
    one_layer: Transformer
    tokens: Tensor  # AGENT, dealt DEALS times: [batch, pos]
    previous: list[str]  # heads, best first
    induction: list[str]


class Experiment(NamedTuple):
    question: str
    answer: str
    state: dict


def experiments(models: dict[str, Transformer]) -> list[dict]:
    """All of them in order, as the page takes them. models: its three, by their shipped names."""
    model, found = models["induction"], measures.found_heads(models["induction"])
    tokens = measures.deal(AGENT, model.cfg.d_vocab)
    cast = Cast(model, models["impostor"], models["one-layer"], tokens, **found)
    whole = bool(cast.previous and cast.induction)
    ready = []
    for name, (title, make, on_circuit) in EXPERIMENTS.items():
        told = {"id": name, "title": title}
        fits = whole or not on_circuit
        ready.append(told | (make(cast) if fits else LACKING)._asdict())
    return ready


def experiment_names() -> list[str]:
    return list(EXPERIMENTS)


LACKING = Experiment(
    "find_heads found no previous-token head in layer 0 of this model, or no induction head in "
    "layer 1: there is nothing to try this on.",
    "",
    {"text": AGENT},
)


def names(cast: Cast) -> Experiment:
    right = measures.outcome(cast.model, cast.tokens).right
    return Experiment(
        "It never saw a word, and chance dealt these their numbers; yet after the last James it is "
        "sure. Deal other numbers: does every ✓ stay?",
        f"Over {DEALS} deals, {percent(right)} of the predictable words are right. It knows "
        "nothing about names; it knows what came before in this text.",
        {"text": AGENT, "head": best(cast)},
    )


def nothing_to_find(cast: Cast) -> Experiment:
    head = cast.induction[0]
    found = measures.looks(cast.model, cast.tokens, head)
    return Experiment(
        f"Head {head} is an induction head. Go down the rows: where does it look while a word is "
        "new, and where when it comes again?",
        f"New: at BOS, with {percent(found.resting)} of its attention. Again: at the word after "
        f"the earlier copy, with {percent(found.matching)}. Means over {DEALS} deals.",
        {"text": AGENT, "head": head, "row": row_of("met")},
    )


def why_there(cast: Cast) -> Experiment:
    head, by = cast.induction[0], cast.previous
    key = row_of("Bond", skip=1)
    found = measures.lead(cast.model, cast.tokens, head, MOST_WORDS, key, by)
    return Experiment(
        f"At the last James, head {head} looks at Bond. Which part of Bond’s key draws it there: "
        "the word, its position, or what a head of layer 0 wrote?",
        f"What {heads(by)} wrote: {found.by_heads:.1f} nats. All parts together put Bond "
        f"{found.all:.1f} nats above the mean key (means over {DEALS} deals). It says: before me "
        "was James.",
        {"text": AGENT, "head": head, "key": key},
    )


def which_james(cast: Cast) -> Experiment:
    tokens = measures.deal(TWO, cast.model.cfg.d_vocab)
    early = measures.chance_of(cast.model, tokens, row_of("Bond", TWO))
    late = measures.chance_of(cast.model, tokens, row_of("Bean", TWO))
    wins = (late > early).float().mean().item()
    winner, rate = ("later", wins) if wins > 0.5 else ("earlier", 1 - wins)
    return Experiment(
        "James was Bond, then Bean, and nothing in training asked which to believe. Which does it "
        "expect, and does it stay so when you deal other numbers?",
        f"Most often the {winner} one: it has the higher probability in {percent(rate)} of {DEALS} "
        "deals. Chapter 4 asks how much of this is position.",
        {"text": TWO, "head": best(cast)},
    )


def sure_and_wrong(cast: Cast) -> Experiment:
    again, met = row_of("Bond", skip=1), row_of("met")
    wrong = measures.first_choice(cast.model, cast.tokens, again) == cast.tokens[:, met]
    rate = wrong.float().mean().item()
    return Experiment(
        "Where Bond comes again the model is sure what follows, but “took” comes. "
        "What did it expect, and where did it get that?",
        f"“met”, which followed Bond before: its first choice in {percent(rate)} of {DEALS} deals. "
        "Induction is a bet that what followed once follows again.",
        {"text": AGENT, "head": best(cast), "row": again},
    )


def previous_off(cast: Cast) -> Experiment:
    head, off = cast.induction[0], cast.previous
    switches = dict.fromkeys(off, "off")
    right = measures.outcome(cast.model, cast.tokens, switches).right
    pattern = measures.pattern_of(cast.model, cast.tokens, head, switches)
    on_bos = pattern[:, 1:, 0].mean().item()
    return Experiment(
        f"{heads(off).capitalize()}, which {look(off)} at the word before, {is_off(off)}; layer 1 "
        f"was not touched. Where does its head {head} look now?",
        f"{percent(on_bos)} of its attention rests on BOS, new word or not, and {percent(right)} "
        f"of the predictable words are right, over {DEALS} deals.",
        {"text": AGENT, "head": head, "off": off, "word": "Bond"},
    )


def layer_1_frozen(cast: Cast) -> Experiment:
    frozen = [f"1.{head}" for head in range(cast.model.cfg.n_heads)]
    switches = dict.fromkeys(cast.previous, "off") | dict.fromkeys(frozen, "freeze")
    right = measures.outcome(cast.model, cast.tokens, switches).right
    return Experiment(
        f"{heads(cast.previous).capitalize()} {is_off(cast.previous)} still, but layer 1 looks "
        "where it looked before. Judging by the loss, what were they good for?",
        "For where layer 1 looks, and for nothing else: with its patterns kept, "
        f"{percent(right)} of the predictable words are right, over {DEALS} deals.",
        {"text": AGENT, "off": cast.previous, "freeze": frozen, "word": "Bond"}
        | {"head": cast.induction[0]},
    )


def one_less(cast: Cast) -> Experiment:
    off = cast.induction[0]
    loss = measures.outcome(cast.model, cast.tokens, {off: "off"}).loss
    gone = dict.fromkeys(cast.induction, "off")
    without = measures.outcome(cast.model, cast.tokens, gone).loss
    return Experiment(
        f"Induction head {off} is off, and on this scale the loss hardly moves. Compare the other "
        "bars with their rings: do those heads step in, or was there a margin?",
        f"Nobody steps in: the other bars stay. There was a margin; switch off more, and it is "
        f"used up. Over {DEALS} deals the loss is {loss:.2f} nats without {off}, and "
        f"{without:.2f} without any induction head.",
        {"text": AGENT, "head": off, "off": [off], "word": "Bond"},
    )


def impostor_at_10(cast: Cast) -> Experiment:
    tokens = measures.draw(cast.impostor, TRAINED)
    right = measures.outcome(cast.impostor, tokens).right
    return Experiment(
        "On random tokens of this period the loss of another model is small, and in nearly every "
        "draw all its heads wear the badge “induction”. Go down the rows: how far back do they "
        "look?",
        f"{TRAINED - 1}, where at this period the follower stands: {percent(right)} are right over "
        f"{DEALS} draws. Such sequences cannot tell a fixed distance from induction.",
        {"model": "impostor", "period": TRAINED, "head": "1.0"},
    )


def impostor_at_9(cast: Cast) -> Experiment:
    right = measures.outcome(cast.impostor, measures.draw(cast.impostor, OTHER)).right
    return Experiment(
        "The same model, the period one shorter. What has become of the badges, and what do its "
        "heads look at now?",
        f"{percent(right)} are right over {DEALS} draws, and no badge is left. The heads still "
        f"look {TRAINED - 1} back: they learnt a distance. A badge is worth as much as the data "
        "that it was won on.",
        {"model": "impostor", "period": OTHER, "head": "1.0"},
    )


def only_one_layer(cast: Cast) -> Experiment:
    short = measures.outcome(cast.one_layer, measures.draw(cast.one_layer, SHORT)).right
    long = measures.outcome(cast.one_layer, measures.draw(cast.one_layer, LONG)).right
    return Experiment(
        "One layer, trained like the first model, gets most of the words right at this period. "
        "Move the slider up: how long does that last, and what do its heads look at?",
        f"It is right in {percent(short)} here, and in {percent(long)} at period {LONG}. Its heads "
        "spread over the last dozen words, by distance, whatever the word: no key can say what "
        "stood before it.",
        {"model": "one-layer", "period": SHORT, "head": "0.0"},
    )


def gauge(cast: Cast) -> Experiment:
    edge = (cast.previous[0], cast.induction[0])
    runs = [measures.stretch(cast.model, cast.tokens[:4], edge, s) for s in range(STRETCHES)]
    low = sum(run.after < run.before / 2 for run in runs)
    return Experiment(
        "The slider below rewrites every weight: the stream in another basis. Move it: which "
        "number goes, and which pattern, guess or loss goes with it?",
        f"The published composition score goes; nothing else does. In {low} of {STRETCHES} such "
        "stretches it fell to less than half, and no logit moved by more than "
        f"{max(run.logits for run in runs):.0e}. So it measures the basis, too.",
        {"text": AGENT, "head": edge[1], "stretch": 0.5},
    )


EXPERIMENTS = {  # name: title, what makes it, does it need the heads of the circuit?
    "names": ("Names it never saw", names, False),
    "nothing-to-find": ("Nothing to find", nothing_to_find, True),
    "why-there": ("Why there?", why_there, True),
    "which-james": ("Which James?", which_james, False),
    "sure-and-wrong": ("Sure and wrong", sure_and_wrong, False),
    "previous-off": ("Blind to the word before", previous_off, True),
    "layer-1-frozen": ("Layer 1 frozen", layer_1_frozen, True),
    "one-less": ("One head less", one_less, True),
    "impostor-10": ("An impostor?", impostor_at_10, False),
    "impostor-9": ("The same at period 9", impostor_at_9, False),
    "one-layer": ("One layer", only_one_layer, False),
    "gauge": ("A change nobody sees", gauge, True),
}


def row_of(word: str, text: str = AGENT, skip: int = 0) -> int:
    """The position of a word, BOS being 0; of a later copy if some are skipped."""
    found = [pos for pos, each in enumerate(text.split(), 1) if each == word]
    return found[skip]


def best(cast: Cast) -> str:
    return cast.induction[0] if cast.induction else "0.0"


def heads(named: list[str]) -> str:
    """ "head 0.2", "heads 0.2 and 0.3" """
    if len(named) == 1:
        return f"head {named[0]}"
    return f"heads {', '.join(named[:-1])} and {named[-1]}"


def look(named: list[str]) -> str:
    return "looks" if len(named) == 1 else "look"


def is_off(named: list[str]) -> str:
    return "is off" if len(named) == 1 else "are off"


def percent(share: float) -> str:
    hundredths = f"{100 * share:.0f}" if share == 0 or share > 0.1 else f"{100 * share:.1f}"
    return f"{hundredths}\N{NO-BREAK SPACE}%"
