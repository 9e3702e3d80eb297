"""The folder of drawn images: training takes it, a seed gives the same, and nobody's files are touched."""

import numpy as np
import pytest

from deepsplit_core.images import read_image
from training import simulated
from training.cli import main
from training.simulation import Simulated


def simulate(output, *options):
    return main(["simulate", "--output", str(output), "--size", "64", "--diameter", "12", *options])


def pixels(folder):
    return [read_image(path).tobytes() for path in sorted(folder.rglob("*.tif"))]


def test_training_takes_the_folder(tmp_path):
    folder = tmp_path / "new" / "cells"
    assert simulate(folder, "--number", "3") == 0
    for kind in ("images", "labels"):
        paths = sorted((folder / kind).iterdir())
        assert [path.name for path in paths] == [f"drawn{i:04d}.tif" for i in range(3)]
        assert all((read_image(path).shape, read_image(path).dtype) == ((64, 64), np.uint16) for path in paths)
    assert main(["prepare", "--data", str(folder)]) == 0
    assert main(["inspect", "--data", str(folder), "--output", str(tmp_path / "pictures")]) == 0


def test_empty_fields_are_known_as_such(tmp_path, capsys):
    assert simulate(tmp_path / "fields", "--number", "2", "--empty") == 0
    for path in (tmp_path / "fields" / "labels").iterdir():
        assert not read_image(path).any()
    assert main(["prepare", "--data", str(tmp_path / "fields")]) == 0
    assert "2 x image without cells" in capsys.readouterr().out


def test_seed_gives_the_same_images_and_another_one_others(tmp_path):
    for name, seed in (("one", "1"), ("same", "1"), ("other", "2")):
        assert simulate(tmp_path / name, "--number", "2", "--seed", seed) == 0
    assert pixels(tmp_path / "one") == pixels(tmp_path / "same")
    assert not set(pixels(tmp_path / "one")) & set(pixels(tmp_path / "other"))


def test_folder_with_files_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert simulate(tmp_path, "--number", "1") == 1
    assert "holds files already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--number", "0"], "--number is 0"),
        (["--number", "1", "--seed", "-1"], "--seed is -1"),
        (["--number", "1", "--diameter", "100"], "cannot be drawn"),
    ],
)
def test_what_cannot_be_drawn(tmp_path, capsys, options, message):
    assert simulate(tmp_path / "cells", *options) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "cells").exists()


def test_more_cells_than_the_file_can_number_are_refused(tmp_path, capsys, monkeypatch):
    labels = np.arange(1, 65537, dtype=np.int32).reshape(256, 256)
    monkeypatch.setattr(simulated, "simulate", lambda *_: Simulated(labels.astype(np.uint16), labels))
    assert simulate(tmp_path / "cells", "--number", "1") == 1
    assert "65536 cells" in capsys.readouterr().err
    assert not (tmp_path / "cells").exists()
