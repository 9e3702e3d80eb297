"""The engine: a process in a Python that has torch, which runs the networks for those that do not.

`predict` stands for `deepsplit_core.predict`, with the same result (on a CPU to the last bit); everything else works
where the image is. The engine is started by the first that needs it, is shared by all programs of one user that name
the same Python, holds each model once, and ends by itself when nobody has asked for five minutes.

A client needs neither torch nor scikit-image.

>>> from deepsplit_core import SegmentConfig, engine
>>> prediction = engine.predict(image, SegmentConfig(), python="/path/of/environment")  # doctest: +SKIP
"""

from .client import predict, status, stop, try_device
from .place import find_python

__all__ = ["find_python", "predict", "status", "stop", "try_device"]
