"""What a model is and how it is trained: two frozen dataclasses, one comment a field.

    ModelConfig()                         # the course's model: 2 layers, 4 heads of 16
    PRESETS["impostor"].model             # what `... train --preset impostor` builds

Both check themselves when they are made, so an impossible model never gets as far as a tensor.
"""

import math
from dataclasses import dataclass, fields, replace

# positions are added to what q and k read; or to the residual stream
POSITIONS = ("shortformer", "standard")


def require(holds: bool, sentence: str, error: type[Exception] = ValueError) -> None:
    """Refuse, unless it holds. The sentence says what was wrong, and ends with a full stop."""
    if not holds:
        raise error(sentence)


def require_whole(name: str, value, least: int = 1) -> None:
    """Raises ValueError unless value is a whole number, and not below `least`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    sentence = f"{name} must be a whole number of at least {least}, not {value!r}."
    require(whole and value >= least, sentence)


def require_number(name: str, value) -> None:
    """Raises ValueError unless value is a number, and finite."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    require(number and math.isfinite(value), f"{name} must be a number, not {value!r}.")


def require_seed(seed) -> None:
    """Raises ValueError unless `seed` is one that torch's generators take."""
    require_whole("seed", seed, least=0)
    require(seed < 2**63, f"seed must be below 2 ** 63, not {seed}.")


