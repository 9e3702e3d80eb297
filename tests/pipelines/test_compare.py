"""The pipeline `compare`: two segmentations of one image, measured against its annotation."""

import json
import shutil

import numpy as np
import pytest

from deepsplit_core.cli import main
from deepsplit_core.images import read_image


@pytest.fixture(scope="module")
def compared(run_example, annotated, tmp_path_factory):
    return run_example("compare", annotated, tmp_path_factory.mktemp("compare"))


def test_every_drawn_nucleus_is_found(demo, compared, annotated):
    rows = demo.read_rows(compared / "Image.csv")
    assert [row["Metadata_Name"] for row in rows] == ["one", "two"]
    for row in rows:
        n_drawn = read_image(annotated / "labels" / f"{row['Metadata_Name']}.png").max()
        assert float(row["Count_Annotated"]) == float(row["Count_DeepSplit"]) == n_drawn


@pytest.mark.parametrize(("name", "folder"), [("DeepSplit", "deepsplit"), ("Primary", "primary")])
def test_both_are_measured_and_saved(demo, compared, name, folder):
    for row in demo.read_rows(compared / "Image.csv"):
        labels = read_image(compared / folder / f"{row['Metadata_Name']}.tiff")
        assert labels.dtype == np.uint16
        assert labels.max() == float(row[f"Count_{name}"])
        assert 0.9 < float(row[f"Overlap_Ffactor_Annotated_{name}"]) < 1


def test_the_saved_labels_are_read_by_evaluate(compared, annotated, capsys):
    assert main(["evaluate", str(compared / "deepsplit"), str(annotated / "labels"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["images"] == 2
    assert (scores["merges"], scores["splits"]) == (0, 0)


def test_the_overlay_shows_all_three(compared):
    overlay = read_image(compared / "one_overlay.png")
    for colour in ((0, 255, 255), (255, 255, 0), (255, 0, 255)):
        assert (overlay == colour).all(axis=-1).any()


def test_real_nuclei_agree_with_their_annotation(demo, run_example, shared_data, tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for path in sorted((shared_data / "bbbc039" / kind).iterdir())[:2]:
            shutil.copy(path, tmp_path / "data" / kind)
    output = run_example("compare", tmp_path / "data", tmp_path / "output")
    rows = demo.read_rows(output / "Image.csv")
    assert len(rows) == 2
    for row in rows:
        assert float(row["Overlap_AdjustedRandIndex_Annotated_DeepSplit"]) > 0.9
        assert float(row["Overlap_Ffactor_Annotated_DeepSplit"]) > float(row["Overlap_Ffactor_Annotated_Primary"])
