"""``python -m deepsplit_core``, the same as ``deepsplit``."""

from .cli import program

program()
