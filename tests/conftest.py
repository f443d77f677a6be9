"""For all tests: how long an example takes is for benchmarks to tell, not for properties."""

from hypothesis import settings

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
