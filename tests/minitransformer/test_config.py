"""Models and trainings, written down. What is refused: bad_input_calls.py."""

import dataclasses

import pytest

from minitransformer import ModelConfig, TrainConfig
from minitransformer.config import PRESETS, from_dict


def test_configs_cannot_be_changed_in_place():
    for config, name in ((ModelConfig(), "n_heads"), (TrainConfig(), "steps")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, name, 3)


def test_changed_takes_over_what_is_given():
    config = TrainConfig(steps=50)
    assert config.changed(seed=3, steps=None) == TrainConfig(steps=50, seed=3)


def test_a_config_comes_back_from_a_dictionary():
    for preset in PRESETS.values():
        for config in (preset.model, preset.train):
            values = dataclasses.asdict(config)
            # as JSON keeps it
            listed = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
            assert from_dict(type(config), listed) == config
