"""A whole round as a lab does it: from annotated images to cells in CellProfiler, with a run that is killed."""

import json
import os
import signal

import numpy as np
import pytest
from child_runs import KILLED_AT_FILE, command

from deepsplit_core.cli import main as deepsplit
from deepsplit_core.images import read_image
from training.cli import main

ABOUT = {"name": "drawn", "description": "Drawn discs", "data": [{"name": "drawn", "licence": "CC0"}]}

# CellProfiler without a window runs the module on one image and writes its objects: plugins, weights, image, output.
MODULE = """
import sys
from pathlib import Path
import numpy as np
import tifffile
plugins, weights, image, output = map(Path, sys.argv[1:])
from cellprofiler_core import preferences
preferences.set_headless()
preferences.set_plugin_directory(str(plugins), globally=False)
import cellprofiler_core.modules
from cellprofiler_core.image import Image, ImageSetList
from cellprofiler_core.measurement import Measurements
from cellprofiler_core.object import ObjectSet
from cellprofiler_core.pipeline import Pipeline
from cellprofiler_core.utilities.core.modules import instantiate_module
from cellprofiler_core.workspace import Workspace
module = instantiate_module("DeepSplitSegment")
module.x_name.value, module.y_name.value, module.model.value = "DNA", "Nuclei", "Own weights file"
module.weights_directory.value = f"{preferences.ABSOLUTE_FOLDER_NAME}|{weights.parent}"
module.weights_file.value = weights.name
module.set_module_num(1)
pipeline, images, objects, measurements = Pipeline(), ImageSetList(), ObjectSet(), Measurements()
pipeline.add_module(module)
pixels = tifffile.imread(image)
image_set = images.get_image_set(0)
image_set.add("DNA", Image((pixels / np.iinfo(pixels.dtype).max).astype(np.float32)))
module.run(Workspace(pipeline, module, image_set, objects, measurements, images))
measurements.close()
np.save(output, objects.get_objects("Nuclei").segmented)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_from_annotated_images_to_cells_in_cellprofiler(root, start, data, preset, tmp_path, capsys):
    pytest.importorskip("cellprofiler_core")
    run, weights, clean = tmp_path / "run", tmp_path / "drawn.safetensors", tmp_path / "clean"
    assert main(["prepare", "--data", str(data), "--repair", "--output", str(clean)]) == 0
    train = command(clean / "drawn", run, preset)

    process = start("-c", KILLED_AT_FILE, "8", "before", *train)
    assert process.wait() == -signal.SIGKILL
    assert (run / "checkpoint.pt").exists()
    assert main([*train, "--resume"]) == 0

    (tmp_path / "about.json").write_text(json.dumps(ABOUT))
    assert main(["export", str(run), "--about", str(tmp_path / "about.json"), "--output", str(weights)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--model", str(weights), "--device", "cpu"]) == 0
    assert "segmentation alone" in capsys.readouterr().out
    assert main(["report", str(run), "--model", str(weights)]) == 0
    assert "drawn/field" in (run / "report.html").read_text(encoding="utf-8")

    image = data / "images" / "field0.tif"
    assert deepsplit(["segment", str(image), "--model", str(weights), "--output", str(tmp_path)]) == 0
    labels = read_image(tmp_path / "field0_labels.tif")
    process = start("-c", MODULE, *map(str, (root / "plugins", weights, image, tmp_path / "objects.npy")))
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    objects = np.load(tmp_path / "objects.npy")
    assert objects.shape == labels.shape == (48, 52)
    assert labels.any()
    # The same cells: grey values are stored as floats on one of the two ways, so that a pixel may differ.
    assert np.mean(objects == labels) > 0.99
