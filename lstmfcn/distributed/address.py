"""Refuse a RAY_ADDRESS at once where no cluster answers, or one that does not let us in.

Ray itself tries again for 20 seconds or more, and then does not say why.
"""

from __future__ import annotations

import os
import socket

import grpc
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

from lstmfcn.errors import ResourceError

_TIMEOUT_S = 5.0
_OWN = "write its own to ~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH"


def refuse_dead(address: str) -> None:
    """Ask the cluster at this address who it is.

    Raises:
        ResourceError: no cluster answers there, or it wants a token that Ray does not show.
    """
    if address.startswith("ray://"):
        raise ResourceError(
            f"RAY_ADDRESS={address}: Ray Client is not supported; give the cluster's own address, "
            "or run there with ray job submit"
        )
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return  # "auto" and "local", which Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=_TIMEOUT_S).close()
    except OSError as error:
        raise no_cluster(address, error.strerror or "timed out") from error
    try:
        with init_grpc_channel(address) as channel:
            NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=_TIMEOUT_S)
    except ray.exceptions.AuthenticationError as error:
        raise _no_entry(address, f"no token was found to show to the cluster; {_OWN}") from error
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise _no_entry(address, _why_refused()) from error
        if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED):
            raise no_cluster(address, "what listens there is not the head of one") from error


def no_cluster(address: str | None, reason: str) -> ResourceError:
    """That nothing is there, and why."""
    return ResourceError(
        f"RAY_ADDRESS={address}: no cluster answers ({reason}); correct it or unset it"
    )


def _no_entry(address: str, reason: str) -> ResourceError:
    return ResourceError(f"RAY_ADDRESS={address}: {reason}")


def _why_refused() -> str:
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return f"the cluster's token is another than the one found; {_OWN}"
    return (
        "the cluster wants its token, which Ray shows to an address only if told to; "
        "export RAY_AUTH_MODE=token"
    )
