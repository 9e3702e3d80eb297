"""What several test files share. Nothing heavy is imported here: the module's tests read this file as well."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))  # drawing, networks


@pytest.fixture(scope="session")
def root():
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data():
    """The folder of annotated images; a test that needs it is skipped where it is missing."""
    folder = Path(os.environ.get("DEEPSPLIT_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"There is no folder {folder} with annotated images: set DEEPSPLIT_DATA to where they are.")
    return folder


@pytest.fixture
def tiny_weights(tmp_path):
    """The weights file of a narrow DeepSplit with random weights."""
    from networks import random_network, write_weights

    return write_weights(tmp_path / "tiny.safetensors", random_network())


@pytest.fixture
def wired_weights(tmp_path):
    """The weights file of a network whose answer is known (`networks.wired_network`)."""
    from networks import wired_network, write_weights

    return write_weights(tmp_path / "wired.safetensors", wired_network())
