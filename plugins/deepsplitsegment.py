"""
DeepSplitSegment
================

**DeepSplitSegment** finds cells or nuclei in a grey image and separates those that touch.

A convolutional network looks at the image twice: one half of it says where cells are, the other half where two cells
are in contact. Cells are what is left of the first without the second. What is still merged is cut along the short
borders of a watershed, so that a cell with an inner edge is not halved. The results are objects that can be measured,
filtered and exported like those of **IdentifyPrimaryObjects**.

|

============ ============ ===============
Supports 2D? Supports 3D? Respects masks?
============ ============ ===============
YES          NO           YES
============ ============ ===============

What do I need?
^^^^^^^^^^^^^^^

- The packages *deepsplit* and *torch* in the Python that runs CellProfiler. Nothing is downloaded while it runs.
- One grey image in which the cells are brighter than their surroundings. Use **ColorToGray** on colour images.
- A model that was trained on images like yours. If your cells are much larger or smaller than those that the model
  was trained on, give their diameter.

What do I get?
^^^^^^^^^^^^^^

The objects, and these measurements:

- *Count*: the number of objects in the image.
- *Location_Center_X, Location_Center_Y*: the centre of each object, in pixels.
- *Number_Object_Number*: the number of each object, as in its label image.

Pixels outside the image's mask never belong to an object. An image without contrast gives no objects. An image or a
setting that cannot be used stops the run with a message; it never gives an empty result.

References
^^^^^^^^^^

Torr A, Basaran D, Sero J, Rittscher J, Sailem H (2020). DeepSplit: Segmentation of Microscopy Images Using
Multi-task Convolutional Networks. Medical Image Understanding and Analysis, 155-167.
`(link) <https://doi.org/10.1007/978-3-030-52791-4_13>`__
"""

# CellProfiler shows this text as the module's help: its headings are those of CellProfiler's own modules.
# ruff: noqa: D205, D400, D407

import logging
import math
import os.path
import sys
from pathlib import Path

from cellprofiler_core.module.image_segmentation import ImageSegmentation
from cellprofiler_core.object import Objects
from cellprofiler_core.setting import Binary, ValidationError
from cellprofiler_core.setting.choice import Choice
from cellprofiler_core.setting.text import Directory, Filename, Float

# deepsplit_core is light: it loads torch and scikit-image when the first image is segmented, not here.
try:
    import deepsplit_core
except ImportError as error:
    raise ImportError(
        f"DeepSplitSegment needs the package deepsplit in the Python that runs CellProfiler ({sys.executable}), "
        f"where importing it failed ({error}). Install it there, from DeepSplit's folder: "
        f'"{sys.executable}" -m pip install .'
    ) from error

LOGGER = logging.getLogger(__name__)

OWN_FILE = "Own weights file"
DEVICES = {"Automatic": "auto", "CPU": "cpu", "CUDA": "cuda", "MPS": "mps"}


