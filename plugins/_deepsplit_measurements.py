"""What DeepSplitSegment measures, and how CellProfiler is told of it. The module's help says what each value means."""

import numpy as np
from cellprofiler_core.constants.measurement import (
    C_CHILDREN,
    C_COUNT,
    C_PARENT,
    COLTYPE_FLOAT,
    COLTYPE_INTEGER,
    COLTYPE_VARCHAR_FORMAT,
    FF_CHILDREN_COUNT,
    FF_COUNT,
    FF_PARENT,
    IMAGE,
    M_LOCATION_CENTER_X,
    M_LOCATION_CENTER_Y,
    M_LOCATION_CENTER_Z,
    M_NUMBER_OBJECT_NUMBER,
    MCA_AVAILABLE_EACH_CYCLE,
    R_PARENT,
)
from cellprofiler_core.module.image_segmentation import ImageSegmentation
from cellprofiler_core.setting import Binary
from cellprofiler_core.setting.subscriber import LabelSubscriber
from cellprofiler_core.setting.text import LabelName

import deepsplit_core

# Measurements: DeepSplit_(feature) of an object, DeepSplit_(feature)_(objects) of an image, and how they are stored.
CATEGORY = "DeepSplit"
OBJECT_FEATURES = {
    "MeanProbability": COLTYPE_FLOAT,
    "ContactShare": COLTYPE_FLOAT,
    "CutLength": COLTYPE_FLOAT,
    "TouchesBorder": COLTYPE_INTEGER,
}
IMAGE_FEATURES = {
    "Cuts": COLTYPE_INTEGER,
    "CutsByWatershed": COLTYPE_INTEGER,
    "ModelName": COLTYPE_VARCHAR_FORMAT % 255,
    "ModelSha256": COLTYPE_VARCHAR_FORMAT % 64,
    "Version": COLTYPE_VARCHAR_FORMAT % 64,
    "Device": COLTYPE_VARCHAR_FORMAT % 64,
    "Scale": COLTYPE_FLOAT,
    "Tile": COLTYPE_INTEGER,
    "SecondsNetwork": COLTYPE_FLOAT,
    "SecondsSplitting": COLTYPE_FLOAT,
}


