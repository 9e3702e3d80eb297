"""``python -m deepsplit_core``, the same as ``deepsplit``."""

import sys

from .cli import main

sys.exit(main())
