"""
DeepSplitSegment
================

**DeepSplitSegment** finds cells or nuclei in a grey image and separates those that touch.

A convolutional network gives two answers for each pixel: is it cell, and is it contact between two cells? Pixels that
are cell and not contact form the objects. What is still merged is cut along the short borders of a watershed, so that a
cell with an inner edge is not halved. The results are objects that can be measured, filtered and exported like those of
**IdentifyPrimaryObjects**. With seed objects, nuclei for instance, the module takes the place of
**IdentifySecondaryObjects**: every seed gets one cell.

|

============ ============ ===============
Supports 2D? Supports 3D? Respects masks?
============ ============ ===============
YES          NO           YES
============ ============ ===============

What do I need?
^^^^^^^^^^^^^^^

- The packages *deepsplit* and *torch* in the Python that runs CellProfiler or, where they cannot be installed there, in
  any other Python of this computer: see *Run DeepSplit in*. Nothing is downloaded while it runs.
- One grey image. For the models *nuclei* and *cells* the cells must be brighter than their surroundings: use
  **ImageMath** to invert other images. *cells-phase* takes phase contrast as it is. Use **ColorToGray** on colour
  images.
- A model that was trained on images like yours. If your cells are less than half as large as those that the model was
  trained on, give their diameter, unless the model estimates it.

What do I get?
^^^^^^^^^^^^^^

The objects; if you ask for them, the unsplit clumps as objects and two probability images; and these measurements:

**Object measurements**

- *Location_Center_X, Location_Center_Y*: the centre of each object, in pixels; *Location_Center_Z* is 0.
- *Number_Object_Number*: the number of each object, as in its label image.
- *DeepSplit_MeanProbability*: the probability of being cell, averaged over the object's pixels, 0 to 1.
- *DeepSplit_ContactShare*: the share of the object's outline that is in contact with other objects, 0 to 1, counted in
  sides of pixels. The border of the image is part of the outline.
- *DeepSplit_CutLength*: the length in pixels of the cuts that freed the object. Each border between two objects is a
  cut, as without it they would be one piece. A straight border has its true length, whatever its direction; one that
  bends is measured up to a tenth too short.
- *DeepSplit_TouchesBorder*: 1 if the object touches the border of the image or of its mask, else 0.
- *Parent* and *Children*: which seed and which clump each object belongs to, and how many objects each seed and each
  clump holds, so that *Children_(objects)_Count* of the clumps is the number of cells in a clump, less those that were
  discarded.

Contact and cuts are measured with the contact pixels given back to the objects, whether or not they are in the result.
Objects that were discarded count as well, but not what is smaller than the model's own smallest object.

**Image measurements**, each followed by the name of the objects

- *Count*: the number of objects in the image.
- *DeepSplit_Cuts*: the number of pairs of objects that share a border.
- *DeepSplit_CutsByWatershed*: how many of them the watershed separated; the network separated the others. With seeds
  it is all of them.
- *DeepSplit_ModelName, DeepSplit_ModelSha256*: the model, and the SHA-256 of its file.
- *DeepSplit_Version*: the version of DeepSplit.
- *DeepSplit_Device*: the device that was used, and its type of numbers.
- *DeepSplit_Scale*: by how much your cells were taken to be larger than those that the model was trained on, and the
  image was shrunk for it: 2 if they are twice as large, 1 if it was taken as the model's own images were.
- *DeepSplit_Tile*: the longest side, in pixels, that a tile of the image may have had. It is 1024, less if a graphics
  card ran out of memory, and 0 for an image without contrast.
- *DeepSplit_SecondsNetwork, DeepSplit_SecondsSplitting*: the time that each took, in seconds.

Pixels outside the image's mask never belong to an object, nor do they count for the contrast. The network still sees
what lay there before **Crop** or **MaskImage**, so that cells at the mask's border are found as they are.

An image of one grey value gives no objects (with seeds: the seeds themselves). An empty field of a camera is none: the
contrast of each image is stretched, and noise and uneven light may then look like cells. *nuclei* and *cells* have
learned of it, but may take a speck for a small cell: the diameter of the smallest object, or seeds, keep them out;
**FlagImage**, if it skips the image sets that it flags, leaves such images out altogether. Something very bright,
debris say, that covers more than 0.2 % of the image takes the contrast from the cells, some or most of which are then
missed: clip it with **RescaleIntensity** (*Choose specific values to be reset to the full intensity range*), or mask it
with **IdentifyPrimaryObjects** and **MaskImage**, whose mask has to be inverted. An image or a setting that cannot be
used stops the run with a message; it never gives an empty result.

Volumes are not supported. To segment each plane as an image of its own, select *No* for *Process as 3D?* in
**NamesAndTypes** and, in **Metadata**, extract metadata from image file headers: without that, CellProfiler reads only
the first plane of a file. **TrackObjects** joins the planes' objects, if **Groups** puts the planes of each file into a
group.

In test mode, the network's result for the current image is kept: a change of thresholds, splitting, sizes or seeds
shows at once. If a graphics card runs out of memory, smaller tiles are tried, and then the run stops; another device is
never used in its place.

References
^^^^^^^^^^

Torr A, Basaran D, Sero J, Rittscher J, Sailem H (2020). DeepSplit: Segmentation of Microscopy Images Using
Multi-task Convolutional Networks. Medical Image Understanding and Analysis, 155-167.
`(link) <https://doi.org/10.1007/978-3-030-52791-4_13>`__
"""

