"""Settings: wrong ones are refused, and they survive being written down."""

import dataclasses
import json

import pytest

from deepsplit_core.config import ModelConfig, PreprocessingConfig, SegmentConfig, SplittingConfig, TilingConfig

ALL = [ModelConfig, PreprocessingConfig, SegmentConfig, SplittingConfig, TilingConfig]


@pytest.mark.parametrize("kind", ALL)
def test_through_json_and_back(kind):
    config = kind()
    assert kind.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("kind", ALL)
def test_unknown_key_is_named_with_the_known_ones(kind):
    first = dataclasses.fields(kind)[0].name
    with pytest.raises(ValueError, match=rf"{kind.__name__} does not know \['novelty'\]; it knows \[.*'{first}'"):
        kind.from_dict({"novelty": 1})


@pytest.mark.parametrize("kind", ALL)
def test_frozen(kind):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), dataclasses.fields(kind)[0].name, 1)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (ModelConfig, "architecture", "resnet"),
        (ModelConfig, "base_width", 0),
        (ModelConfig, "base_width", 257),
        (ModelConfig, "base_width", 16.0),
        (ModelConfig, "n_levels", 1),
        (ModelConfig, "n_levels", 8),
        (ModelConfig, "dropout", 1),
        (ModelConfig, "dropout", -0.1),
        (ModelConfig, "normalisation", "instance"),
        (ModelConfig, "passes", 3),
        (PreprocessingConfig, "method", "none"),
        (PreprocessingConfig, "low", -1),
        (PreprocessingConfig, "low", 99.8),
        (PreprocessingConfig, "high", 101),
        (PreprocessingConfig, "shrink", 0.5),
        (PreprocessingConfig, "shrink", 9),
        (PreprocessingConfig, "diameter", 7.9),
        (TilingConfig, "tile", 128),
        (TilingConfig, "halo", -16),
        (TilingConfig, "batch", 0),
        (SplittingConfig, "segmentation_threshold", 1.1),
        (SplittingConfig, "segmentation_threshold", 0),
        (SplittingConfig, "separation_threshold", -0.1),
        (SplittingConfig, "separation_threshold", 1.1),
        (SplittingConfig, "smallest_cell", -1),
        (SplittingConfig, "smallest_share", -0.1),
        (SplittingConfig, "smallest_share", 1.1),
        (SplittingConfig, "largest_hole", -1),
        (SplittingConfig, "longest_cut", -1),
        (SplittingConfig, "neck", -0.1),
        (SplittingConfig, "seed_distance", 0.5),
        (SplittingConfig, "seed_distance", 1e30),
        (SegmentConfig, "diameter", 0.5),
        (SegmentConfig, "diameter", -20),
        (SegmentConfig, "diameter", float("nan")),
        (SegmentConfig, "largest_cell", float("inf")),
        (SegmentConfig, "separation_threshold", 2),
    ],
)
def test_value_out_of_range_is_named(kind, field, value):
    with pytest.raises(ValueError, match=rf"Config\.{field} is .*, but it must be "):
        kind(**{field: value})


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(ModelConfig, {"architecture": "unet", "passes": 2}), (PreprocessingConfig, {"diameter": 20, "shrink": 2})],
)
def test_values_that_do_not_go_together_are_refused(kind, settings):
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.{list(settings)[-1]} is 2, but it must be "):
        kind(**settings)


@pytest.mark.parametrize(
    "settings",
    [{"watershed": "no"}, {"contact_to_cells": 0}, {"largest_cell": "9"}, {"smallest_cell": "20"}, {"neck": 1}],
    ids=str,
)
def test_settings_of_a_wrong_type_are_refused(settings):
    """None, their default, has no type to compare with."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        SegmentConfig.from_dict(settings)


def test_number_beyond_any_float_is_refused():
    with pytest.raises(ValueError, match=r"SplittingConfig\.neck is 1000.*, but it must be a finite number"):
        SplittingConfig.from_dict({"neck": 10**400})


def test_papers_network_is_the_default():
    assert ModelConfig() == ModelConfig("deepsplit", base_width=64, n_levels=5, dropout=0.2, normalisation="none")
    assert ModelConfig().multiple == 16


def test_scaled_lengths_and_areas():
    config = SplittingConfig(smallest_cell=20, largest_hole=100, longest_cut=8, seed_distance=6)
    scaled = config.scaled(2.5)
    assert (scaled.longest_cut, scaled.seed_distance) == (20, 15)
    assert (scaled.smallest_cell, scaled.largest_hole) == (125, 625)
    kept = ("segmentation_threshold", "separation_threshold", "watershed", "contact_to_cells")
    assert all(getattr(scaled, name) == getattr(config, name) for name in kept)
    assert config.scaled(1) == config


def test_seeds_stay_a_pixel_apart_where_the_image_shrinks():
    assert SplittingConfig(seed_distance=6).scaled(0.01).seed_distance == 1
    assert SplittingConfig(seed_distance=150).scaled(10).seed_distance == 1000


def test_users_settings_go_before_the_models():
    trained = SplittingConfig(smallest_cell=40, longest_cut=10, segmentation_threshold=0.7, watershed=True)
    config = SegmentConfig(smallest_cell=7, watershed=False, contact_to_cells=False)
    chosen = config.splitting(trained, scale=2)
    assert chosen.smallest_cell == 7  # in pixels of the image given: not scaled
    assert chosen.longest_cut == 20  # the model's: scaled
    assert chosen.segmentation_threshold == 0.7
    assert (chosen.watershed, chosen.contact_to_cells) == (False, False)


@pytest.mark.parametrize(("smallest", "expected"), [(20, (20, 1)), (40, (40, 0.25)), (60, (40, 0.25))])
def test_a_smallest_cell_below_the_models_holds_whatever_the_typical_cell(smallest, expected):
    chosen = SegmentConfig(smallest_cell=smallest).splitting(SplittingConfig(smallest_cell=40), scale=1)
    assert (chosen.smallest_cell, chosen.smallest_share) == expected


def test_zero_is_a_setting():
    trained = SplittingConfig(smallest_cell=40, separation_threshold=0.7, longest_cut=10, largest_hole=9)
    names = ("smallest_cell", "separation_threshold", "longest_cut", "largest_hole")
    chosen = SegmentConfig(**dict.fromkeys(names, 0)).splitting(trained, scale=1)
    assert [getattr(chosen, name) for name in names] == [0, 0, 0, 0]
