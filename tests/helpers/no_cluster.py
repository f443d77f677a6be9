"""No cluster: the process of a command works alone, and whoever starts or asks Ray fails."""

from contextlib import contextmanager

import pytest


@contextmanager
def no_cluster():
    """Inside this block RAY_ADDRESS names none, and a Ray that this process uses is not seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr("ray.is_initialized", lambda: False)
        for name in ("init", "get", "put", "nodes"):
            patch.setattr(f"ray.{name}", None)
        yield
