"""The example pipelines in CellProfiler's window: they open, step in test mode, and run with two workers."""

import numpy as np
import pytest
import run_demo
import tifffile
from window import wait_for

# Where the names of the settings stand in the main window, as (rows, columns) of its picture: right of the list of
# modules and the buttons below it, which CellProfiler 5 makes up to 302 pixels wide.
LEFT = 310
NAMES_OF_SETTINGS = np.s_[150:1280, LEFT:560]


def names_of_settings(picture):
    """The rows in which lines of dark text on a light ground begin, in the main window."""
    dark = (picture[NAMES_OF_SETTINGS].max(axis=-1) < 128).any(axis=1)
    return NAMES_OF_SETTINGS[0].start + np.flatnonzero(np.diff(dark.astype(int)) == 1)


def share_of_colour(picture):
    """The share of pixels that are not grey: outlines and labels are drawn in colours, an empty window has none."""
    return float(np.mean(np.ptp(picture.astype(int), axis=-1) > 80))


def measured(path):
    """What was measured of each object. CellProfiler's own columns on files differ between window and headless."""
    return [
        {key: value for key, value in row.items() if key.startswith(("AreaShape_", "Neighbors_", "DeepSplit_"))}
        for row in run_demo.read_rows(path)
    ]


def step_through_deepsplit(cellprofiler, name, number=5):
    """Enter test mode and run the modules up to DeepSplitSegment, which has this number: its result must be seen."""
    # Test mode begins at the first module after the four input modules.
    cellprofiler.press("F5", *["F6"] * (number - 4))
    shown = cellprofiler.wait_for_window(f"^DeepSplitSegment #{number}, image cycle #1", 90)
    cellprofiler.xdotool("windowsize", "--sync", shown, 1150, 880)  # large enough to see outlines and cuts
    wait_for(
        "objects in the window of DeepSplitSegment",
        lambda: share_of_colour(cellprofiler.picture(shown, f"{name}_module")) > 0.005,
        20,
    )
    assert cellprofiler.trouble() == []


def step_and_see_settings(cellprofiler, name):
    """Run DeepSplitSegment, the first module in test mode, whose settings are shown then."""
    before = cellprofiler.picture(cellprofiler.main, f"{name}_open")
    step_through_deepsplit(cellprofiler, name)
    cellprofiler.fit()

    def are_shown():
        """The window of the result lies above the settings until they have been drawn again."""
        settings = cellprofiler.picture(cellprofiler.main, f"{name}_settings")
        is_changed = not np.array_equal(settings[NAMES_OF_SETTINGS], before[NAMES_OF_SETTINGS])
        return is_changed and len(names_of_settings(settings)) > 15

    wait_for("the settings of DeepSplitSegment", are_shown, 20)
    assert cellprofiler.trouble() == []


def test_the_device_can_be_tried(open_example):
    with open_example("cell_shape") as cellprofiler:
        step_and_see_settings(cellprofiler, "cell_shape")
        # The button is the last of the settings, and its word the last before the help buttons. Where the name of the
        # setting takes two lines, the word stands between them.
        settings = cellprofiler.picture(cellprofiler.main, "cell_shape_settings")
        row = names_of_settings(settings)[-1]
        (columns,) = np.nonzero((settings[row - 14 : row + 12, LEFT:1000].max(axis=-1) < 128).any(axis=0))
        cellprofiler.click(cellprofiler.main, LEFT + columns[-1], row + 2)
        answer = cellprofiler.wait_for_window("^DeepSplitSegment$", 120)
        cellprofiler.picture(answer, "device")
        assert cellprofiler.trouble() == []


@pytest.mark.parametrize("name", ["compare", "batch"])
def test_an_example_opens_and_steps(open_example, name):
    with open_example(name) as cellprofiler:
        step_and_see_settings(cellprofiler, name)


def test_cells_are_offered_for_correction(open_example):
    with open_example("correct_and_train") as cellprofiler:
        step_through_deepsplit(cellprofiler, "correct_and_train", number=6)
        before = cellprofiler.windows()
        cellprofiler.press("F6")
        (editor,) = wait_for("the window of EditObjectsManually", lambda: cellprofiler.windows() - before, 30)
        cellprofiler.xdotool("windowsize", "--sync", editor, 700, 800)
        wait_for("cells to edit", lambda: share_of_colour(cellprofiler.picture(editor, "editing")) > 0.005, 20)
        assert cellprofiler.trouble() == []


def test_an_analysis_with_two_workers_gives_what_a_headless_run_gives(open_example, images, tmp_path):
    most = 0
    with open_example("cell_shape", "-r") as cellprofiler:

        def finished():
            nonlocal most
            most = max(most, len(cellprofiler.workers()))
            return cellprofiler.find_window("^Analysis complete")

        dialog = wait_for("the end of the analysis", finished, 300)
        cellprofiler.picture("root", "analysis")
        assert most == 2
        cellprofiler.xdotool("windowactivate", "--sync", dialog, "key", "Return")
        wait_for("the end of the workers", lambda: not cellprofiler.workers(), 20)
        assert cellprofiler.trouble() == []

    output, headless = tmp_path / "output", tmp_path / "headless"
    assert run_demo.run_cellprofiler(headless, images / "images") == 0
    names = sorted(path.name for path in headless.glob("*_labels.tiff"))
    assert len(names) == 4
    for name in names:
        assert np.array_equal(tifffile.imread(output / name), tifffile.imread(headless / name)), name
    for name in ("Nuclei.csv", "Cells.csv"):
        assert measured(output / name) == measured(headless / name)
