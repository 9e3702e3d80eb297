"""CellProfiler's IdentifyPrimaryObjects on the test images of a training run, scored as our own results are.

    .venv/bin/python benchmarks/identify_primary.py RUN

RUN is the folder of a training run: its `split.json` says which images nobody has chosen anything on. The module
runs with its default settings, but that objects at the image's border are kept, as they are annotated; and with one
size range for each data set: of a few ranges around the median diameter of the training images' cells, the one with
the best cell detection score on the validation images.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from deepsplit_core.metrics import Scores, evaluate_all
from training.data.annotations import Annotation, cell_diameters
from training.data.division import read_split
from training.results.evaluation import as_table


def main(run: Path) -> None:
    """Print one row of scores for each data set."""
    from cellprofiler_core.preferences import set_headless

    set_headless()
    parts = read_split(run)
    comparison: dict[str, dict[str, Any]] = {}
    for folder in sorted({annotation.name.split("/")[0] for annotation in parts["test"]}):
        train, validation, test = (
            [annotation for annotation in parts[part] if annotation.name.split("/")[0] == folder]
            for part in ("train", "validation", "test")
        )
        median = np.median(cell_diameters([annotation.read().labels for annotation in train]))
        ranges = [(round(low * median), round(high * median)) for low in (0.4, 0.6, 0.8) for high in (1.6, 2.5)]
        chosen = max(ranges, key=lambda size_range: identify_all(validation, size_range).cds)
        scores = identify_all(test, chosen)
        comparison[folder] = {f"IdentifyPrimaryObjects, {chosen[0]} to {chosen[1]} px": scores.to_dict()}
    print(as_table(comparison))


def identify_all(annotations: list[Annotation], size_range: tuple[int, int]) -> Scores:
    """Run the module on images and add up their counts."""
    return evaluate_all(identify(annotation, size_range) for annotation in annotations)


def identify(annotation: Annotation, size_range: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run the module on one image and return its labels, the true ones, and the ignored pixels, all (Y, X)."""
    import cellprofiler_core.image
    from cellprofiler.modules.identifyprimaryobjects import IdentifyPrimaryObjects
    from cellprofiler_core.measurement import Measurements
    from cellprofiler_core.object import ObjectSet
    from cellprofiler_core.pipeline import Pipeline
    from cellprofiler_core.workspace import Workspace

    pixels, truth, ignore = annotation.read()
    # As CellProfiler's own readers give it: 0 to 1 by the range of the file's type.
    pixels = (pixels / np.iinfo(pixels.dtype).max).astype(np.float32)
    module = IdentifyPrimaryObjects()
    module.set_module_num(1)
    module.x_name.value, module.y_name.value = "image", "objects"
    module.size_range.value = size_range
    module.exclude_border_objects.value = False
    pipeline = Pipeline()
    pipeline.add_module(module)
    image_sets = cellprofiler_core.image.ImageSetList()
    image_set = image_sets.get_image_set(0)
    image_set.add("image", cellprofiler_core.image.Image(pixels))
    objects = ObjectSet()
    module.run(Workspace(pipeline, module, image_set, objects, Measurements(), image_sets))
    return np.asarray(objects.get_objects("objects").segmented), truth, ignore


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
