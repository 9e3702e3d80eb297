"""Labels made by the cell_shape pipeline in a real CellProfiler, as training takes them."""

import numpy as np
import pytest
import tifffile
from drawing import discs, photograph

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


def test_a_field_without_a_result_is_named(label_fields, tmp_path, monkeypatch):
    monkeypatch.setattr(label_fields, "read_fields", lambda human: {"one": (np.zeros((64, 64), np.uint8),) * 2})
    monkeypatch.setattr(
        label_fields,
        "run_cellprofiler",
        lambda results, images: results.mkdir() or (results / "cellprofiler.log").write_text("why"),
    )
    with pytest.raises(SystemExit, match="No cells of one:\nwhy"):
        label_fields.main(tmp_path, tmp_path / "out")
