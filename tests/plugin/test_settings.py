"""Settings become a SegmentConfig, are stored by position, are hidden when unused, and are checked at design time."""

import contextlib
import io
import math
import struct
import sys
import types

import pytest
from cellprofiler_core.pipeline import Pipeline
from cellprofiler_core.preferences import DEFAULT_OUTPUT_FOLDER_NAME, DEFAULT_OUTPUT_SUBFOLDER_NAME
from cellprofiler_core.setting import ValidationError
from cellprofiler_core.setting.text import _directory

import deepsplit_core
from deepsplit_core import SegmentConfig

# The file format. Settings may be added at the end, with a new revision; see upgrade_settings for anything else.
REVISION_2 = [
    "x_name",
    "y_name",
    "model",
    "weights_directory",
    "weights_file",
    "diameter",
    "use_model_thresholds",
    "segmentation_threshold",
    "separation_threshold",
    "smallest_diameter",
    "discard_border",
    "watershed",
    "longest_cut",
    "contact_to_cells",
    "device",
    "use_seeds",
    "seeds_name",
    "largest_diameter",
    "discard_mask_border",
    "fill_holes",
    "wants_clumps",
    "clumps_name",
    "wants_probabilities",
    "segmentation_name",
    "separation_name",
    "where",
    "environment",
]
CHANGED = {
    "x_name": "Actin",
    "y_name": "Cells",
    "model": "Own weights file",
    "weights_directory": "Default Input Folder sub-folder|weights",
    "weights_file": "mine.safetensors",
    "diameter": 31.5,
    "use_model_thresholds": False,
    "segmentation_threshold": 0.25,
    "separation_threshold": 0.75,
    "smallest_diameter": 4.5,
    "discard_border": True,
    "watershed": False,
    "longest_cut": 7.25,
    "contact_to_cells": False,
    "device": "CPU",
    "use_seeds": True,
    "seeds_name": "Nuclei",
    "largest_diameter": 55.5,
    "discard_mask_border": True,
    "fill_holes": False,
    "wants_clumps": True,
    "clumps_name": "Heaps",
    "wants_probabilities": True,
    "segmentation_name": "P",
    "separation_name": "Q",
    "where": "Another Python environment",
    "environment": "Elsewhere...|/envs/deepsplit",
}


def test_defaults_are_the_models_own(make_module):
    assert make_module().config() == SegmentConfig(model="nuclei", watershed=True, contact_to_cells=True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"diameter": 40.0}, {"diameter": 40.0}),
        ({"segmentation_threshold": 0.2}, {"segmentation_threshold": None}),  # not in use
        (
            {"use_model_thresholds": False, "segmentation_threshold": 0.2, "separation_threshold": 0.0},
            {"segmentation_threshold": 0.2, "separation_threshold": 0.0},
        ),
        ({"smallest_diameter": 10.0}, {"smallest_cell": 25 * math.pi}),
        ({"largest_diameter": 10.0}, {"largest_cell": 25 * math.pi}),
        ({"longest_cut": 6.5}, {"longest_cut": 6.5}),
        ({}, {"largest_hole": None, "smallest_cell": None, "largest_cell": None, "longest_cut": None}),
        ({"fill_holes": False}, {"largest_hole": 0.0}),
        ({"discard_mask_border": True}, {"discard_mask_border": True}),
        ({"watershed": False}, {"watershed": False}),
        ({"contact_to_cells": False}, {"contact_to_cells": False}),
        ({"discard_border": True}, {"discard_border": True}),
        ({"device": "Automatic"}, {"device": "auto"}),
        ({"device": "CPU"}, {"device": "cpu"}),
        ({"device": "CUDA"}, {"device": "cuda"}),
        ({"device": "MPS"}, {"device": "mps"}),
    ],
)
def test_settings_become_a_config(make_module, settings, expected):
    config = make_module(**settings).config().to_dict()
    assert {name: config[name] for name in expected} == pytest.approx(expected)


