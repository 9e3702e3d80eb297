"""Pipelines of every past revision load, and give what they gave."""

import io

import numpy as np
import pytest
from cellprofiler_core.image import Image
from cellprofiler_core.pipeline import Pipeline

# As revision 1 wrote it. The folder and the file of the weights are filled in.
REVISION_1 = """\
CellProfiler Pipeline: http://www.cellprofiler.org
Version:5
DateRevision:428
GitHash:
ModuleCount:1
HasImagePlaneDetails:False

DeepSplitSegment:[module_num:1|svn_version:'Unknown'|variable_revision_number:1|show_window:False|notes:[]|\
batch_state:array([], dtype=uint8)|enabled:True|wants_pause:False]
    Select the input image:DNA
    Name the output object:Nuclei
    Select the model:Own weights file
    Folder of the weights file:Elsewhere...|{folder}
    Name of the weights file:{file}
    Expected cell diameter:0.0
    Use the model's own thresholds?:No
    Segmentation threshold:0.6
    Separation threshold:0.4
    Diameter of the smallest object:4.5
    Discard objects touching the border of the image?:Yes
    Cut merged cells by watershed?:Yes
    Longest cut:3.5
    Give contact pixels back to the cells?:No
    Device:CPU
"""


def load(text):
    pipeline = Pipeline()
    pipeline.load(io.StringIO(text))
    (module,) = (module for module in pipeline.modules() if module.module_name == "DeepSplitSegment")
    return module


def test_revision_1_gives_its_old_result_pixel_for_pixel(run_on, wired_weights):
    module = load(REVISION_1.format(folder=wired_weights.parent, file=wired_weights.name))
    image, expected, mask = np.zeros((50, 70), np.float32), np.zeros((50, 70), np.int32), np.ones((50, 70), bool)

    def draw(number, rows, columns, kept=True):
        image[rows, columns] = 1
        expected[rows, columns] = number if kept else 0

    draw(1, slice(5, 15), slice(5, 15))
    draw(2, slice(5, 15), slice(17, 27))
    image[5:15, 15:17] = 0.6  # contact, which stays out
    draw(3, slice(20, 31), slice(5, 16))
    draw(4, slice(20, 31), slice(18, 29))
    draw(3, slice(24, 27), slice(16, 17))
    draw(4, slice(24, 27), slice(17, 18))  # a bridge of 3 pixels, which the watershed cuts
    draw(5, slice(5, 15), slice(40, 50))
    image[9, 44] = 0  # a hole, which is filled
    draw(6, slice(20, 30), slice(50, 60))
    mask[20:30, 60:] = False  # beside a border of the mask, which is no border yet
    draw(7, slice(35, 38), slice(20, 25), kept=False)  # 15 pixels: too small
    draw(8, slice(40, 50), slice(40, 50), kept=False)  # at the border of the image
    draw(9, slice(35, 45), slice(2, 36), kept=True)  # larger than all others
    image[35:45, 2:36], expected[35:45, 2:36] = 1, 9

    found = run_on(Image(image, mask=mask), module=module)
    labels = found.object_set.get_objects("Nuclei").segmented
    numbers = {value: i for i, value in enumerate((1, 2, 5, 3, 4, 6, 9), start=1)}  # by first pixel, in reading order
    assert np.array_equal(labels, np.vectorize(lambda value: numbers.get(value, 0))(expected))


def test_revision_1_uses_nothing_that_is_new(wired_weights):
    module = load(REVISION_1.format(folder=wired_weights.parent, file=wired_weights.name))
    config = module.config()
    assert (config.model, config.device) == (str(wired_weights), "cpu")
    assert (config.segmentation_threshold, config.separation_threshold, config.longest_cut) == (0.6, 0.4, 3.5)
    assert (config.largest_hole, config.largest_cell, config.discard_mask_border) == (None, None, False)
    new = (module.use_seeds, module.wants_clumps, module.wants_probabilities)
    assert not any(setting.value for setting in new)
    module.validate_module(Pipeline())


def test_the_example_pipeline_loads_as_it_is(root):
    module = load((root / "example_pipelines" / "cell_shape" / "cell_shape.cppipe").read_text())
    assert (module.x_name.value, module.y_name.value, module.model.value) == ("DNA", "Nuclei", "nuclei")
    assert module.variable_revision_number == 2
    assert len(module.settings()) == 25


@pytest.mark.parametrize("revision", [2])
def test_the_current_revision_is_left_alone(make_module, revision):
    values = [str(setting.value) for setting in make_module().settings()]
    assert make_module().upgrade_settings(values, revision, "DeepSplitSegment") == (values, 2)
