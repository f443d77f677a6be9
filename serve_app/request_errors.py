"""Why a request is not answered, with its HTTP status."""

from __future__ import annotations

from typing import Any

from lstmfcn.errors import DataError


class RequestError(Exception):
    """A request that gets no prediction.

    Args:
        status: HTTP status code.
        error: what the client reads.
        headers: to send along.
        place: row and column of a fault, where there is one.
    """

    def __init__(
        self,
        status: int,
        error: str,
        headers: dict[str, str] | None = None,
        place: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(error)
        self.status, self.headers = status, headers or {}
        self.body = {"message": error, **(place or {})}

    @classmethod
    def of(cls, error: DataError) -> RequestError:
        """A body that breaks the data contract."""
        place = {"row": error.row, "column": error.column}
        return cls(400, str(error), place={k: v for k, v in place.items() if v is not None})


def too_many_rows(n_rows: int, most: int) -> RequestError:
    """More rows than a request may have."""
    return RequestError(
        413, f"found {n_rows} rows; send at most {most} a request, or use lstmfcn predict"
    )


def overloaded(retry_after_s: float) -> RequestError:
    """More rows wait than the endpoint promises to answer."""
    seconds = max(1, round(retry_after_s))
    return RequestError(
        503, f"too many rows are waiting; try again in {seconds} s", {"Retry-After": str(seconds)}
    )
