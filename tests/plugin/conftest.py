"""A CellProfiler without window or Java, with the plugin loaded as CellProfiler itself loads it."""

from pathlib import Path

import numpy as np
import pytest
from cellprofiler_core import preferences

PLUGINS = Path(__file__).parents[2] / "plugins"
# In this order: the modules, plugins among them, are looked for when cellprofiler_core.modules is imported.
preferences.set_headless()
preferences.set_plugin_directory(str(PLUGINS), globally=False)

import cellprofiler_core.modules  # noqa: E402, F401
from cellprofiler_core.image import Image, ImageSetList  # noqa: E402
from cellprofiler_core.measurement import Measurements  # noqa: E402
from cellprofiler_core.object import Objects, ObjectSet  # noqa: E402
from cellprofiler_core.pipeline import Pipeline  # noqa: E402
from cellprofiler_core.utilities.core.modules import instantiate_module  # noqa: E402
from cellprofiler_core.workspace import Workspace  # noqa: E402


@pytest.fixture
def make_module():
    """Make a DeepSplitSegment with settings given by attribute name."""

    def make(**values):
        module = instantiate_module("DeepSplitSegment")
        for name, value in {"x_name": "DNA", "y_name": "Nuclei", **values}.items():
            getattr(module, name).value = value
        return module

    return make


@pytest.fixture
def own_file():
    """Settings that select a weights file."""

    def settings(path):
        folder = f"{preferences.ABSOLUTE_FOLDER_NAME}|{path.parent}"
        return {"model": "Own weights file", "weights_directory": folder, "weights_file": path.name}

    return settings


@pytest.fixture
def objects_of():
    """Make CellProfiler's objects of a label image, and of what they were before some were discarded."""

    def make(labels, unedited=None):
        objects = Objects()
        objects.segmented = labels
        if unedited is not None:
            objects.unedited_segmented = unedited
        return objects

    return make


@pytest.fixture
def run_on(make_module, own_file, objects_of, wired_weights):
    """Run the module on one image, by default with the network that is wired by hand; returns the workspace.

    That network calls grey values above 0.3 of the image's range cell, and those around 0.6 contact between cells.
    Seeds (labels, or CellProfiler's objects) are the objects "Seeds". A module may be given to be run again, and
    others that come after it in the pipeline, and are not run.
    """
    opened = []

    def run(image, show_window=False, seeds=None, test_mode=False, module=None, others=(), **values):
        if seeds is not None:
            values = {"use_seeds": True, "seeds_name": "Seeds", **values}
        if module is None:
            module = make_module(**{**own_file(wired_weights), **values})
        module.show_window = show_window
        pipeline = Pipeline()
        pipeline.test_mode = test_mode
        module.set_module_num(1)
        pipeline.add_module(module)
        for number, other in enumerate(others, start=2):
            other.set_module_num(number)
            pipeline.add_module(other)
        images = ImageSetList()
        image_set = images.get_image_set(0)
        image_set.add("DNA", image if isinstance(image, Image) else Image(np.asarray(image)))
        opened.append(Measurements())
        workspace = Workspace(pipeline, module, image_set, ObjectSet(), opened[-1], images)
        if seeds is not None:
            workspace.object_set.add_objects(seeds if isinstance(seeds, Objects) else objects_of(seeds), "Seeds")
        module.run(workspace)
        return workspace

    yield run
    for measurements in opened:
        measurements.close()
