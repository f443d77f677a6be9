"""LSTM-FCN time-series classification: train, tune and serve from CSV shards, on Ray.

Importing this package imports neither Ray nor PyTorch, and a model directory predicts without Ray.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lstmfcn.estimator import LSTMFCNClassifier as LSTMFCNClassifier
else:

    def __getattr__(name: str) -> Any:
        """Import the scikit-learn classifier once it is asked for."""
        if name != "LSTMFCNClassifier":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from lstmfcn.estimator import LSTMFCNClassifier

        return LSTMFCNClassifier