def test_own_file_is_given_by_its_path(make_module, own_file, tiny_weights):
    assert make_module(**own_file(tiny_weights)).config().model == str(tiny_weights)


def test_bundled_models_can_be_chosen(make_module):
    assert make_module().model.choices == [*sorted(deepsplit_core.bundled_models()), "Own weights file"]


def test_positions_are_those_of_revision_2(make_module):
    module = make_module()
    assert [id(setting) for setting in module.settings()] == [id(getattr(module, name)) for name in REVISION_2]


def test_a_saved_pipeline_keeps_every_setting(make_module):
    assert set(CHANGED) == set(REVISION_2)
    module = make_module(**CHANGED)
    module.set_module_num(1)
    saved, loaded = Pipeline(), Pipeline()
    saved.add_module(module)
    text = io.StringIO()
    saved.dump(text, save_image_plane_details=False)
    text.seek(0)
    loaded.load(text)
    (copy,) = loaded.modules()
    assert {name: getattr(copy, name).value for name in REVISION_2} == CHANGED
    assert copy.config() == module.config()


@pytest.mark.parametrize(
    ("settings", "shown", "hidden"),
    [
        ({}, ["longest_cut"], ["weights_directory", "weights_file", "segmentation_threshold", "separation_threshold"]),
        ({"model": "Own weights file"}, ["weights_directory", "weights_file"], ["segmentation_threshold"]),
        ({"use_model_thresholds": False}, ["segmentation_threshold", "separation_threshold"], ["weights_file"]),
        ({"watershed": False}, ["contact_to_cells"], ["longest_cut"]),
        ({}, ["use_seeds", "model_page", "test_button"], ["seeds_name", "clumps_name", "segmentation_name"]),
        ({"use_seeds": True}, ["seeds_name"], ["watershed", "longest_cut", "contact_to_cells"]),
        ({"use_seeds": True, "use_model_thresholds": False}, ["segmentation_threshold"], ["separation_threshold"]),
        ({"wants_clumps": True}, ["clumps_name"], ["segmentation_name"]),
        ({"where": "This Python"}, ["where", "device"], ["environment"]),
        ({"where": "Another Python environment"}, ["environment", "device", "test_button"], []),
        ({"wants_probabilities": True}, ["segmentation_name", "separation_name"], ["clumps_name"]),
    ],
)
def test_unused_settings_are_hidden(make_module, settings, shown, hidden):
    module = make_module(**settings)
    visible = [id(setting) for setting in module.visible_settings()]
    assert all(id(getattr(module, name)) in visible for name in shown)
    assert not any(id(getattr(module, name)) in visible for name in hidden)


def test_no_stored_setting_is_shown_twice_or_never(make_module):
    everything = {"model": "Own weights file", "use_model_thresholds": False, "where": "Another Python environment"}
    shown = []
    for use_seeds in (False, True):
        module = make_module(**everything, wants_clumps=True, wants_probabilities=True, use_seeds=use_seeds)
        visible = [id(setting) for setting in module.visible_settings()]
        assert len(visible) == len(set(visible))
        shown += [name for name in REVISION_2 if id(getattr(module, name)) in visible]
    assert set(shown) == set(REVISION_2)


def test_the_help_has_all_that_the_window_has(make_module):
    module = make_module(**{"where": "Another Python environment"})
    texts = [text for text, _ in module.get_help_text()[1]]
    shown = [setting.text for setting in module.visible_settings()]
    assert [text for text in texts if text in shown] == shown
    assert {getattr(module, name).text for name in REVISION_2} <= set(texts)


# What the model is


def test_the_panel_shows_what_the_bundled_model_is(make_module):
    module = make_module()
    module.visible_settings()
    assert "25.1 pixels" in module.model_page.content
    assert "bbbc039 (licence CC0" in module.model_page.content


