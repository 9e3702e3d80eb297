"""Label cells with the cell_shape pipeline, as images and labels that `python -m training train` takes.

    .venv/bin/python example_pipelines/cell_shape/label_fields.py EXAMPLE_HUMAN OUTPUT

EXAMPLE_HUMAN is the folder of the images of CellProfiler's ExampleHuman; ExampleFly is in CellProfiler. Nuclei are
found in the DNA channel by DeepSplit's model *nuclei*, and cells grown from them: the labels know what the cell channel
alone does not show. They are as good as the pipeline is, so look at them first (`python -m training inspect`).
The bundled model *cells* has learned from those of this script (training/presets/bundled/cells_second.toml).
"""

import sys
import tempfile
from pathlib import Path
from typing import Dict, Tuple

import numpy as np
import tifffile
from run_demo import LOG, find_images, list_fields, run_cellprofiler


def read_fields(human: Path) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
    """Return the DNA channel and the cell channel of each field, (Y, X) arrays, by name."""
    fly = find_images()
    paths = {f"fly_{field[-3:]}": (fly / f"{field}_D.TIF", fly / f"{field}_F.TIF") for field in list_fields(fly)}
    paths["human"] = (next(human.glob("*d0.tif")), next(human.glob("*d2.tif")))
    return {name: (tifffile.imread(dna), tifffile.imread(cells)) for name, (dna, cells) in paths.items()}


def main(human: Path, output: Path) -> None:
    """Write OUTPUT/images/NAME.tif and OUTPUT/labels/NAME.tif for each field."""
    fields = read_fields(human)
    for part in ("images", "labels"):
        (output / part).mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        images, results = Path(folder, "images"), Path(folder, "results")
        images.mkdir()
        for number, (dna, cells) in enumerate(fields.values()):
            # The file names of the pipeline; its third channel is not measured.
            for channel, image in zip("DFR", (dna, cells, cells)):
                tifffile.imwrite(images / f"01_POS{number:03}_{channel}.TIF", image)
        run_cellprofiler(results, images)
        for number, (name, (_, cells)) in enumerate(fields.items()):
            found = results / f"01_POS{number:03}_cells_labels.tiff"
            if not found.exists():
                raise SystemExit(f"No cells of {name}:\n{(results / LOG).read_text(errors='replace')[-2000:]}")
            tifffile.imwrite(output / "labels" / f"{name}.tif", tifffile.imread(found).astype(np.uint16))
            tifffile.imwrite(output / "images" / f"{name}.tif", cells)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
