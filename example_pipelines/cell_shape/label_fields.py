"""Label cells with the cell_shape pipeline, as images and labels that `python -m training train` takes.

    .venv/bin/python example_pipelines/cell_shape/label_fields.py EXAMPLE OUTPUT

EXAMPLE is the folder of the images of CellProfiler's ExampleHuman, beside which the fields of ExampleFly are labelled
(they are in CellProfiler), or of its ExampleVitra. Nuclei are found in the DNA channel by DeepSplit's model *nuclei*,
and cells grown from them: the labels know what the cell channel alone does not show. They are as good as the pipeline
is, so look at them first (`python -m training inspect`). The bundled model *cells* has learned from those of
all three.
"""

import sys
import tempfile
from pathlib import Path
from typing import Dict, Tuple

import numpy as np
import tifffile
from run_demo import LOG, find_images, list_fields, run_cellprofiler
from skimage.measure import label

Channels = Tuple[np.ndarray, np.ndarray]  # DNA and cells, (Y, X) each


def read_fields(example: Path) -> Dict[str, Channels]:
    """Return the channels of each field of ExampleHuman and ExampleFly, or of ExampleVitra, by name."""
    if stained := sorted(example.glob("Channel 1-*.tif")):
        # Channel 1 is the protein, Channel 2 the DNA.
        dna_of = {path: path.with_name(path.name.replace("Channel 1", "Channel 2")) for path in stained}
        paths = {f"vitra_{path.stem.split('-')[1]}": (dna_of[path], path) for path in stained}
    else:
        dna, cells = (next(example.glob(f"*{channel}.tif"), None) for channel in ("d0", "d2"))
        if not (dna and cells):
            raise SystemExit(
                f"{example} holds neither *d0.tif and *d2.tif (ExampleHuman) nor Channel 1-*.tif (ExampleVitra): give "
                "the folder of their images."
            )
        fly = find_images()
        paths = {f"fly_{field[-3:]}": (fly / f"{field}_D.TIF", fly / f"{field}_F.TIF") for field in list_fields(fly)}
        paths["human"] = dna, cells
    return {name: (tifffile.imread(dna), tifffile.imread(cells)) for name, (dna, cells) in paths.items()}


def quarters(name: str, image: np.ndarray, labels: np.ndarray) -> Dict[str, Channels]:
    """Cut a field and its labels in four, so that there are enough images to learn from, to choose by and to test on.

    What a cut leaves of a cell is a cell; where it leaves two pieces, they are two.
    """
    halves = [[slice(n // 2), slice(n // 2, None)] for n in image.shape]
    boxes = {f"{y}{x}": (rows, columns) for y, rows in enumerate(halves[0]) for x, columns in enumerate(halves[1])}
    return {f"{name}_{part}": (image[box], label(labels[box])) for part, box in boxes.items()}


def main(example: Path, output: Path) -> None:
    """Write OUTPUT/images/NAME.tif and OUTPUT/labels/NAME.tif for each field, of ExampleVitra for each quarter."""
    fields = read_fields(example)
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
            labels = tifffile.imread(found)
            parts = quarters(name, cells, labels) if name.startswith("vitra") else {name: (cells, labels)}
            for part, (image, cells_of_part) in parts.items():
                tifffile.imwrite(output / "labels" / f"{part}.tif", cells_of_part.astype(np.uint16))
                tifffile.imwrite(output / "images" / f"{part}.tif", image)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