def test_the_panel_shows_what_an_own_file_is_and_what_is_wrong_with_it(make_module, own_file, tiny_weights):
    module = make_module(**own_file(tiny_weights))
    module.visible_settings()
    assert "tiny: Made for the tests" in module.model_page.content
    tiny_weights.unlink()
    module.visible_settings()
    assert "tiny.safetensors cannot be read: No such file" in module.model_page.content
    module.weights_file.value = ""
    module.visible_settings()
    assert "No weights file is selected" in module.model_page.content


# The button


def test_the_button_tells_what_would_be_used(make_module, own_file, tiny_weights, monkeypatch):
    asked = []
    monkeypatch.setattr(deepsplit_core, "try_device", lambda *asked_for: asked.append(asked_for) or "It runs.")
    assert make_module(**own_file(tiny_weights), device="CUDA").test_device() == "It runs."
    assert asked == [(str(tiny_weights), "cuda")]


@pytest.mark.parametrize("error", [RuntimeError, ImportError, deepsplit_core.WeightsError])
def test_the_button_tells_why_the_model_cannot_be_run(make_module, monkeypatch, error):
    def fail(*_):
        raise error("no such device: choose another")

    monkeypatch.setattr(deepsplit_core, "try_device", fail)
    assert make_module().test_device().endswith("\n\nno such device: choose another")


def test_the_button_opens_a_window(make_module, monkeypatch):
    shown = []
    wx = types.ModuleType("wx")
    wx.BusyCursor = contextlib.nullcontext
    wx.MessageBox = lambda *message: shown.append(message)
    monkeypatch.setitem(sys.modules, "wx", wx)
    monkeypatch.setattr(deepsplit_core, "try_device", lambda *_: "It runs.")
    make_module().test_button.on_event_fired()
    assert shown == [("It runs.", "DeepSplitSegment")]


# Design time


def header(text):
    return struct.pack("<Q", len(text)) + text


