"""The endpoint's application on bare uvicorn, without Ray; benchmarks/serving/endpoint.py uses it.

python benchmarks/serving/uvicorn_server.py MODEL PORT PRECISION PROCESSES
"""

from __future__ import annotations

import asyncio
import os
import sys
from threading import Thread

import torch
import uvicorn
from starlette.applications import Starlette

from serve_app.endpoint import Endpoint
from serve_app.models import Models


class _NoMetrics:
    def answered(self, endpoint: str, version: str, rows: int, seconds: float) -> None: ...

    def refused(self, endpoint: str, status: int) -> None: ...


def application() -> Starlette:
    """What each worker serves."""
    torch.set_num_threads(1)
    model, precision = os.environ["MODEL"], os.environ["PRECISION"]
    models = Models(precision)  # type: ignore[arg-type]
    loading = Thread(target=lambda: asyncio.run(models.replace({"default": model})))
    loading.start()  # uvicorn's loop runs here already
    loading.join()
    return Endpoint(models, _NoMetrics()).app


if __name__ == "__main__":
    os.environ["MODEL"], os.environ["PRECISION"] = sys.argv[1], sys.argv[3]
    uvicorn.run(
        "uvicorn_server:application",
        factory=True,
        workers=int(sys.argv[4]),
        port=int(sys.argv[2]),
        log_level="warning",
        access_log=False,
    )