# CellProfiler shows this text as the module's help: its headings are those of CellProfiler's own modules.
# ruff: noqa: D205, D400, D407

import importlib.util
import logging
import math
import os.path
import sys
from html import escape
from pathlib import Path

import numpy as np
from cellprofiler_core.image import Image
from cellprofiler_core.object import Objects
from cellprofiler_core.preferences import ABSOLUTE_FOLDER_NAME
from cellprofiler_core.setting import Binary, HTMLText, ValidationError
from cellprofiler_core.setting.choice import Choice
from cellprofiler_core.setting.do_something import DoSomething
from cellprofiler_core.setting.subscriber import LabelSubscriber
from cellprofiler_core.setting.text import Directory, Filename, Float, ImageName, LabelName
from scipy import ndimage

# deepsplit_core is light: it loads torch and scikit-image when the first image is segmented, not here. It lies beside
# this file (CellProfiler puts its plugins folder on the path), is installed, or lies in the folder above this one's.
try:
    import deepsplit_core
except ModuleNotFoundError:
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    try:
        import deepsplit_core
    except ImportError as error:
        raise ImportError(
            f"DeepSplitSegment needs the package deepsplit_core, which {sys.executable} cannot import ({error}). "
            "Copy DeepSplit's whole folder and choose the folder plugins in it as plugins folder; or copy the folder "
            "deepsplit_core beside this file; or, if CellProfiler was installed with pip, install the package from "
            f'DeepSplit\'s folder: "{sys.executable}" -m pip install .'
        ) from error

try:
    from _deepsplit_measurements import DeepSplitMeasurements  # type: ignore[import-not-found]
except ModuleNotFoundError as error:
    raise ImportError(
        f"DeepSplitSegment needs _deepsplit_measurements.py beside it in {Path(__file__).parent}: copy that file there "
        "too, from the folder plugins of DeepSplit."
    ) from error

from deepsplit_core import engine

LOGGER = logging.getLogger(__name__)

OWN_FILE = "Own weights file"
THIS_PYTHON, OTHER_PYTHON = "This Python", "Another Python environment"
OWN_ENVIRONMENT = Path(__file__).resolve().parents[1] / "deepsplit-env"  # where README.md has it made
DEVICES = {"Automatic": "auto", "CPU": "cpu", "CUDA": "cuda", "MPS": "mps"}
CUT_COLOUR, DISCARDED_COLOUR, SEED_COLOUR = (255, 0, 255), (255, 140, 0), (0, 200, 255)


class Folder(Directory):
    """A folder of which the module itself says, where it is empty, what it is needed for."""

    def test_valid(self, pipeline):
        """Find what cannot be a folder; CellProfiler would ask for a valid path in place of an empty one."""
        if self.dir_choice != ABSOLUTE_FOLDER_NAME or self.custom_path:
            super().test_valid(pipeline)


