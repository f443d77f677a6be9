"""For all tests: how long an example takes is for benchmarks to tell, not for properties."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
"""Threads of PyTorch that wait leave the CPU to other processes, of which tests start many."""

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
