"""Presets, what the command line sets in their place, and what contradicts the weights that a run starts from."""

import pytest

from training.run.settings import check_kinds, merge, read_config, read_setting


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch=4", {"batch": 4}),
        ("network.base_width=32", {"network": {"base_width": 32}}),
        ("learning_rate=1e-3", {"learning_rate": 1e-3}),
        ("freeze_trunk=false", {"freeze_trunk": False}),
        ("optimiser=sgd", {"optimiser": "sgd"}),
        ('optimiser = "sgd"', {"optimiser": "sgd"}),
        ("start_from=runs/mine.safetensors", {"start_from": "runs/mine.safetensors"}),
        ("teacher=/data/wide.safetensors", {"teacher": "/data/wide.safetensors"}),
        ("teacher=../wide.safetensors", {"teacher": "../wide.safetensors"}),
        (r"teacher=C:\runs\wide.safetensors", {"teacher": r"C:\runs\wide.safetensors"}),
        (r"teacher=C:\Users\Jane Doe\wide (1).safetensors", {"teacher": r"C:\Users\Jane Doe\wide (1).safetensors"}),
        ("picture=^[^_]+", {"picture": "^[^_]+"}),
        (r"picture=^plate(\d+)_", {"picture": r"^plate(\d+)_"}),
        ("teacher=2026+/wide.safetensors", {"teacher": "2026+/wide.safetensors"}),
    ],
)
def test_setting_is_toml_and_a_word_needs_no_quotes(text, expected):
    assert read_setting(text) == expected


@pytest.mark.parametrize("text", ["batch", "batch=", "=4", "batch=4\nview=5 6"])
def test_what_is_no_setting(text):
    with pytest.raises(ValueError, match=r"(?s)--set .*expected KEY=VALUE, such as network\.base_width=32"):
        read_setting(text)


def test_tables_are_merged_and_left_as_they_were():
    one, other = {"a": 1, "t": {"x": 1, "y": 2}}, {"b": 3, "t": {"y": 4}}
    assert merge(one, other) == {"a": 1, "b": 3, "t": {"x": 1, "y": 4}}
    assert one == {"a": 1, "t": {"x": 1, "y": 2}}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("novelty=1", r"TrainConfig does not know \['novelty'\]"),
        ("network.depth=1", r"ModelConfig does not know \['depth'\]"),
        ("batch=big", "batch is 'big', but it must be a whole number"),
        ("batch=2.5", "batch is 2.5, but it must be a whole number"),
        ("batch=true", "batch is True, but it must be a whole number"),
        ("network.dropout=high", "network.dropout is 'high', but it must be a number"),
        ("network=3", "network is 3, but it must be a table"),
        ("learning_rate=.001", "learning_rate is '.001', but it must be a number"),
        ("learning_rate=0,001", "learning_rate is '0,001', but it must be a number"),
        ("freeze_trunk=1", "freeze_trunk is 1, but it must be true or false"),
        ("seed=-1", "TrainConfig.seed is -1, but it must be at least 0"),
    ],
)
def test_what_is_refused(preset, setting, message):
    with pytest.raises(ValueError, match=message):
        read_config(str(preset), [setting])


def test_a_blur_that_reaches_across_the_view_is_refused(preset):
    settings = ["view=16", "augmentation.blur=8"]
    with pytest.raises(ValueError, match=r"view is 16, but it must be above 24, three times augmentation\.blur"):
        read_config(str(preset), settings)


def test_a_file_whose_preprocessing_is_no_table_is_refused(tmp_path):
    (tmp_path / "mine.toml").write_text("preprocessing = 5")
    with pytest.raises(ValueError, match="preprocessing is 5, but it must be a table"):
        read_config(str(tmp_path / "mine.toml"))


def test_what_is_refused_beside_trained_weights(preset):
    with pytest.raises(ValueError, match="network is 3, but it must be a table"):
        read_config(str(preset), ["network=3", "start_from=nuclei"])


def test_later_settings_win(preset):
    config = read_config(str(preset), ["batch=3", "batch=5", "network.n_levels=2"])
    assert (config.batch, config.network.n_levels, config.network.base_width) == (5, 2, 2)


def test_whole_numbers_are_numbers():
    check_kinds({"a": 1}, {"a": 0.5})