FOREIGN = {
    "empty": b"",
    "text": b"These are no weights, but a text that is long enough.",
    "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94(",
    "cut": header(b'{"__metadata__": {')[:-5],
    "foreign": header(b'{"__metadata__": {"format": "pt"}}'),
    "future": header(b'{"__metadata__": {"deepsplit": "{\\"format_version\\": 99}"}}'),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_weights_file_is_found_at_design_time(make_module, own_file, tmp_path, kind):
    path = tmp_path / "w.safetensors"
    path.write_bytes(FOREIGN[kind])
    module = make_module(**own_file(path))
    with pytest.raises(ValidationError, match="w.safetensors is not a usable DeepSplit weights file") as caught:
        module.validate_module(Pipeline())
    assert caught.value.get_setting() is module.weights_file


def test_a_missing_weights_file_is_found_at_design_time(make_module, own_file, tmp_path):
    module = make_module(**own_file(tmp_path / "none.safetensors"))
    with pytest.raises(ValidationError, match="none.safetensors cannot be read: No such file") as caught:
        module.validate_module(Pipeline())
    assert caught.value.get_setting() is module.weights_file


def test_a_weights_file_has_to_be_named(make_module, tmp_path):
    module = make_module(model="Own weights file")
    with pytest.raises(ValidationError, match="No weights file is selected") as caught:
        module.validate_module(Pipeline())
    assert caught.value.get_setting() is module.weights_file


def test_a_weights_file_has_to_have_a_folder(make_module, tiny_weights, monkeypatch):
    monkeypatch.chdir(tiny_weights.parent)  # where a name alone would be found
    module = make_module(model="Own weights file", weights_directory="Elsewhere...|", weights_file=tiny_weights.name)
    with pytest.raises(ValidationError, match="No folder is selected for the weights file tiny.safetensors") as caught:
        module.validate_module(Pipeline())
    assert caught.value.get_setting() is module.weights_file
    make_module(
        model="Own weights file", weights_directory="Elsewhere...|", weights_file=str(tiny_weights)
    ).validate_module(Pipeline())


def test_a_good_weights_file_and_the_bundled_model_are_accepted(make_module, own_file, tiny_weights):
    make_module(**own_file(tiny_weights)).validate_module(Pipeline())
    make_module().validate_module(Pipeline())


def test_a_diameter_below_one_pixel_is_found_at_design_time(make_module):
    module = make_module(diameter=0.5)
    with pytest.raises(ValidationError, match="0.5 pixels: enter at least 1, or 0") as caught:
        module.validate_module(Pipeline())
    assert caught.value.get_setting() is module.diameter


LENGTHS = ("diameter", "smallest_diameter", "largest_diameter", "longest_cut")
THRESHOLDS = ("segmentation_threshold", "separation_threshold")  # their largest value keeps infinity out


@pytest.mark.parametrize(
    ("name", "value"), [*((n, "inf") for n in LENGTHS), *((n, "nan") for n in LENGTHS + THRESHOLDS)]
)
def test_what_is_no_number_is_found_in_its_own_setting(make_module, name, value):
    module = make_module()
    setting = getattr(module, name)
    setting.set_value_text(value)
    with pytest.raises(ValidationError, match=f"{setting.text} is {value}: enter a number") as caught:
        module.validate_module(Pipeline())
    assert caught.value.get_setting() is setting


def test_a_diameter_far_from_the_models_is_found_at_design_time(make_module):
    module = make_module(diameter=500.0)
    with pytest.raises(ValidationError, match=r"500 pixels, but this model takes 2\.51 to 251") as caught:
        module.validate_module(Pipeline())
    assert caught.value.get_setting() is module.diameter


def test_a_largest_object_below_the_smallest_is_found_at_design_time(make_module):
    module = make_module(smallest_diameter=20.0, largest_diameter=19.5)
    with pytest.raises(ValidationError, match="19.5 pixels, the smallest one's 20.0") as caught:
        module.validate_module(Pipeline())
    assert caught.value.get_setting() is module.largest_diameter
    make_module(smallest_diameter=20.0, largest_diameter=20.0).validate_module(Pipeline())
    make_module(smallest_diameter=20.0, largest_diameter=0.0).validate_module(Pipeline())


@pytest.mark.parametrize(
    ("settings", "culprit", "name"),
    [
        ({"use_seeds": True, "seeds_name": "Nuclei"}, "y_name", "Nuclei"),
        ({"wants_clumps": True, "clumps_name": "Nuclei"}, "clumps_name", "Nuclei"),
        ({"wants_clumps": True, "use_seeds": True, "seeds_name": "Clumps"}, "clumps_name", "Clumps"),
        ({"wants_probabilities": True, "segmentation_name": "DNA"}, "segmentation_name", "DNA"),
        ({"wants_probabilities": True, "separation_name": "CellProbability"}, "separation_name", "CellProbability"),
    ],
)
def test_equal_names_are_found_at_design_time(make_module, settings, culprit, name):
    module = make_module(**settings)
    with pytest.raises(ValidationError, match=f"have the name {name}: enter another") as caught:
        module.validate_module(Pipeline())
    assert caught.value.get_setting() is getattr(module, culprit)
    for switch in ("use_seeds", "wants_clumps", "wants_probabilities"):
        getattr(module, switch).value = False
    module.validate_module(Pipeline())  # names that are not in use do not matter


@pytest.mark.parametrize(
    ("switch", "culprit"),
    [(None, "y_name"), ("wants_clumps", "clumps_name"), ("wants_probabilities", "segmentation_name")],
)
def test_names_of_modules_before_are_found_at_design_time(make_module, switch, culprit):
    """Else the run would end at the first image, or one image take the place of another without a word."""
    settings = {switch: True} if switch else {}
    first, second = make_module(**settings), make_module(**{**settings, "y_name": "Cells" if switch else "Nuclei"})
    pipeline = Pipeline()
    for number, module in enumerate((first, second), 1):
        module.set_module_num(number)
        pipeline.add_module(module)
    first.validate_module(pipeline)
    name = getattr(second, culprit).value
    with pytest.raises(
        ValidationError, match=rf"DeepSplitSegment \(module 1\) makes .* of the name {name} already"
    ) as caught:
        second.validate_module(pipeline)
    assert caught.value.get_setting() is getattr(second, culprit)
    getattr(second, culprit).value = "Another"
    if switch == "wants_probabilities":
        second.separation_name.value = "Third"
    second.validate_module(pipeline)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "no such model"),
        ("device", "abacus"),
        ("diameter", -1.0),
        ("segmentation_threshold", 1.5),
        ("separation_threshold", -0.1),
        ("smallest_diameter", -1.0),
        ("largest_diameter", -1.0),
        ("longest_cut", -1.0),
    ],
)
def test_impossible_values_are_found_at_design_time(make_module, name, value):
    setting = getattr(make_module(**{name: value}), name)
    with pytest.raises(ValidationError):
        setting.test_valid(Pipeline())


