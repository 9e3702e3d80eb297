"""Drawn annotated images, and a run so small that it takes seconds."""

import numpy as np
import pytest
import tifffile
import torch
from child_runs import end, start_python
from drawing import discs, photograph

from deepsplit_core.images import write_png

TINY = """
seed = 1
view = 32
batch = 2
segmentation_epochs = 2
separation_epochs = 2
epoch_steps = 2
learning_rate = 1e-2
picture_epochs = 0

[network]
architecture = "deepsplit"
base_width = 2
n_levels = 3
dropout = 0.2
normalisation = "batch"

[preprocessing]
method = "percentile"

[augmentation]
elastic = 1.0
noise = 0.02
"""


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are added in one order, so that runs can be compared bit for bit."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def start(root):
    """Start Python in processes that end with the test, whatever becomes of it."""
    started = []

    def run(*arguments):
        started.append(start_python(root, *arguments))
        return started[-1]

    yield run
    for process in started:
        end(process)


def draw_field(seed, shape=(48, 52)):
    """Image and labels of a field with a touching pair and a single cell."""
    rng = np.random.default_rng(seed)
    y, x = rng.uniform(10, 16, 2)
    labels = discs(shape, [(y, x, 7), (y + 2, x + 13, 7), (34 + rng.uniform(-2, 2), 30, 8)])
    return photograph(labels, seed=seed), labels


def write_folder(folder, n):
    """Write n annotated images, `images/` and `labels/`, and return the folder."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for i in range(n):
        image, labels = draw_field(i)
        tifffile.imwrite(folder / "images" / f"field{i}.tif", image)
        tifffile.imwrite(folder / "labels" / f"field{i}.tif", labels.astype(np.uint16))
    return folder


@pytest.fixture
def data(tmp_path):
    """A folder of six annotated images."""
    return write_folder(tmp_path / "drawn", 6)


@pytest.fixture
def masks(data):
    """The same folder with one mask for each cell, `labels/NAME/*.png`."""
    for path in list((data / "labels").iterdir()):
        labels = tifffile.imread(path)
        path.unlink()
        path.with_suffix("").mkdir()
        for value in range(1, labels.max() + 1):
            write_png(path.with_suffix("") / f"{value}.png", (labels == value).astype(np.uint8) * 255)
    return data


@pytest.fixture
def ignoring(data):
    """The same folder with `ignore/` for its first image, whose left half nobody annotated."""
    (data / "ignore").mkdir()
    mask = np.zeros((48, 52), np.uint8)
    mask[:, :26] = 1
    tifffile.imwrite(data / "ignore" / "field0.tif", mask)
    return data


@pytest.fixture
def few(tmp_path):
    """A folder of five annotated images."""
    return write_folder(tmp_path / "few", 5)


@pytest.fixture
def preset(tmp_path):
    """The TOML file of the tiny run."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture
def config(preset):
    """The configuration of the tiny run."""
    from training.run.settings import read_config

    return read_config(str(preset))


@pytest.fixture
def samples(config, data):
    """The six images, ready for training."""
    from training.data.annotations import find_annotations
    from training.learning.dataset import load_samples

    return load_samples(find_annotations(data), config)


@pytest.fixture
def batch(samples):
    """Images and targets of a corner of the six, as a batch."""
    parts = [torch.stack([getattr(sample, name)[:, :32, :32] for sample in samples]) for name in ("image", "targets")]
    return parts[0], parts[1]