# Settings in, objects out; deepsplit_core does the work. A docstring here would hide the help text above.
class DeepSplitSegment(DeepSplitMeasurements):  # noqa: D101
    module_name = "DeepSplitSegment"
    category = "Object Processing"
    variable_revision_number = 2
    doi = {
        "Please cite the following when using DeepSplitSegment:": "https://doi.org/10.1007/978-3-030-52791-4_13",
    }

    def create_settings(self):
        """Make the settings; they are cheap, as CellProfiler instantiates every module that it finds."""
        super().create_settings()
        self.last = deepsplit_core.LastPrediction()
        self.x_name.doc = "Select the grey image in which to find cells, for instance a nuclear or a membrane stain."
        self.y_name.doc = "Enter the name of the objects that this module makes."

        self.model = Choice(
            "Select the model",
            [*sorted(deepsplit_core.bundled_models()), OWN_FILE],
            value=deepsplit_core.SegmentConfig.model,
            doc=f"""\
Select the trained network:

- *nuclei*: fluorescent nuclei, bright on a dark background.
- *cells*: whole cells in fluorescence: stains of the cytoplasm, of the membrane or of both, also confluent sheets.
- *cells-phase*: whole cells in phase contrast.
- *{OWN_FILE}*: a *.safetensors* file that DeepSplit's training wrote.

A model brings its own pre-processing and thresholds. The size of your cells may be estimated from the image: see
*Expected cell diameter*. Below the choice you see of which data the model was made, under which licence, and how large
its cells were.
""",
        )
        self.weights_directory = Folder(
            "Folder of the weights file",
            allow_metadata=False,
            doc=f'*(Used only with "{OWN_FILE}")* Select the folder of the weights file.',
        )
        self.weights_file = Filename(
            "Name of the weights file",
            "",
            get_directory_fn=self.weights_directory.get_absolute_path,
            # Not join_parts: it doubles the backslashes of Windows, as for a path with metadata.
            set_directory_fn=lambda path: self.weights_directory.set_value(
                self.weights_directory.join_string(*self.weights_directory.get_parts_from_path(path))
            ),
            browse_msg="Choose a weights file",
            exts=[("DeepSplit weights (*.safetensors)", "*.safetensors"), ("All files (*.*)", "*.*")],
            doc=f"""\
*(Used only with "{OWN_FILE}")* Select the weights file. CellProfiler checks at once that it is one of DeepSplit's.
""",
        )
        self.model_page = HTMLText(
            "What the model is", size=(30, 7), doc="What the file of the selected model says of itself."
        )
        self.diameter = Float(
            "Expected cell diameter",
            value=0.0,
            minval=0.0,
            doc="""\
Enter the typical diameter of your cells, in pixels of the input image. The image is rescaled so that the network sees
cells of the size that it was trained on, and the objects come back at full size.

The default, 0, leaves the image as it is, and looks again if the typical cell that was found is more than twice as
large as those of the training images. A model whose page says that it estimates the diameter looks again unless the
cells have 0.8 to 1.25 times its own diameter. Enter the diameter to have all images treated alike, if your cells are
less than half as large as the model's, or to save that time.
""",
        )
        self.use_model_thresholds = Binary(
            "Use the model's own thresholds?",
            True,
            doc="""\
Select *Yes* (the default) to use the thresholds that gave the best cells on the model's validation images.
Select *No* to set them by hand.
""",
        )
        self.segmentation_threshold = Float(
            "Segmentation threshold",
            value=0.5,
            minval=0.01,
            maxval=1.0,
            doc="""\
*(Used only if you do not use the model's own thresholds)* A pixel belongs to a cell if its probability of being cell
is at least this, 0.01 to 1. A lower value makes cells larger and finds fainter ones. Start from the model's own value,
which its page above tells; 0.5 is that of the bundled models.
""",
        )
        self.separation_threshold = Float(
            "Separation threshold",
            value=0.7,
            minval=0.0,
            maxval=1.0,
            doc="""\
*(Used only without seeds, and if you do not use the model's own thresholds)* A pixel separates two cells if its
probability of being contact between cells is at least this, 0 to 1. A lower value splits more. Start from the model's
own value, which its page above tells; 0.7 is that of the bundled models.
""",
        )
        self.smallest_diameter = Float(
            "Diameter of the smallest object",
            value=0.0,
            minval=0.0,
            doc="""\
Enter a diameter in pixels: objects with a smaller area than a disc of this diameter are discarded. The others are the
same as without the limit. The default, 0, takes the model's own limit, which its page above tells (with seeds: none).
Where all cells of an image are small, that limit falls to half of the diameter of a typical one, so that they are kept;
where even a typical one is below the model's limit, there is only dust, and the limit stays. 1 keeps every object.
**MeasureObjectNeighbors** does not count what is discarded here as neighbours.
""",
        )
        self.discard_border = Binary(
            "Discard objects touching the border of the image?",
            False,
            doc="""\
Select *Yes* to discard objects that touch the border of the image, as their shape is not known. The default is *No*.
**MeasureObjectNeighbors** still counts the discarded objects as neighbours.
""",
        )
        self.watershed = Binary(
            "Cut merged cells by watershed?",
            True,
            doc="""\
Select *Yes* (the default) to cut what the network left merged: where two regions of a watershed meet along a short
border, they become two objects. Select *No* to take the network's separation alone.
""",
        )
        self.longest_cut = Float(
            "Longest cut",
            value=0.0,
            minval=0.0,
            doc="""\
*(Used only with the watershed)* Enter a length in pixels of the input image: borders up to this length become cuts,
longer ones are taken for an inner edge of one cell. The default, 0, takes the model's own. A border becomes a cut only
if it is clearly narrower than both pieces as well, so that values far above the model's own change little: to split
more, lower the separation threshold, or enter a smaller cell diameter.
""",
        )
        self.contact_to_cells = Binary(
            "Give contact pixels back to the cells?",
            True,
            doc="""\
The pixels between two cells are needed to separate them, but they belong to the cells. Select *Yes* (the default) to
give each to the nearest cell, so that touching cells share a border without a gap and areas and shapes are true.
Select *No* to leave a gap.
""",
        )
        self.device = Choice(
            "Device",
            list(DEVICES),
            doc="""\
Select where the network runs:

- *Automatic* (the default): the first of CUDA, MPS and CPU that this computer has.
- *CPU*: the processor; works everywhere.
- *CUDA*: an NVIDIA graphics card.
- *MPS*: the graphics unit of an Apple processor.

A device that is selected and missing stops the run; another one is never used in its place.
""",
        )
        self.test_button = DoSomething(
            "Try the model on the device",
            "Test",
            self.on_test,
            doc="Press the button to see on which device the model runs, in which number format, and how fast.",
        )
        self.use_seeds = Binary(
            "Use seed objects?",
            False,
            doc="""\
Select *Yes* if you have found, for instance, the nuclei already. Each seed then gets exactly one object, which has its
number and holds all of it, but for what lies outside the image's mask. Where two seeds share a piece of foreground, the
cut follows the network's separation probability. Seeds that were discarded because they touch the border of the image,
as in **IdentifySecondaryObjects**, or that of this image's mask, still keep their pixels from the others.

A piece of foreground without any seed is no object. But a cell without a seed that touches one with a seed becomes part
of that one, as in **IdentifySecondaryObjects**: give all nuclei as seeds, and filter the cells afterwards.

Objects are numbered without gaps. If some are discarded (below), if seeds lie outside the image's mask, or if the
seeds' own numbers have gaps, *Parent_(seeds)* tells which seed is whose, and rows of both do not match by number. To
keep only seeds that have an object, use **FilterObjects** on the seeds: *Children_(objects)_Count* at least 1.
""",
        )
        self.seeds_name = LabelSubscriber(
            "Select the seed objects",
            "None",
            doc="*(Used only with seeds)* Select the objects that get one object each, for instance the nuclei.",
        )
        self.largest_diameter = Float(
            "Diameter of the largest object",
            value=0.0,
            minval=0.0,
            doc="""\
Enter a diameter in pixels: objects with a larger area than a disc of this diameter are discarded. The default, 0, is
no limit. **MeasureObjectNeighbors** still counts the discarded objects as neighbours.
""",
        )
        self.discard_mask_border = Binary(
            "Discard objects touching the border of the mask?",
            False,
            doc="""\
Select *Yes* to discard objects that touch the border of the image's mask, for instance that of a well or of a region
that **MaskImage** left, as they may be cut off. The default is *No*.
""",
        )
        self.fill_holes = Binary(
            "Fill holes in objects?",
            True,
            doc="""\
Select *Yes* (the default) to fill holes inside single objects, up to the model's own largest hole. Select *No* to leave
them.
""",
        )
        self.wants_clumps = Binary(
            "Name the unsplit clumps as objects?",
            False,
            doc="""\
Select *Yes* to keep the pieces of foreground as they were before they were split, as objects that are parents of the
cells. *Children_(cells)_Count* of a clump is the number of cells in it that were kept, one at least: to count all of
them, discard nothing here, and filter the cells afterwards.
""",
        )
        self.clumps_name = LabelName(
            "Name the clumps", "Clumps", doc="*(Used only with clumps)* Enter the name of the unsplit pieces."
        )
        self.wants_probabilities = Binary(
            "Keep the probability images?",
            False,
            doc="""\
Select *Yes* to keep, as two images, what the network says: for each pixel the probability of being cell, and of being
contact between cells. Values are 0 to 1, never stretched, so that they can be compared between images.
""",
        )
        self.segmentation_name = ImageName(
            "Name the segmentation probability",
            "CellProbability",
            doc="*(Used only with probability images)* Enter the name of the image of the probability of being cell.",
        )
        self.separation_name = ImageName(
            "Name the separation probability",
            "ContactProbability",
            doc="*(Used only with probability images)* Enter the name of the image of the probability of contact.",
        )
        self.where = Choice(
            "Run DeepSplit in",
            [THIS_PYTHON, OTHER_PYTHON],
            value=THIS_PYTHON if importlib.util.find_spec("torch") else OTHER_PYTHON,
            doc=f"""\
Select which Python runs the network. The result is what DeepSplit gives in that Python.

- *{THIS_PYTHON}* (the default if it has *torch*): the Python that runs CellProfiler. Each of CellProfiler's workers
  holds a model of its own in memory.
- *{OTHER_PYTHON}*: one in which *deepsplit* and *torch* are installed, in the same version as here. Use it with the
  CellProfiler application, whose Python nothing can be added to, or to have all workers share one model. A process is
  started there with the first image; it ends by itself five minutes after the last.
""",
        )
        self.environment = Folder(
            "Folder of the Python environment",
            dir_choices=[ABSOLUTE_FOLDER_NAME],
            allow_metadata=False,
            doc=f"""\
*(Used only with "{OTHER_PYTHON}")* Select the folder of the environment, or enter the path of its *python* program.
Where nothing is entered it is the folder *{OWN_ENVIRONMENT.name}* in the folder of DeepSplit, if that is there.
""",
        )

    def settings(self):
        """Return the settings as they are stored: by position, so that new ones go to the end."""
        return [
            *super().settings(),
            self.model,
            self.weights_directory,
            self.weights_file,
            self.diameter,
            self.use_model_thresholds,
            self.segmentation_threshold,
            self.separation_threshold,
            self.smallest_diameter,
            self.discard_border,
            self.watershed,
            self.longest_cut,
            self.contact_to_cells,
            self.device,
            # Revision 2
            self.use_seeds,
            self.seeds_name,
            self.largest_diameter,
            self.discard_mask_border,
            self.fill_holes,
            self.wants_clumps,
            self.clumps_name,
            self.wants_probabilities,
            self.segmentation_name,
            self.separation_name,
            self.where,
            self.environment,
        ]

    def help_settings(self):
        """Return all settings in the order in which they are thought about."""
        return [
            *super().settings(),
            self.model,
            self.weights_directory,
            self.weights_file,
            self.model_page,
            self.diameter,
            self.use_model_thresholds,
            self.segmentation_threshold,
            self.separation_threshold,
            self.use_seeds,
            self.seeds_name,
            self.watershed,
            self.longest_cut,
            self.contact_to_cells,
            self.fill_holes,
            self.smallest_diameter,
            self.largest_diameter,
            self.discard_border,
            self.discard_mask_border,
            self.wants_clumps,
            self.clumps_name,
            self.wants_probabilities,
            self.segmentation_name,
            self.separation_name,
            self.where,
            self.environment,
            self.device,
            self.test_button,
        ]

    def visible_settings(self):
        """Return the settings that are in use, in the same order."""
        own_file = self.model.value == OWN_FILE
        own_thresholds = not self.use_model_thresholds.value
        shape_splits = not self.use_seeds.value
        self.model_page.content = self.describe_model()
        uses: list = [
            (own_file, [self.weights_directory, self.weights_file]),
            (own_thresholds, [self.segmentation_threshold]),
            (own_thresholds and shape_splits, [self.separation_threshold]),
            (self.use_seeds.value, [self.seeds_name]),
            (shape_splits, [self.watershed, self.contact_to_cells]),
            (shape_splits and self.watershed.value, [self.longest_cut]),
            (self.wants_clumps.value, [self.clumps_name]),
            (self.wants_probabilities.value, [self.segmentation_name, self.separation_name]),
            (self.where.value == OTHER_PYTHON, [self.environment]),
        ]
        unused = [setting for is_used, settings in uses if not is_used for setting in settings]
        return [setting for setting in self.help_settings() if setting not in unused]

    def upgrade_settings(self, setting_values, variable_revision_number, module_name):
        """Add to the settings of an older pipeline what it did not know, so that it gives its old result."""
        if variable_revision_number == 1:
            no_seeds, no_limit, no_mask_border, fill_holes = ["No", "None"], ["0.0"], ["No"], ["Yes"]
            no_clumps, no_probabilities = ["No", "Clumps"], ["No", "CellProbability", "ContactProbability"]
            setting_values = [
                *setting_values,
                *(no_seeds + no_limit + no_mask_border + fill_holes + no_clumps + no_probabilities),
                *(THIS_PYTHON, f"{ABSOLUTE_FOLDER_NAME}|"),
            ]
            variable_revision_number = 2
        return setting_values, variable_revision_number

    def validate_module(self, pipeline):
        """Find a wrong setting while the pipeline is being made, without torch."""
        if self.where.value == OTHER_PYTHON:
            try:
                engine.find_python(self.environment_path())
            except FileNotFoundError as error:
                raise ValidationError(str(error), self.environment) from error
        for setting in self.settings():
            if isinstance(setting, Float) and not math.isfinite(setting.value):
                raise ValidationError(f"{setting.text} is {setting.value}: enter a number.", setting)
        if 0 < self.diameter.value < 1:
            raise ValidationError(
                f"The expected cell diameter is {self.diameter.value} pixels: enter at least 1, or 0 to leave it to "
                "the model.",
                self.diameter,
            )
        if 0 < self.largest_diameter.value < self.smallest_diameter.value:
            raise ValidationError(
                f"The largest object's diameter is {self.largest_diameter.value} pixels, the smallest one's "
                f"{self.smallest_diameter.value}: enter a larger diameter, or 0 for no limit.",
                self.largest_diameter,
            )
        self.validate_names(pipeline)
        try:
            card = self.read_card()
        except deepsplit_core.WeightsError as error:
            setting = self.weights_file if self.model.value == OWN_FILE else self.model
            raise ValidationError(str(error), setting) from error
        try:
            deepsplit_core.scale_of(self.config(), card)
        except ValueError as error:
            raise ValidationError(str(error), self.diameter) from error

    def validate_module_warnings(self, pipeline):
        """Warn while the pipeline is being made: no error, as it may be made for another computer."""
        if self.where.value == THIS_PYTHON and not importlib.util.find_spec("torch"):
            raise ValidationError(
                f"This Python ({sys.executable}) has no torch, so that the network cannot run here: install torch, or "
                f'select "{OTHER_PYTHON}".',
                self.where,
            )

    def validate_names(self, pipeline):
        """Find objects, or images, that have one name: CellProfiler itself does not look for them."""
        objects, images = [self.y_name], [self.x_name]
        if self.use_seeds.value:
            objects.insert(0, self.seeds_name)
        if self.wants_clumps.value:
            objects.append(self.clumps_name)
        if self.wants_probabilities.value:
            images += [self.segmentation_name, self.separation_name]
        for kind, group, settings in (("objects", "objectgroup", objects), ("images", "imagegroup", images)):
            of_others = pipeline.get_provider_dictionary(group, self)
            for i, setting in enumerate(settings):
                if setting.value in [other.value for other in settings[:i]]:
                    raise ValidationError(
                        f"Two {kind} of this module have the name {setting.value}: enter another.", setting
                    )
                is_made = isinstance(setting, (LabelName, ImageName))
                if is_made and setting.value in of_others:
                    other = of_others[setting.value][0][0]
                    raise ValidationError(
                        f"{other.module_name} (module {other.module_num}) makes {kind} of the name {setting.value} "
                        "already: enter another.",
                        setting,
                    )

    def read_card(self):
        """Read what the model's file says of itself."""
        if self.model.value != OWN_FILE:
            return deepsplit_core.read_card(deepsplit_core.weights.path_of(self.model.value))
        if not self.weights_file.value:
            raise deepsplit_core.WeightsError("No weights file is selected: select one, or a bundled model.")
        return deepsplit_core.read_card(Path(self.weights_path()))

    def describe_model(self):
        """Return what the model is, as HTML."""
        try:
            return deepsplit_core.card_page(self.read_card())
        except deepsplit_core.WeightsError as error:
            return escape(str(error))

    def weights_path(self):
        """Return the path of the user's own weights file; without a folder it would be one in the current folder."""
        folder, name = self.weights_directory, self.weights_file.value
        is_known = folder.dir_choice != ABSOLUTE_FOLDER_NAME or folder.custom_path.strip() or os.path.isabs(name)
        if not is_known:
            raise deepsplit_core.WeightsError(
                f"No folder is selected for the weights file {name}: select the one it is in."
            )
        return os.path.join(folder.get_absolute_path(), name)

    def environment_path(self):
        """Return the path of the other Python's environment; an empty one would be the current folder."""
        if not self.environment.custom_path.strip():
            if OWN_ENVIRONMENT.is_dir():
                return str(OWN_ENVIRONMENT)
            raise FileNotFoundError(
                "No Python environment is selected: select the folder of one in which DeepSplit and torch are "
                f'installed, or "{THIS_PYTHON}" in "{self.where.text}". (There is no {OWN_ENVIRONMENT} either.)'
            )
        # Not `get_absolute_path`, which takes ~ for a folder of this name in the current one.
        return os.path.abspath(os.path.expanduser(self.environment.custom_path.strip()))

    def config(self):
        """Translate the settings; None stands for the model's own value."""
        own = self.use_model_thresholds.value
        return deepsplit_core.SegmentConfig(
            model=self.weights_path() if self.model.value == OWN_FILE else self.model.value,
            diameter=self.diameter.value,
            device=DEVICES[self.device.value],
            segmentation_threshold=None if own else self.segmentation_threshold.value,
            separation_threshold=None if own else self.separation_threshold.value,
            smallest_cell=disc_area(self.smallest_diameter.value) or None,
            largest_cell=disc_area(self.largest_diameter.value) or None,
            largest_hole=None if self.fill_holes.value else 0.0,
            longest_cut=self.longest_cut.value or None,
            watershed=self.watershed.value,
            contact_to_cells=self.contact_to_cells.value,
            discard_border=self.discard_border.value,
            discard_mask_border=self.discard_mask_border.value,
        )

    def on_test(self):
        """Show what would be used, in a window."""
        import wx

        with wx.BusyCursor():
            message = self.test_device()
        wx.MessageBox(message, self.module_name)

    def test_device(self):
        """Return a sentence on what would be used and how long it takes, or why it cannot be used."""
        try:
            config = self.config()
            if self.where.value == OTHER_PYTHON:
                return engine.try_device(config.model, config.device, python=self.environment_path())
            return deepsplit_core.try_device(config.model, config.device)
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            return f"The model cannot be run as it is set.\n\n{error}"

    def run(self, workspace):
        """Segment one image. What goes wrong stops the run: an empty result would look like success."""
        image = workspace.image_set.get_image(self.x_name.value)
        pixels = image.pixel_data
        if image.volumetric:
            raise ValueError(
                f"The image {self.x_name.value} is a volume (shape {pixels.shape}), but DeepSplitSegment needs single "
                'planes: select "No" for "Process as 3D?" in NamesAndTypes, and extract metadata from image file '
                "headers in Metadata, so that every plane is an image of its own."
            )
        config, seeds = self.config(), self.find_seeds(workspace, image)
        prediction = self.predict(workspace.pipeline, image, config)
        found = deepsplit_core.split_prediction(prediction, config, seeds)

        # What was discarded is still a neighbour to MeasureObjectNeighbors, unless it was too small.
        self.add_objects(
            workspace, image, self.y_name.value, found.labels, found.small_removed_labels, found.all_labels
        )
        if seeds is not None:
            self.relate(workspace, self.seeds_name.value, found.seeds)
            self.warn_of_numbers(found.seeds)
        if self.wants_clumps.value:
            clumps = deepsplit_core.find_clumps(found)
            self.add_objects(
                workspace, image, self.clumps_name.value, clumps.labels, clumps.all_labels, clumps.all_labels
            )
            self.relate(workspace, self.clumps_name.value, clumps.clump_of_cell)
        if self.wants_probabilities.value:
            for setting, probability in zip((self.segmentation_name, self.separation_name), prediction.probabilities):
                pixels = probability.astype(np.float32)
                workspace.image_set.add(setting.value, Image(pixels, parent_image=image, convert=False))
        measured = deepsplit_core.measure_cells(found)
        self.add_features(workspace, found, measured)

        seconds = prediction.seconds + found.seconds
        LOGGER.info(
            "DeepSplitSegment: model %s (sha256 %s) on %s %s in tiles of %d: %d %s, %d cuts, %.2f s",
            config.model, prediction.sha256[:12], prediction.device, prediction.dtype, prediction.tile,
            found.numbers.size, self.y_name.value, measured.n_cuts, seconds,
        )  # fmt: skip
        if self.show_window:
            self.prepare_display(workspace.display_data, image, found, measured, seeds)

    def predict(self, pipeline, image, config):
        """Return what the network says of the image; in test mode, without running it again for the same."""
        pixels, mask = unmasked(image), image.mask if image.has_mask else None
        if pipeline.test_mode:
            where = self.where.value, self.environment.value if self.where.value == OTHER_PYTHON else ""
            return self.last.predict(self.run_network, pixels, config, mask, where)
        return self.run_network(pixels, config, mask)

    def run_network(self, image, config, mask):
        """Run the network where the settings say."""
        if self.where.value == OTHER_PYTHON:
            return engine.predict(image, config, mask, python=self.environment_path())
        try:
            return deepsplit_core.predict(image, config, mask)
        except ImportError as error:
            raise ImportError(f'{error}. Or select "{OTHER_PYTHON}" in "{self.where.text}".') from error

    def find_seeds(self, workspace, image):
        """Return the seeds, or None if they are not used."""
        if not self.use_seeds.value:
            return None
        objects = workspace.object_set.get_objects(self.seeds_name.value)
        shape, mask = image.pixel_data.shape[:2], image.mask if image.has_mask else None
        if objects.segmented.shape != shape:
            raise ValueError(
                f"The seeds {self.seeds_name.value} have the shape {objects.segmented.shape}, the image "
                f"{self.x_name.value} {shape}, but they must be equal: use Crop, Resize or ResizeObjects."
            )
        return deepsplit_core.combine_seeds(objects.segmented, objects.unedited_segmented, mask)

    def add_objects(self, workspace, image, name, labels, small_removed, unedited):
        """Add objects, and measure their number and places."""
        objects = Objects()
        objects.segmented = labels
        # CellProfiler takes the line before for what is not set, and looks at every pixel of what is. Both are copied,
        # as MeasureObjectNeighbors of CellProfiler 4 writes into the second. Only EditObjectsManually asks whether they
        # are set, and hides what is drawn by hand from later modules if so: settings decide there, not a chance speck.
        is_edited = any(module.module_name == "EditObjectsManually" for module in workspace.pipeline.modules())
        is_set = self.use_seeds.value or self.may_discard() if is_edited else unedited is not labels
        if is_set:
            objects.unedited_segmented = unedited
            objects.small_removed_segmented = small_removed
        objects.parent_image = image
        workspace.object_set.add_objects(objects, name)
        self.add_measurements(workspace, name)

    def warn_of_numbers(self, seeds):
        """Tell of objects whose numbers are not their seeds', although the settings let every seed have one."""
        if self.is_object_identification_module() and seeds.size and seeds[-1] != seeds.size:
            LOGGER.warning(
                "%s is partly outside of the mask, or lacks numbers: %s are numbered without gaps. Join rows of both "
                "by Parent_%s, not by number.",
                self.seeds_name.value, self.y_name.value, self.seeds_name.value,
            )  # fmt: skip

    def prepare_display(self, data, image, found, measured, seeds):
        """Keep what `display` draws: plain values, as they may come from another process."""
        prediction = found.prediction
        data.x_data, data.y_data = deepsplit_core.check_image(image.pixel_data, prediction.mask), found.labels
        data.dimensions = image.dimensions
        data.discarded = np.where(found.labels == 0, found.all_labels, 0)
        data.cuts = deepsplit_core.border_pixels(found.touching).astype(np.uint8)
        data.seeds = None if seeds is None else np.where(seeds.labels <= seeds.n, seeds.labels, 0)
        data.segmentation, data.separation = prediction.probabilities.astype(np.float32)
        areas = np.bincount(found.labels.ravel())[1:]
        diameter = 2 * math.sqrt(np.median(areas) / math.pi) if areas.size else 0.0
        data.table = [
            ["Objects", str(areas.size)],
            ["Discarded, orange", str(count(data.discarded) - count(found.small))],
            ["Too small, orange", str(count(found.small))],
            ["Diameter, median", f"{diameter:.1f} px"],
            ["Scale", f"{prediction.scale:.2f}"],
            [
                "Thresholds",
                f"{found.splitting.segmentation_threshold:.2f}, {found.splitting.separation_threshold:.2f}",
            ],
            ["Cuts, magenta", str(measured.n_cuts)],
            ["By watershed", str(found.n_cuts)] if seeds is None else ["Seeds, blue", str(seeds.n)],
            ["Model", prediction.card.name],
            ["Device", prediction.device],
            ["Number format", prediction.dtype],
            ["Seconds", f"{prediction.seconds + found.seconds:.2f}"],
        ]

    def display(self, workspace, figure):
        """Draw the image, outlines and cuts over it, a table, the objects, and the two probabilities."""
        data, name = workspace.display_data, self.y_name.value
        figure.set_subplots((3, 2), dimensions=data.dimensions)
        axes = figure.subplot_imshow_grayscale(0, 0, data.x_data, self.x_name.value)
        outlines = [
            {"name": name, "labels": [data.y_data]},
            {"name": "Discarded", "labels": [data.discarded], "outline_color": DISCARDED_COLOUR},
            {"name": "Cuts", "labels": [data.cuts], "outline_color": CUT_COLOUR},
        ]
        if data.seeds is not None:
            outlines.append({"name": self.seeds_name.value, "labels": [data.seeds], "outline_color": SEED_COLOUR})
        figure.subplot_imshow_grayscale(1, 0, data.x_data, "Outlines and cuts", cplabels=outlines, sharexy=axes)
        figure.subplot_table(2, 0, [[value] for _, value in data.table], row_labels=[label for label, _ in data.table])
        figure.subplot_imshow_labels(0, 1, data.y_data, name, sharexy=axes)
        for x, title, probability in (
            (1, "Cell probability", data.segmentation),
            (2, "Contact probability", data.separation),
        ):
            figure.subplot_imshow_grayscale(x, 1, probability, title, normalize=False, vmin=0, vmax=1, sharexy=axes)

    def prepare_to_create_batch(self, workspace, fn_alter_path):
        """Rewrite the folders for the machines that a batch file is made for."""
        folder = self.weights_directory
        # Each job has default folders of its own, and works in another.
        if folder.dir_choice != ABSOLUTE_FOLDER_NAME or folder.custom_path.strip():
            folder.value = folder.join_string(ABSOLUTE_FOLDER_NAME, folder.get_absolute_path())
        folder.alter_for_create_batch_files(fn_alter_path)
        if os.path.isabs(self.weights_file.value):
            self.weights_file.value = fn_alter_path(self.weights_file.value)
        environment = self.environment.custom_path.strip()
        if environment and not environment.startswith("~"):  # ~ is the home of whoever runs the job
            self.environment.value = self.environment.join_string(ABSOLUTE_FOLDER_NAME, self.environment_path())
        self.environment.alter_for_create_batch_files(fn_alter_path)
        return True

    def is_object_identification_module(self):
        """Return whether every seed has an object: ExportToDatabase asks before it writes both into one table."""
        return self.use_seeds.value and not self.may_discard()

    def may_discard(self):
        """Return whether the settings discard objects, in this image or another."""
        limits = self.smallest_diameter.value, self.largest_diameter.value
        return bool(self.discard_border.value or self.discard_mask_border.value or any(limits))

    def volumetric(self):
        """Return that volumes are not supported."""
        return False


