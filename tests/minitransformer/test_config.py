"""An impossible model or training is refused when it is written down, with the field and its value
in the sentence.
"""

import dataclasses

import pytest

from minitransformer import ModelConfig, TrainConfig
from minitransformer.config import PRESETS, from_dict


@pytest.mark.parametrize("name", ["n_heads", "d_model", "d_head", "d_vocab", "n_ctx"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True, None])
def test_sizes_are_whole_and_positive(name, value):
    with pytest.raises(
        ValueError, match=f"{name} must be a whole number of at least 1, not {value!r}"
    ):
        ModelConfig(**{name: value})


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"n_layers": -1}, "n_layers .* at least 0"),
        ({"d_mlp": 2.0}, "d_mlp .* whole number"),
        ({"positional_embedding_type": "rotary"}, "shortformer.*standard.*rotary"),
        ({"layer_norm": 1}, "layer_norm must be True or False"),
        ({"smeared_keys": "yes"}, "smeared_keys must be True or False"),
    ],
)
def test_other_fields_of_a_model(bad, words):
    with pytest.raises(ValueError, match=words):
        ModelConfig(**bad)


@pytest.mark.parametrize(
    "bad, words",
    [
        ({"steps": 0}, "steps .* at least 1"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"seed": -1}, "seed .* at least 0"),
        ({"eval_every": 0}, "eval_every"),
        ({"save_every": 0}, "save_every"),
        ({"periods": (4,)}, "periods must be"),
        ({"periods": (1, 2, 3)}, "periods must be"),
        ({"task": None}, "task must be the name of a task, not None"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"elsewhere": 1.5}, "elsewhere must lie between 0 and 1"),
        ({"decay": -0.1}, "decay must lie between 0 and 1"),
        ({"target": 0.0}, "target must lie between 0 and 1"),
        ({"target": 1.01}, "target must lie between 0 and 1"),
    ],
)
def test_fields_of_a_training(bad, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**bad)


def test_configs_cannot_be_changed_in_place():
    for config, name in ((ModelConfig(), "n_heads"), (TrainConfig(), "steps")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, name, 3)


def test_changed_takes_over_what_is_given_and_checks_it():
    config = TrainConfig(steps=50)
    assert config.changed(seed=3, steps=None) == TrainConfig(steps=50, seed=3)
    with pytest.raises(ValueError, match="steps"):
        config.changed(steps=0)


def test_a_config_comes_back_from_a_dictionary_and_an_unknown_field_is_named():
    for preset in PRESETS.values():
        for config in (preset.model, preset.train):
            values = dataclasses.asdict(config)
            # as JSON keeps it
            listed = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
            assert from_dict(type(config), listed) == config
    with pytest.raises(ValueError, match="ModelConfig has no field called n_head, rope"):
        from_dict(ModelConfig, {"rope": 1, "n_head": 2})
