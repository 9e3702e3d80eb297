"""Labels made by the cell_shape pipeline in a real CellProfiler, as training takes them."""

import numpy as np
import pytest
import tifffile
from drawing import discs, photograph
from skimage.measure import label

NUCLEI = [(30 + 50 * i, 30 + 50 * j, 9) for i in range(4) for j in range(4)]


def test_cells_are_labelled_from_the_nuclei_of_another_channel(label_fields, tmp_path):
    human = tmp_path / "human"
    human.mkdir()
    cells = discs((210, 210), [(y, x, 20) for y, x, _ in NUCLEI])
    drawn = {"d0": photograph(discs((210, 210), NUCLEI)), "d2": photograph(cells)}
    for channel, image in drawn.items():
        tifffile.imwrite(human / f"field{channel}.tif", image)
    label_fields.main(human, tmp_path / "out")
    assert np.array_equal(tifffile.imread(tmp_path / "out/images/human.tif"), drawn["d2"])
    labels = tifffile.imread(tmp_path / "out/labels/human.tif")
    assert labels.dtype == np.uint16
    found = [labels[y, x] for y, x, _ in NUCLEI]
    assert len(set(found)) == len(NUCLEI) == labels.max()
    common, one, other = (
        (a & b).sum() for a, b in ((labels > 0, cells > 0), (labels > 0, labels > 0), (cells > 0,) * 2)
    )
    assert 2 * common / (one + other) > 0.9


def test_a_field_of_examplevitra_gives_four_images(label_fields, tmp_path):
    vitra = tmp_path / "vitra"
    vitra.mkdir()
    nuclei = [(y, x, 9) for y, x, _ in NUCLEI if (y, x) != (80, 130)] + [(104, 130, 9)]  # one lies on a cut
    cells = photograph(discs((210, 210), [(y, x, 20) for y, x, _ in nuclei]))
    tifffile.imwrite(vitra / "Channel 1-12-A-12-00.tif", cells)
    tifffile.imwrite(vitra / "Channel 2-12-A-12-00.tif", photograph(discs((210, 210), nuclei)))
    label_fields.main(vitra, tmp_path / "out")
    images, labels = (
        [[tifffile.imread(tmp_path / f"out/{part}/vitra_12_{y}{x}.tif") for x in (0, 1)] for y in (0, 1)]
        for part in ("images", "labels")
    )
    assert np.array_equal(np.block(images), cells)
    for y, x, _ in nuclei:
        assert labels[y // 105][x // 105][y % 105, x % 105] > 0
    # A cut parts cells: those that it crosses are in two quarters, and each piece has a number.
    for quarter in (part for row in labels for part in row):
        n_pieces = label(quarter, connectivity=2).max()
        assert n_pieces == quarter.max() == len(np.unique(quarter)) - 1
    assert labels[0][1][104, 130 - 105] > 0 and labels[1][1][0, 130 - 105] > 0


def test_a_folder_without_the_examples_is_named(label_fields, tmp_path):
    (tmp_path / "fieldd0.tif").touch()
    with pytest.raises(SystemExit, match="holds neither .*d0.tif and .*d2.tif .* give the folder of their images"):
        label_fields.main(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_field_without_a_result_is_named(label_fields, tmp_path, monkeypatch):
    monkeypatch.setattr(label_fields, "read_fields", lambda human: {"one": (np.zeros((64, 64), np.uint8),) * 2})
    monkeypatch.setattr(
        label_fields,
        "run_cellprofiler",
        lambda results, images: results.mkdir() or (results / "cellprofiler.log").write_text("why"),
    )
    with pytest.raises(SystemExit, match="No cells of one:\nwhy"):
        label_fields.main(tmp_path, tmp_path / "out")
