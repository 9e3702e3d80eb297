"""CellProfiler's own start, in a Python whose environment has no wxPython: Debian's is used instead.

    python start_cellprofiler.py [the options of cellprofiler]

PyPI has no wxPython for Linux. Debian's python3-wxgtk4.0 is 4.2.0, which takes no floats for pixels on Python 3.10 and
later, where CellProfiler hands it many. It raises, and makes (-1, -1) of a size or a point without a word: floats are
truncated here, as older Pythons did.
"""

import functools
import importlib.util
import sys
from pathlib import Path

WX = Path("/usr/lib/python3/dist-packages/wx")


def load_wx():
    """Import wx from Debian's folder, without the other packages that lie there."""
    spec = importlib.util.spec_from_file_location("wx", WX / "__init__.py", submodule_search_locations=[str(WX)])
    if spec is None or not WX.is_dir():
        raise SystemExit(f"There is no {WX}: apt-get install python3-wxgtk4.0")
    sys.modules["wx"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["wx"])
    return sys.modules["wx"]


def truncated(value):
    """Floats as integers, in tuples and lists as well; everything else as it is."""
    if isinstance(value, float):
        return int(value)
    if isinstance(value, (tuple, list)):
        return type(value)(map(truncated, value))
    return value


def taking_floats(function):
    """The function of wx, with integers in sizes and points, and called again with integers where it refuses floats."""

    @functools.wraps(function)
    def call(*arguments, **keywords):
        arguments = [truncated(value) if isinstance(value, tuple) else value for value in arguments]
        try:
            return function(*arguments, **keywords)
        except TypeError:
            return function(*map(truncated, arguments), **{key: truncated(value) for key, value in keywords.items()})

    return call


def mend(wx):
    """Let the parts of wx that CellProfiler gives sizes and positions to take floats."""
    for cls in (wx.Point, wx.Size, wx.Rect, wx.DC, wx.Window, wx.ScrolledWindow, wx.Sizer, wx.BoxSizer, wx.Gauge):
        for name in dir(cls):
            if name == "__init__" or name.startswith(("Set", "Draw", "Add", "Move", "Scroll")):
                setattr(cls, name, taking_floats(getattr(cls, name)))


if __name__ == "__main__":
    mend(load_wx())
    from cellprofiler.__main__ import main

    sys.argv[0] = "cellprofiler"
    sys.exit(main())