def unmasked(image):
    """Return the pixels of an image as they are outside of its mask, too.

    Crop and MaskImage set them to 0 there. The network would take the edge for that of cells, and find them of a wrong
    size; what lies there is not segmented, but tells it how the cells at the mask's border go on.
    """
    pixels = image.pixel_data
    if not image.has_mask or image.mask.all():
        return pixels
    mask = image.mask
    if image.parent_image is not None:
        try:
            behind = image.crop_image_similarly(unmasked(image.parent_image))
        except (RuntimeError, ValueError):
            pass  # it was turned or resized
        else:
            if behind.shape == pixels.shape and np.array_equal(behind[mask], pixels[mask]):
                return behind
    inside, outside = pixels[mask], np.nan_to_num(pixels[~mask], posinf=0, neginf=0)
    # Where most of it is one value, nothing lies there: the image goes on as at the mask's border. (Not all of it, as
    # FlipAndRotate interpolates.)
    if inside.size and np.mean(abs(outside - np.median(outside)) <= 1e-6 * (float(inside.max()) - inside.min())) > 0.5:
        return pixels[tuple(ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True))]
    return pixels


def count(labels):
    """Return the number of labels of an image."""
    return np.unique(labels[labels > 0]).size


def disc_area(diameter):
    """Return the area of a disc in square pixels."""
    return math.pi / 4 * diameter**2