def test_a_batch_file_gets_the_other_machines_folder(make_module, own_file, tiny_weights):
    module = make_module(**own_file(tiny_weights))
    assert module.prepare_to_create_batch(None, lambda path, **_: path.replace(str(tiny_weights.parent), "/cluster"))
    assert module.config().model == "/cluster/tiny.safetensors"


def test_a_batch_file_does_not_name_folders_by_the_current_one(make_module, monkeypatch, tmp_path):
    """Jobs work in another folder, and no rule for other machines' paths could know such a name."""
    monkeypatch.chdir(tmp_path)
    folders = {"weights_directory": "Elsewhere...|models", "environment": "Elsewhere...|env"}
    module = make_module(model="Own weights file", weights_file="tiny.safetensors", **folders)
    assert module.prepare_to_create_batch(None, lambda path, **_: path.replace(str(tmp_path), "/cluster"))
    assert module.config().model == "/cluster/models/tiny.safetensors"
    assert module.environment_path() == "/cluster/env"


@pytest.mark.parametrize("path", ["", "~/env"])
def test_a_batch_file_leaves_an_environment_that_each_machine_finds_by_itself(make_module, path):
    module = make_module(where="Another Python environment", environment=f"Elsewhere...|{path}")
    assert module.prepare_to_create_batch(None, lambda path, **_: path)
    assert module.environment.custom_path == path


@pytest.mark.parametrize("choice", [DEFAULT_OUTPUT_FOLDER_NAME, DEFAULT_OUTPUT_SUBFOLDER_NAME])
def test_a_batch_file_names_the_folder_of_weights_in_an_output_folder_which_each_job_has_of_its_own(
    make_module, monkeypatch, tmp_path, choice
):
    monkeypatch.setattr(_directory, "get_default_output_directory", lambda: str(tmp_path))
    module = make_module(model="Own weights file", weights_file="tiny.safetensors")
    module.weights_directory.value = module.weights_directory.join_string(choice, "models")
    here = module.weights_directory.get_absolute_path()
    assert here.startswith(str(tmp_path))
    assert module.prepare_to_create_batch(None, lambda path, **_: path.replace(str(tmp_path), "/cluster"))
    assert module.config().model == here.replace(str(tmp_path), "/cluster") + "/tiny.safetensors"


def test_a_batch_file_gets_the_other_machines_path_of_a_weights_file_that_was_named_with_its_folder(make_module):
    module = make_module(model="Own weights file", weights_file="/here/models/tiny.safetensors")
    assert module.prepare_to_create_batch(None, lambda path, **_: path.replace("/here", "/cluster"))
    assert module.config().model == "/cluster/models/tiny.safetensors"


def test_a_weights_file_that_was_browsed_for_keeps_its_folder_as_it_is(make_module, monkeypatch):
    """Doubled backslashes are for settings that take metadata; a batch file would not know the folder then."""
    module = make_module(model="Own weights file")
    folder = ("Elsewhere...", r"D:\lab\models")
    monkeypatch.setattr(module.weights_directory, "get_parts_from_path", lambda path: folder)
    module.weights_file.set_directory_fn("whatever the dialog gives")
    assert module.weights_directory.split_parts() == folder
