"""The endpoint as a process: ``python uvicorn_endpoint.py MODEL PORT [LIMIT=VALUE ...]``."""

import asyncio
import sys

import torch
import uvicorn

from serve_app.endpoint import Endpoint, Limits
from serve_app.models import Models


class Uncounted:
    def answered(self, *_): ...

    def refused(self, *_): ...


async def serve(model, port, *limits):
    torch.set_num_threads(1)
    models = Models()
    await models.replace({"default": model})
    given = {
        name: type(getattr(Limits, name))(value) for name, value in (x.split("=") for x in limits)
    }
    app = Endpoint(models, Uncounted(), Limits(**given)).app
    await uvicorn.Server(uvicorn.Config(app, port=int(port), log_level="warning")).serve()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
