"""Training of DeepSplit weights from annotated images (paper, section 3). Imports deepsplit_core, never the reverse.

`data`, `learning`, `run`, `results` and `reproduction` each import those named before them alone; `cli` starts
them, and `simulated`, which writes what `simulation` draws.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - deepsplit_core, which it is installed with, takes older ones
    raise ImportError(
        f"Training needs Python 3.11 or later, but {sys.executable} is {sys.version.split()[0]}: make an environment "
        "with a newer one, and install DeepSplit in it."
    )
