"""The example pipeline in CellProfiler 4 with its own pins, where torch cannot be: the engine runs in this Python."""

import os
import subprocess
import sys

import pytest

from deepsplit_core import engine

LIMIT = 600  # seconds


@pytest.fixture(scope="session")
def exact_python(root):
    """The Python of CellProfiler 4.2.8.1 with the versions that it asks for, without torch and without DeepSplit."""
    folder = root / ".venv-cp4-exact"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.is_file():
        pytest.skip(f"There is no {folder.name}: `make env39` makes it, and needs Python 3.9.")
    return python


def test_the_exact_environment_lacks_what_it_has_to_lack(exact_python):
    code = "import importlib.util as u, sys; print(sys.version_info[:2], [u.find_spec(n) for n in sys.argv[1:]])"
    run = subprocess.run([exact_python, "-c", code, "torch", "safetensors", "deepsplit_core"], capture_output=True, text=True)
    assert run.stdout.strip() == "(3, 9) [None, None, None]", run.stderr
