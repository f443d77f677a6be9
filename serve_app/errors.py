"""What a client reads when its request is refused, with the HTTP status."""

from __future__ import annotations

from typing import Any

from lstmfcn.errors import DataError


class RequestError(Exception):
    """A request that gets no prediction.

    Args:
        place: row and column of an error in the body, if it has any.
    """

    def __init__(
        self,
        status: int,
        message: str,
        headers: dict[str, str] | None = None,
        place: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.body = {"message": message, **(place or {})}

    @classmethod
    def from_data_error(cls, error: DataError) -> RequestError:
        """The refusal of a body that breaks the data contract."""
        place = {"row": error.row, "column": error.column}
        return cls(400, str(error), place={k: v for k, v in place.items() if v is not None})


def too_many_rows(n_rows: int, max_rows: int) -> RequestError:
    """The refusal of a request with more rows than it may have."""
    return RequestError(
        413, f"found {n_rows} rows; send at most {max_rows} per request, or use lstmfcn predict"
    )


def overloaded(retry_after_s: float) -> RequestError:
    """The refusal of a request while too many rows wait."""
    seconds = max(1, round(retry_after_s))
    return RequestError(
        503, f"too many rows are waiting; try again in {seconds} s", {"Retry-After": str(seconds)}
    )
