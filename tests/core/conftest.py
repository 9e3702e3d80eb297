"""Settings of the property tests: the same examples in every run, and no limit to the time of a single one."""

from hypothesis import settings

settings.register_profile("deepsplit", max_examples=40, deadline=None, derandomize=True, database=None)
settings.load_profile("deepsplit")
