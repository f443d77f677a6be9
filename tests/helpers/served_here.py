"""The endpoint behind a real port, in a thread of this process, without Ray."""

import asyncio
import socket
import threading
from contextlib import closing, contextmanager

import uvicorn

from serve_app.endpoint import Endpoint as Application
from serve_app.models import Models
from tests.helpers.endpoints import Endpoint
from tests.helpers.killing import wait_until
from tests.helpers.uvicorn_endpoint import Uncounted


@contextmanager
def served_here(models):
    """Serve model directories, given by their names, inside this block; yields an `Endpoint`."""
    behind = Models()
    application = Application(behind, Uncounted()).app
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", ws="none"))

    async def serve(listening):
        await behind.replace({name: str(folder) for name, folder in models.items()})
        await server.serve([listening])

    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=lambda: asyncio.run(serve(listening)))
        thread.start()
        try:
            wait_until(lambda: server.started, "the endpoint")
            yield Endpoint(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()