# Settings in, objects out; deepsplit_core does the work. A docstring here would hide the help text above.
class DeepSplitSegment(ImageSegmentation):  # noqa: D101
    module_name = "DeepSplitSegment"
    category = "Object Processing"
    variable_revision_number = 1
    doi = {
        "Please cite the following when using DeepSplitSegment:": "https://doi.org/10.1007/978-3-030-52791-4_13",
    }

    def create_settings(self):
        """Make the settings; they are cheap, as CellProfiler instantiates every module that it finds."""
        super().create_settings()
        self.x_name.doc = "Select the grey image in which to find cells, for instance a nuclear or a membrane stain."
        self.y_name.doc = "Enter the name of the objects that this module makes."

        self.model = Choice(
            "Select the model",
            [*sorted(deepsplit_core.bundled_models()), OWN_FILE],
            value=deepsplit_core.SegmentConfig.model,
            doc=f"""\
Select the trained network:

- *nuclei*: fluorescent nuclei, bright on a dark background; it comes with DeepSplit.
- *{OWN_FILE}*: a *.safetensors* file that DeepSplit's training wrote.

A model brings its own pre-processing, thresholds and cell diameter; nothing of it is guessed from your images.
""",
        )
        self.weights_directory = Directory(
            "Folder of the weights file",
            allow_metadata=False,
            doc=f'*(Used only with "{OWN_FILE}")* Select the folder of the weights file.',
        )
        self.weights_file = Filename(
            "Name of the weights file",
            "",
            get_directory_fn=self.weights_directory.get_absolute_path,
            set_directory_fn=lambda path: self.weights_directory.join_parts(
                *self.weights_directory.get_parts_from_path(path)
            ),
            browse_msg="Choose a weights file",
            exts=[("DeepSplit weights (*.safetensors)", "*.safetensors"), ("All files (*.*)", "*.*")],
            doc=f"""\
*(Used only with "{OWN_FILE}")* Select the weights file. CellProfiler checks at once that it is one of DeepSplit's.
""",
        )
        self.diameter = Float(
            "Expected cell diameter",
            value=0.0,
            minval=0.0,
            doc="""\
Enter the typical diameter of your cells, in pixels of the input image. The image is rescaled so that the network sees
cells of the size that it was trained on, and the objects come back at full size.

The default, 0, leaves the image as it is: right if your cells are about as large as those of the training images.
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
is at least this, 0.01 to 1; the default is 0.5. A lower value makes cells larger and finds fainter ones.
""",
        )
        self.separation_threshold = Float(
            "Separation threshold",
            value=0.5,
            minval=0.0,
            maxval=1.0,
            doc="""\
*(Used only if you do not use the model's own thresholds)* A pixel separates two cells if its probability of being
contact between cells is at least this, 0 to 1; the default is 0.5. A lower value splits more.
""",
        )
        self.smallest_diameter = Float(
            "Diameter of the smallest object",
            value=0.0,
            minval=0.0,
            doc="""\
Enter a diameter in pixels: objects with a smaller area than a disc of this diameter are dropped, before contact pixels
are given back. The default, 0, takes the model's own limit; 1 keeps every object.
""",
        )
        self.discard_border = Binary(
            "Discard objects touching the border of the image?",
            False,
            doc="""\
Select *Yes* to drop objects that touch the border of the image, as their shape is not known. The default is *No*.
**MeasureObjectNeighbors** still counts the dropped objects as neighbours.
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
longer ones are taken for an inner edge of one cell. A larger value splits more. The default, 0, takes the model's own.
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
        ]

    def visible_settings(self):
        """Return the settings that are in use."""
        hidden = []
        if self.model.value != OWN_FILE:
            hidden += [self.weights_directory, self.weights_file]
        if self.use_model_thresholds.value:
            hidden += [self.segmentation_threshold, self.separation_threshold]
        if not self.watershed.value:
            hidden += [self.longest_cut]
        return [setting for setting in self.settings() if not any(setting is other for other in hidden)]

    def validate_module(self, pipeline):
        """Find a wrong setting while the pipeline is being made, without torch."""
        if 0 < self.diameter.value < 1:
            raise ValidationError(
                f"The expected cell diameter is {self.diameter.value} pixels: enter at least 1, or 0 for as trained.",
                self.diameter,
            )
        if self.model.value != OWN_FILE:
            return
        if not self.weights_file.value:
            raise ValidationError("No weights file is selected: select one, or a bundled model.", self.weights_file)
        try:
            deepsplit_core.read_card(Path(self.weights_path()))
        except deepsplit_core.WeightsError as error:
            raise ValidationError(str(error), self.weights_file) from error

    def weights_path(self):
        """Return the path of the user's own weights file."""
        return os.path.join(self.weights_directory.get_absolute_path(), self.weights_file.value)

    def config(self):
        """Translate the settings; None stands for the model's own value."""
        own = self.use_model_thresholds.value
        smallest = self.smallest_diameter.value
        return deepsplit_core.SegmentConfig(
            model=self.weights_path() if self.model.value == OWN_FILE else self.model.value,
            diameter=self.diameter.value,
            device=DEVICES[self.device.value],
            segmentation_threshold=None if own else self.segmentation_threshold.value,
            separation_threshold=None if own else self.separation_threshold.value,
            smallest_cell=math.pi / 4 * smallest**2 if smallest else None,
            longest_cut=self.longest_cut.value or None,
            watershed=self.watershed.value,
            contact_to_cells=self.contact_to_cells.value,
            discard_border=self.discard_border.value,
        )

    def run(self, workspace):
        """Segment one image. What goes wrong stops the run: an empty result would look like success."""
        image = workspace.image_set.get_image(self.x_name.value)
        pixels = image.pixel_data
        if image.volumetric:
            raise ValueError(
                f"The image {self.x_name.value} is a volume (shape {pixels.shape}), but DeepSplitSegment needs single "
                'planes: select "No" for "Process as 3D?" in NamesAndTypes, so that every plane is an image of its own.'
            )
        config = self.config()
        prediction = deepsplit_core.predict(pixels, config, image.mask if image.has_mask else None)
        found = deepsplit_core.split_prediction(prediction, config)

        objects = Objects()
        objects.segmented = found.labels
        # What was discarded at the border is still a neighbour to MeasureObjectNeighbors.
        objects.unedited_segmented = found.all_labels
        objects.small_removed_segmented = found.all_labels
        objects.parent_image = image
        workspace.object_set.add_objects(objects, self.y_name.value)
        self.add_measurements(workspace)

        device = f"{prediction.device} {prediction.dtype}"
        seconds = prediction.seconds + found.seconds
        LOGGER.info(
            "DeepSplitSegment: model %s (sha256 %s) on %s: %d %s, %d cuts, %.2f s",
            config.model, prediction.sha256[:12], device, objects.count, self.y_name.value, found.n_cuts, seconds,
        )  # fmt: skip
        if self.show_window:
            workspace.display_data.x_data = pixels
            workspace.display_data.y_data = found.labels
            workspace.display_data.dimensions = image.dimensions
            workspace.display_data.table = [
                ["Cells", str(objects.count)],
                ["Cells dropped at the border", str(int(found.all_labels.max(initial=0)) - objects.count)],
                ["Cuts by watershed", str(found.n_cuts)],
                ["Model", config.model],
                ["Device", device],
                ["Seconds", f"{seconds:.2f}"],
            ]

    def display(self, workspace, figure):
        """Draw the image, the objects' outlines over it, the objects, and a table."""
        data, name = workspace.display_data, self.y_name.value
        figure.set_subplots((2, 2), dimensions=data.dimensions)
        axes = figure.subplot_imshow_grayscale(0, 0, data.x_data, self.x_name.value)
        outlines = [{"name": name, "labels": [data.y_data]}]
        figure.subplot_imshow_grayscale(0, 1, data.x_data, f"{name} outlines", cplabels=outlines, sharexy=axes)
        figure.subplot_imshow_labels(1, 0, data.y_data, name, sharexy=axes)
        figure.subplot_table(1, 1, [[value] for _, value in data.table], row_labels=[label for label, _ in data.table])

    def prepare_to_create_batch(self, workspace, fn_alter_path):
        """Rewrite the weights folder for the machines that a batch file is made for."""
        self.weights_directory.alter_for_create_batch_files(fn_alter_path)
        return True

    def volumetric(self):
        """Return that volumes are not supported."""
        return False