def require_periods(periods) -> None:
    """Raises ValueError unless `periods` are two whole numbers; whether they fit depends on the
    sequences.
    """
    pair = isinstance(periods, tuple | list) and len(periods) == 2
    require(pair, f"periods must be (shortest, longest), not {periods!r}.")
    for period in periods:
        require_whole("a period", period)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer. Raises ValueError, with what to change, if a field makes no
    sense.
    """

    n_layers: int = 2  # 0 is a bigram model, 1 cannot do induction, 2 can
    n_heads: int = 4  # heads per layer
    d_model: int = 64  # width of the residual stream
    d_head: int = 16  # width of one head's q, k, v and z
    d_vocab: int = 65  # tokens, BOS (token 0) included
    n_ctx: int = 32  # longest sequence, BOS included
    positional_embedding_type: str = "shortformer"  # only q and k see positions
    layer_norm: bool = False  # LayerNorm before every layer and before the unembedding
    d_mlp: int = 0  # neurons per MLP; 0 = attention only
    smeared_keys: bool = False  # each key is mixed with the key one position before it

    def __post_init__(self):
        for name in ("n_layers", "d_mlp"):
            require_whole(name, getattr(self, name), least=0)
        for name in ("n_heads", "d_model", "d_head", "d_vocab", "n_ctx"):
            require_whole(name, getattr(self, name))
        known = f"positional_embedding_type must be one of {POSITIONS}"
        kind = self.positional_embedding_type
        require(kind in POSITIONS, f"{known}, not {kind!r}.")
        for name in ("layer_norm", "smeared_keys"):
            value = getattr(self, name)
            require(isinstance(value, bool), f"{name} must be True or False, not {value!r}.")


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Raises ValueError, with what to change, if a field makes no sense."""

    task: str = "repeats"  # what to learn: one of tasks.TASKS
    seed: int = 0  # draws the first weights and every batch
    steps: int = 800  # optimizer steps
    batch_size: int = 32  # sequences per step
    periods: tuple[int, int] = (1, 16)  # shortest, longest block (task "repeats" only)
    elsewhere: float = 0.1  # weight in the loss of the tokens that nobody could predict
    learning_rate: float = 7e-3  # AdamW, betas (.9, .99)
    weight_decay: float = 0.0  # AdamW's: a step shrinks weights by this share of the rate
    warmup: int = 20  # steps until the learning rate is reached
    decay: float = 0.3  # the last fraction of the steps, over which it falls to 0 again
    target: float | None = None  # stop when the accuracy gets here; None: use all steps
    eval_every: int = 10  # steps between measurements
    save_every: int = 100  # steps between checkpoints

    def __post_init__(self):
        task, rate, decay, target = self.task, self.learning_rate, self.weight_decay, self.target
        require_seed(self.seed)
        require_whole("warmup", self.warmup, least=0)
        for name in ("steps", "batch_size", "eval_every", "save_every"):
            require_whole(name, getattr(self, name))
        require_periods(self.periods)
        shortest, longest = self.periods
        ordered = shortest <= longest
        require(ordered, f"periods must be (shortest, longest), not {self.periods!r}.")
        object.__setattr__(self, "periods", (shortest, longest))  # JSON knows only lists
        require(isinstance(task, str), f"task must be the name of a task, not {task!r}.")
        require_number("learning_rate", rate)
        require(rate > 0, f"learning_rate must be positive, not {rate}.")
        require_number("weight_decay", decay)
        require(decay >= 0, f"weight_decay must be at least 0, not {decay}.")
        for name in ("elsewhere", "decay"):
            share = getattr(self, name)
            require_number(name, share)
            require(0 <= share <= 1, f"{name} must lie between 0 and 1, not {share}.")
        if target is not None:
            require_number("target", target)
            require(0 < target <= 1, f"target must lie between 0 and 1, not {target}.")

    def changed(self, **values) -> "TrainConfig":
        """The same with other values; None leaves a field as it is, as an option that was not
        given.
        """
        return replace(self, **{name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True)
class Preset:
    """A model, how to train it, and what it is for. `expect` says what a good run ends with."""

    model: ModelConfig
    train: TrainConfig
    purpose: str
    expect: str


def from_dict(cls: type, values: dict):
    """ModelConfig or TrainConfig from what JSON kept of it. Raises ValueError for a field that does
    not exist.
    """
    a_dict = isinstance(values, dict)
    require(a_dict, f"the fields of {cls.__name__} must be a dict, not {values!r}.")
    unknown = sorted(set(values) - {f.name for f in fields(cls)})
    require(not unknown, f"{cls.__name__} has no field called {', '.join(unknown)}.")
    return cls(**values)


# what the arithmetic tasks share
ARITHMETIC = {"learning_rate": 3e-3, "weight_decay": 1.0, "decay": 1.0, "eval_every": 50}
TWO_STEP = ARITHMETIC | {"weight_decay": 0.1}
OUTCOME = (
    "above 95 % of the held-out problems; in the held-out region (a - b, a from {region} on) "
    "mostly wrong"
)

PRESETS = {
    "induction": Preset(
        ModelConfig(),
        TrainConfig(),
        "two layers, random periods: the course's model",
        "accuracy on predictable tokens above 99.9 %, a previous-token head above .95 in layer 0",
    ),
    "fast": Preset(
        ModelConfig(),
        TrainConfig(steps=600, learning_rate=1e-2, decay=0.0, target=0.99, save_every=50),
        "the same, stopped as soon as 99 % are right",
        "accuracy on predictable tokens about 99 % within seconds; the heads are not yet clean",
    ),
    "additive": Preset(
        ModelConfig(positional_embedding_type="standard"),
        TrainConfig(),
        "the same, but positions are added to the residual stream",
        "accuracy on predictable tokens above 99.5 %, a previous-token head above .9 in layer 0",
    ),
    "one-layer": Preset(
        ModelConfig(n_layers=1),
        TrainConfig(),
        "one layer: shows that one is not enough",
        "about 55 %, by looking fixed distances back: near 0 at periods above 12 (see `evaluate`)",
    ),
    "impostor": Preset(
        ModelConfig(),
        TrainConfig(periods=(10, 10), steps=400),
        "two layers, one fixed period: looks like induction and is not",
        "near 100 % at period 10, near nothing at any other (see `evaluate`)",
    ),
    "arithmetic": Preset(
        ModelConfig(d_vocab=153, n_ctx=5, layer_norm=True, d_mlp=256),
        TrainConfig("arithmetic", steps=3200, batch_size=256, elsewhere=0.0, **ARITHMETIC),
        "+, - and x, one token per number, with MLPs: right on pairs it never saw, "
        "mostly wrong in a region it never saw",
        OUTCOME.format(region=35),
    ),
    "digits": Preset(
        ModelConfig(d_vocab=14, n_ctx=10, layer_norm=True, d_mlp=256),
        TrainConfig("digits", steps=2400, batch_size=128, elsewhere=1.0, **ARITHMETIC),
        "+ and -, one token per digit, loss on every token: it also knows how likely a problem is",
        OUTCOME.format(region=70),
    ),
    "two-step": Preset(
        ModelConfig(d_vocab=201, n_ctx=11, layer_norm=True, d_mlp=256),
        TrainConfig("two-step", steps=5000, batch_size=128, elsewhere=0.0, **TWO_STEP),
        "a - b = c ; c + d = e, one token per number: an answer that becomes an operand",
        OUTCOME.format(region=35),
    ),
    "bigger": Preset(
        ModelConfig(n_heads=12, d_model=768, d_head=64, d_vocab=513, n_ctx=64),
        TrainConfig(steps=2000, periods=(1, 32), eval_every=50, save_every=1000),
        "2 x 12 heads, d_model 768: the shape of published pictures; 20 minutes without a GPU",
        "accuracy on predictable tokens above 99.5 %, a previous-token head above .9 in layer 0",
    ),
}