class DeepSplitMeasurements(ImageSegmentation):
    """Measurements of the objects `y_name`, of their seeds and of their clumps, where these settings are in use."""

    use_seeds: Binary
    seeds_name: LabelSubscriber
    wants_clumps: Binary
    clumps_name: LabelName

    def add_measurements(self, workspace, object_name=None):
        """Record number and places of objects: what CellProfiler's own method records, which takes 3 times as long."""
        name = object_name or self.y_name.value
        y, x = deepsplit_core.centres(workspace.object_set.get_objects(name).segmented).T
        for feature, values in {
            M_LOCATION_CENTER_X: x,
            M_LOCATION_CENTER_Y: y,
            M_LOCATION_CENTER_Z: np.zeros(x.size),
            M_NUMBER_OBJECT_NUMBER: np.arange(1, x.size + 1),
        }.items():
            workspace.measurements.add_measurement(name, feature, values)
        workspace.measurements.add_measurement(IMAGE, FF_COUNT % name, np.array([x.size], float))

    def relate(self, workspace, parents_name, parent_of_cell):
        """Record which of the other objects each cell belongs to."""
        name, measurements = self.y_name.value, workspace.measurements
        # Not `Objects.count`, which first makes a list of all pixels.
        n_parents = int(workspace.object_set.get_objects(parents_name).segmented.max(initial=0))
        n_children = np.bincount(parent_of_cell, minlength=n_parents + 1)[1:]
        measurements.add_measurement(parents_name, FF_CHILDREN_COUNT % name, n_children)
        measurements.add_measurement(name, FF_PARENT % parents_name, parent_of_cell)
        here = np.full(len(parent_of_cell), measurements.image_set_number)
        cells = np.arange(1, len(parent_of_cell) + 1)
        measurements.add_relate_measurement(
            self.module_num, R_PARENT, parents_name, name, here, parent_of_cell, here, cells
        )

    def add_features(self, workspace, found, measured):
        """Record the module's own measurements."""
        name, prediction = self.y_name.value, found.prediction
        of_objects = {
            "MeanProbability": measured.mean_probability,
            "ContactShare": measured.contact_share,
            "CutLength": measured.cut_length,
            "TouchesBorder": measured.touches_border,
        }
        of_image = {
            "Cuts": measured.n_cuts,
            "CutsByWatershed": found.n_cuts,
            "ModelName": prediction.card.name[:255],
            "ModelSha256": prediction.sha256,
            "Version": deepsplit_core.__version__,
            "Device": f"{prediction.device} {prediction.dtype}",
            "Scale": prediction.scale,
            "Tile": prediction.tile,
            "SecondsNetwork": prediction.seconds,
            "SecondsSplitting": found.seconds,
        }
        for feature in OBJECT_FEATURES:
            workspace.measurements.add_measurement(name, f"{CATEGORY}_{feature}", of_objects[feature])
        for feature in IMAGE_FEATURES:
            workspace.measurements.add_image_measurement(f"{CATEGORY}_{feature}_{name}", of_image[feature])

    def parents(self):
        """Return the names of the objects that cells are related to."""
        seeds = [self.seeds_name.value] if self.use_seeds.value else []
        return seeds + ([self.clumps_name.value] if self.wants_clumps.value else [])

    def get_measurement_columns(self, pipeline):  # type: ignore[override]
        """Return all measurements as (object, name, type)."""
        name = self.y_name.value
        columns = super().get_measurement_columns(pipeline, name)
        if self.wants_clumps.value:
            columns += super().get_measurement_columns(pipeline, self.clumps_name.value)
        for parent in self.parents():
            columns.append((parent, FF_CHILDREN_COUNT % name, COLTYPE_INTEGER))
            columns.append((name, FF_PARENT % parent, COLTYPE_INTEGER))
        columns += [(name, f"{CATEGORY}_{feature}", kind) for feature, kind in OBJECT_FEATURES.items()]
        columns += [(IMAGE, f"{CATEGORY}_{feature}_{name}", kind) for feature, kind in IMAGE_FEATURES.items()]
        return columns

    def get_categories(self, pipeline, object_name):
        """Return the categories of an object's measurements, for the window in which they are picked."""
        categories = super().get_categories(pipeline, object_name)
        if object_name in (IMAGE, self.y_name.value):
            categories = [*categories, CATEGORY]
        if object_name == self.y_name.value and self.parents():
            categories = [*categories, C_PARENT]
        if self.wants_clumps.value and object_name == self.clumps_name.value:
            categories = super().get_categories(pipeline, self.y_name.value)
        return [*categories, C_CHILDREN] if object_name in self.parents() else categories

    def get_measurements(self, pipeline, object_name, category):
        """Return the features of a category; those of an image without the objects' name."""
        name = self.y_name.value
        if category == CATEGORY:
            return list({IMAGE: IMAGE_FEATURES, name: OBJECT_FEATURES}.get(object_name, []))
        if category == C_PARENT and object_name == name:
            return self.parents()
        if category == C_CHILDREN and object_name in self.parents():
            return [f"{name}_Count"]
        clumps = [self.clumps_name.value] if self.wants_clumps.value else []
        if category == C_COUNT and object_name == IMAGE:
            return [name, *clumps]
        return super().get_measurements(pipeline, name if object_name in clumps else object_name, category)

    def get_measurement_objects(self, pipeline, object_name, category, measurement):  # type: ignore[override]
        """Return the objects whose name ends the name of an image's measurement."""
        is_ours = object_name == IMAGE and category == CATEGORY and measurement in IMAGE_FEATURES
        return [self.y_name.value] if is_ours else []

    def get_object_relationships(self, pipeline):  # type: ignore[override]
        """Return which relationships `run` records."""
        return [(R_PARENT, parent, self.y_name.value, MCA_AVAILABLE_EACH_CYCLE) for parent in self.parents()]
