"""What the network sees of images that CellProfiler's own modules masked: they set to 0 what is outside of the mask."""

import importlib
from pathlib import Path

import cellprofiler
import numpy as np
import pytest
from cellprofiler_core.image import Image, ImageSetList
from cellprofiler_core.measurement import Measurements
from cellprofiler_core.object import ObjectSet
from cellprofiler_core.pipeline import Pipeline
from cellprofiler_core.utilities.core.modules import instantiate_module
from cellprofiler_core.workspace import Workspace
from drawing import disc

from deepsplit_core.images import read_image
from deepsplit_core.metrics import evaluate

# CellProfiler 5's Crop calls it.
pytestmark = pytest.mark.filterwarnings("ignore:`product` is deprecated:DeprecationWarning")

FLY = Path(cellprofiler.__file__).parent / "data" / "examples" / "ExampleFly" / "images" / "01_POS002_F.TIF"
PIXELS = np.random.default_rng(0).uniform(0.1, 1, (60, 80)).astype(np.float32)


@pytest.fixture
def unmasked():
    instantiate_module("DeepSplitSegment")  # its folder is on the path then
    return importlib.import_module("deepsplitsegment").unmasked


@pytest.fixture
def masked_by(objects_of):
    """Run modules of CellProfiler, each on the image that the one before made, and return the last image."""
    opened = []

    def run(image, *modules, well=None):
        images = ImageSetList()
        image_set = images.get_image_set(0)
        image_set.add("0", image)
        objects = ObjectSet()
        if well is not None:
            objects.add_objects(objects_of(well.astype(np.int32)), "Well")
        pipeline = Pipeline()
        opened.append(Measurements())
        for group in ("Group_Index", "Group_Number"):
            opened[-1].add_image_measurement(group, 1)
        for number, (name, names, settings) in enumerate(modules, start=1):
            module = instantiate_module(name)
            module.set_module_num(number)
            module.show_window = False
            values = dict(zip(names, (str(number - 1), str(number))), **settings)
            for key, value in values.items():
                getattr(module, key).set_value(value)
            pipeline.add_module(module)
            module.run(Workspace(pipeline, module, image_set, objects, opened[-1], images))
        return image_set.get_image(str(len(modules)))

    yield run
    for measurements in opened:
        measurements.close()


def crop(remove, centre=(40, 30), radii=(30, 20)):
    settings = {"shape": "Ellipse", "crop_method": "Coordinates", "ellipse_center": centre}
    settings.update(ellipse_x_radius=radii[0], ellipse_y_radius=radii[1], remove_rows_and_columns=remove)
    return "Crop", ("image_name", "cropped_image_name"), settings


def mask_image(**settings):
    settings = {"source_choice": "Objects", "object_name": "Well", **settings}
    return "MaskImage", ("image_name", "masked_image_name"), settings


RESCALE = (
    "RescaleIntensity",
    ("x_name", "y_name"),
    {"rescale_method": "Divide each image by the same value", "divisor_value": 2},
)
TURN = "FlipAndRotate", ("image_name", "output_name"), {"rotate_choice": "Enter angle", "angle": 20}


@pytest.mark.parametrize("remove", ["No", "Edges", "All"])
def test_a_cropped_image_is_seen_as_it_was(unmasked, masked_by, remove):
    cropped = masked_by(Image(PIXELS), crop(remove))
    assert not cropped.pixel_data[~cropped.mask].any() and not cropped.mask.all()
    assert np.array_equal(unmasked(cropped), cropped.crop_image_similarly(PIXELS))


@pytest.mark.parametrize("inverted", [False, True])
def test_a_masked_image_is_seen_as_it_was(unmasked, masked_by, inverted):
    masked = masked_by(Image(PIXELS), mask_image(invert_mask=inverted), well=disc(PIXELS.shape, (30, 40), 20))
    assert not masked.pixel_data[~masked.mask].any() and masked.mask.any() and not masked.mask.all()
    assert np.array_equal(unmasked(masked), PIXELS)


def test_an_image_that_was_cropped_twice_is_seen_as_it_was(unmasked, masked_by):
    twice = masked_by(Image(PIXELS), crop("Edges"), crop("All", centre=(30, 20), radii=(20, 30)))
    first = twice.parent_image
    assert first.pixel_data.shape != PIXELS.shape and twice.pixel_data.shape != first.pixel_data.shape
    assert np.array_equal(unmasked(twice), twice.crop_image_similarly(first.crop_image_similarly(PIXELS)))


@pytest.mark.parametrize("then", [RESCALE, TURN], ids=["rescaled", "turned"])
def test_where_nothing_is_known_the_image_goes_on_as_at_the_border(unmasked, masked_by, then):
    image = masked_by(Image(PIXELS), mask_image(), then, well=disc(PIXELS.shape, (30, 40), 20))
    mask, pixels = image.mask, image.pixel_data
    seen = unmasked(image)
    assert mask.any() and np.array_equal(seen[mask], pixels[mask])
    assert np.isin(seen[~mask], pixels[mask]).all() and np.unique(seen[~mask]).size > 50


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_beside_the_mask_is_nothing(unmasked, value):
    mask = disc(PIXELS.shape, (30, 40), 20)
    seen = unmasked(Image(np.where(mask, PIXELS, value), mask=mask, convert=False))
    assert np.array_equal(seen[mask], PIXELS[mask]) and np.isfinite(seen).all()


def test_a_binary_image_may_be_masked(unmasked):
    mask = disc(PIXELS.shape, (30, 40), 20)
    seen = unmasked(Image(mask & (PIXELS > 0.5), mask=mask, convert=False))
    assert seen.dtype == bool and seen[~mask].any()


def test_what_a_mask_leaves_as_it_is_stays(unmasked):
    mask = disc(PIXELS.shape, (30, 40), 20)
    for image in (Image(PIXELS), Image(PIXELS, mask=mask), Image(PIXELS, mask=np.zeros_like(mask))):
        assert np.array_equal(unmasked(image), PIXELS)
    nothing = Image(np.zeros_like(PIXELS), mask=np.zeros_like(mask))
    assert not unmasked(nothing).any()


def test_cells_in_a_cropped_well_are_those_of_the_whole_image(run_on, masked_by):
    """Where it was seen with a black edge, 9 of 35 were found: their size was taken to be 1.85 times the model's."""
    whole = Image((read_image(FLY)[:400, :400] / 255).astype(np.float32))
    cropped = masked_by(whole, crop("No", centre=(200, 200), radii=(170, 150)))
    cells, scales = [], []
    for image in (whole, cropped):
        workspace = run_on(image, model="cells", device="CPU", use_model_thresholds=True)
        cells.append(workspace.object_set.get_objects("Nuclei").segmented)
        scales.append(workspace.measurements.get_current_image_measurement("DeepSplit_Scale_Nuclei"))
    assert 1 <= scales[1] < 1.3 and scales[0] == 1
    scores = evaluate(cells[1], np.where(cropped.mask, cells[0], 0))
    assert scores.n_true > 30 and scores.ap[0] > 0.7
