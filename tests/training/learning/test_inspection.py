"""Pictures of the targets: every panel shows what it is said to show, pixel by pixel."""

import numpy as np
import pytest
import tifffile
from drawing import discs, photograph

from deepsplit_core.images import read_image
from training.cli import main
from training.data.annotations import Annotated, find_annotations
from training.learning.dataset import load_samples
from training.learning.inspection import CONTACT_COLOUR, GAP, SWATCH, UNKNOWN_COLOUR, draw, parts_of, write_pictures
from training.learning.targets import TargetConfig, make_targets
from training.run.settings import read_config

CONFIG = TargetConfig(class_balance=False)


def field(shape=(600, 640)):
    """A pair and a single cell on a black image, ignored on the right, so large that it is not enlarged."""
    labels = discs(shape, [(100, 100, 40), (100, 178, 40), (300, 300, 50)])
    ignore = np.indices(shape)[1] >= 320
    return Annotated(np.zeros(shape, np.uint16), labels, ignore)


@pytest.fixture(scope="module")
def panels():
    """The three panels of the field, and its targets."""
    annotated = field()
    targets = make_targets(annotated.labels, CONFIG, annotated.ignore)
    picture = draw(annotated, targets)
    width = annotated.labels.shape[1]
    assert picture.shape == (600 + 2 * SWATCH, 3 * width + 2 * GAP, 3)
    picture = picture[:600]
    return [picture[:, i * (width + GAP) :][:, :width] for i in range(3)], targets


def has_colour(panel):
    return panel.any(axis=-1)


def test_cells_are_outlined_each_in_its_colour(panels):
    (cells, _, _), targets = panels
    assert not has_colour(cells[:, :320])[~targets.seg_mask[:, :320]].any()
    colours = [tuple(cells[y, x]) for y, x in ((60, 100), (60, 178), (250, 300))]  # their topmost pixels
    assert len(set(colours)) == 3
    assert all(max(colour) > 200 for colour in colours)
    assert not has_colour(cells)[100, 100]
    assert (cells[500, 500] == np.array(UNKNOWN_COLOUR) * 0.45 // 1).all()


def test_no_outline_is_as_blue_as_what_nobody_annotated():
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.pad(np.ones((30, 30), int), 1))
    annotated = Annotated(np.zeros(labels.shape, np.uint16), labels, labels < 0)
    cells = draw(annotated, make_targets(labels, CONFIG))[:640, :640].astype(int)
    outlines = cells[has_colour(cells)]
    assert len(np.unique(outlines, axis=0)) > 50
    assert np.linalg.norm(outlines - np.array(UNKNOWN_COLOUR), axis=1).min() > 150


def test_contact_and_what_is_unknown_are_marked(panels):
    (_, contact, _), targets = panels
    magenta = (contact == (0.45 * np.array(CONTACT_COLOUR)).astype(np.uint8)).all(axis=-1)
    blue = (contact == (0.45 * np.array(UNKNOWN_COLOUR)).astype(np.uint8)).all(axis=-1)
    assert targets.separation_mask.any()
    assert np.array_equal(magenta, targets.separation_mask & (targets.separation_weights > 0))
    assert np.array_equal(blue, targets.separation_weights == 0)
    assert blue[300, 318:320].all()  # of the cell that runs on into the ignored pixels
    assert not has_colour(contact)[~magenta & ~blue].any()


def test_weights_grow_from_black_to_white(panels):
    (_, _, weights), targets = panels
    brightness = weights.astype(int).sum(axis=-1)
    known = targets.weight_map > 0
    assert (brightness[targets.weight_map == 1] == 0).all()
    assert brightness[targets.weight_map == targets.weight_map.max()].min() == 3 * 255
    order = np.argsort(targets.weight_map[known])
    assert (np.diff(brightness[known][order]) >= -3).all()  # but for rounding
    assert (weights[~known] == UNKNOWN_COLOUR).all()


def test_small_images_are_enlarged_and_constant_ones_drawn():
    labels = discs((48, 100), [(20, 20, 8)])
    picture = draw(Annotated(photograph(labels), labels, labels < 0), make_targets(labels, CONFIG))
    assert picture.shape == (48 * 6 + 2 * SWATCH, 3 * 600 + 2 * GAP, 3)
    assert (picture[: 48 * 6 : 6, :600:6] == picture[5 : 48 * 6 : 6, 5:600:6]).all()


