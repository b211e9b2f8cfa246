"""Wrong detectors of chapter 5: label -> the find_heads that people write."""

from tests.exercises.oracles import ch05 as oracle
from tests.exercises.oracles.ch05 import detector

NOT_FOUND = {
    "short blocks make any head look like induction: begin at a quarter of the length": (
        detector(oracle.blocks(low=40, high=8))
    ),
    "so few different tokens that any key follows a copy": detector(oracle.two_kinds_of_tokens),
    "only the best head of each role was returned": detector(best_only=True),
    "the pairs are the wrong way round: (layer, head)": detector(flip=-1),
    "the last layer was left out; any layer may hold any role": detector(layers=slice(-1)),
    "only the last layer was searched; any layer may hold any role": (
        detector(layers=slice(-1, None))
    ),
    "only the first two layers were searched; a model may have more": detector(layers=slice(2)),
}
NOT_REJECTED = {
    "all sequences had one period, so looking a fixed distance back was enough": (
        detector(oracle.period_10)
    ),
    "all periods were a quarter of the length: looking a fixed distance back was enough": (
        detector(oracle.blocks(low=4, high=4))
    ),
    "matching the token before was enough: ask for sequences where a token repeats by itself": (
        detector(oracle.blocks())
    ),
    "the threshold is too low: use FOUND": detector(threshold=0.02),
}
ORDER = {
    "the threshold is too high: use FOUND": detector(threshold=0.75),
    "worst first; the best comes first": detector(order=1),
    "in the order of the layers": detector(order=0),
}
GAUGE = {
    "the pattern was weighed by the lengths of the values, which mean nothing by themselves": (
        detector(weigh=True)
    )
}
