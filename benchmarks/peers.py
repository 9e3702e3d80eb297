"""One image, the same threads: DeepSplit from image to labels beside Cellpose's network and StarDist.

    .venv/bin/python -m benchmarks.peers

The peers run in an environment of their own; see _peers_worker.py for what is timed of them:

    uv venv --python 3.11 .venv-peers
    uv pip install --python .venv-peers cellpose==3.1.1.2 stardist==0.9.2 tensorflow-cpu==2.21.0 torch==2.13.0
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from deepsplit_core.config import SegmentConfig
from deepsplit_core.preprocessing import preprocess
from deepsplit_core.segmentation import predict, split_prediction
from deepsplit_core.weights import Model, build_network, load_model, path_of, read, read_card

from .network import FLOATS, in_type
from .timing import medians
from .whole import draw_image

HERE = Path(__file__).parent
PYTHON = HERE.parent / ".venv-peers" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
SIDE = 512


def measure() -> dict[str, float]:
    """Return the median seconds of all for one image of 512 x 512."""
    if not PYTHON.exists():
        raise FileNotFoundError(f"{PYTHON} is missing: the head of {__file__} says how to make the peers' environment.")
    image = draw_image(SIDE)
    weights = path_of("nuclei")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.npy")
        np.save(path, preprocess(image, read_card(weights).preprocessing))
        command = [str(PYTHON), str(HERE / "_peers_worker.py"), str(path), str(torch.get_num_threads())]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    # Not in turn, as they share no process: ours before and after would not be fairer than medians of rounds.
    # In floats as well, as on processors where those are the fastest.
    model = load_model("nuclei", "cpu")  # only now: what it asks of OpenMP would hold for the peers, too
    network = build_network(weights, *read(weights))
    models = {"deepsplit": model, **{f"deepsplit_{name}": in_type(model, network, FLOATS[name]) for name in FLOATS}}
    ours = medians({name: partial(segment, image, model) for name, model in models.items()})
    return {"side": SIDE, **ours, **json.loads(printed.splitlines()[-1])}


def segment(image: np.ndarray, model: Model) -> np.ndarray:
    """Do as `deepsplit_core.segment`, with a model at hand."""
    config = SegmentConfig()
    return split_prediction(predict(image, config, load=lambda *_: model), config).labels


if __name__ == "__main__":
    print(json.dumps(measure()))