def test_legend_below_has_the_colours_of_each_panel():
    annotated = field()
    strip = draw(annotated, make_targets(annotated.labels, CONFIG, annotated.ignore))[600:]
    colours = [set(map(tuple, strip[:, i * (640 + GAP) :][:, :640].reshape(-1, 3).tolist())) for i in range(3)]
    assert all(UNKNOWN_COLOUR in found for found in colours)
    assert [CONTACT_COLOUR in found for found in colours] == [False, True, False]
    assert [(255, 0, 0) in found for found in colours] == [False, False, True]
    assert (strip[:, -20:] == 255).all()  # nothing is cut off


@pytest.mark.parametrize(("n_pictures", "chosen"), [(1, [3]), (2, [1, 4]), (3, [1, 3, 5]), (99, [0, 1, 2, 3, 4, 5])])
def test_pictures_are_of_images_from_all_over_the_folder(data, config, tmp_path, n_pictures, chosen):
    paths = write_pictures(find_annotations(data), config, tmp_path / "new" / "pictures", n_pictures)
    assert [path.relative_to(tmp_path / "new" / "pictures").as_posix() for path in paths] == [
        f"drawn/field{i}.png" for i in chosen
    ]
    assert all(read_image(path).shape[-1] == 3 for path in paths)


def test_command(ignoring, preset, tmp_path, capsys):
    command = ["inspect", "--data", str(ignoring), "--output", str(tmp_path / "out"), "--number", "6"]
    assert main([*command, "--preset", str(preset)]) == 0
    assert len(list((tmp_path / "out" / "drawn").iterdir())) == 6
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert "3 cells" in first
    assert "50 % ignored" in first
    assert "ignored" not in second
    assert main(["inspect", "--data", str(ignoring), "--output", str(tmp_path / "out"), "--number", "0"]) == 1
    assert "--number is 0" in capsys.readouterr().err


def test_command_takes_the_targets_of_the_preset(data, tmp_path, capsys):
    """A contact zone of another width is another share of the pixels."""
    lines = []
    for width in (1, 3):
        (tmp_path / "t.toml").write_text(f"[targets]\ncontact_width = {width}")
        command = ["inspect", "--data", str(data), "--output", str(tmp_path), "--number", "1"]
        assert main([*command, "--preset", str(tmp_path / "t.toml")]) == 0
        lines.append(capsys.readouterr().out)
    assert lines[0] != lines[1]


@pytest.mark.parametrize("setting", ["shrink=2.0", "diameter=30.0"])
def test_targets_are_drawn_at_the_size_that_training_sees(data, preset, tmp_path, setting):
    command = ["inspect", "--data", str(data), "--output", str(tmp_path), "--number", "1", "--preset", str(preset)]
    assert main([*command, "--set", f"preprocessing.{setting}"]) == 0
    config = read_config(str(preset), [f"preprocessing.{setting}"])
    (sample,) = load_samples(find_annotations(data)[3:4], config)
    assert sample.labels.shape != (48, 52)
    assert np.array_equal(read_image(tmp_path / "drawn" / "field3.png"), draw(*parts_of(sample)))


def test_annotation_that_is_lost_at_the_size_that_training_sees_is_said(data, preset, tmp_path, capsys):
    ignore = np.ones((48, 52), np.uint8)
    ignore[0, 0] = 0
    (data / "ignore").mkdir()
    tifffile.imwrite(data / "ignore" / "field3.tif", ignore)
    command = ["inspect", "--data", str(data), "--output", str(tmp_path), "--number", "1", "--preset", str(preset)]
    assert main([*command, "--set", "preprocessing.shrink=2.0"]) == 0
    assert "field3.png: nothing is annotated at the size" in capsys.readouterr().out


def test_what_nobody_annotated_is_drawn_as_such(ignoring, config):
    annotated, targets = parts_of(load_samples(find_annotations(ignoring)[:1], config)[0])
    assert np.array_equal(annotated.ignore, find_annotations(ignoring)[0].read().ignore)
    assert targets.seg_mask.dtype == bool
