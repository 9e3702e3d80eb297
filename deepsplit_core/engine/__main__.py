"""``python -m deepsplit_core.engine``, the same as ``deepsplit engine``."""

import sys

from ..cli import main

sys.exit(main(["engine", *sys.argv[1:]]))
