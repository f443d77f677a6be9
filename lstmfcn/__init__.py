"""LSTM-FCN time-series classification: train, tune, predict and serve, on a laptop or on Ray.

The names in `__all__` are the public ones. Importing this package imports neither Ray nor PyTorch:
a name is imported when it is first used. Only `train`, `tune`, `evaluate` and `predict` need Ray;
they are what the commands of the same names call.

``lstmfcn`` logs by Python's `logging`. To see the stages of a training in a notebook::

    logging.basicConfig(level=logging.INFO, format="%(message)s")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "Hyperparameters",
    "LSTMFCNClassifier",
    "Resources",
    "SearchConfig",
    "SweepLimits",
    "evaluate",
    "predict",
    "train",
    "tune",
]

if TYPE_CHECKING:
    from lstmfcn.distributed.predict import evaluate, predict
    from lstmfcn.distributed.requests import Resources, SweepLimits
    from lstmfcn.distributed.train import train
    from lstmfcn.distributed.tune import tune
    from lstmfcn.estimator import LSTMFCNClassifier
    from lstmfcn.hyperparameters import Hyperparameters
    from lstmfcn.inference.predictor import Classifier
    from lstmfcn.tuning.sweep import SearchConfig
else:
    _MODULES = {
        "Classifier": "lstmfcn.inference.predictor",
        "Hyperparameters": "lstmfcn.hyperparameters",
        "LSTMFCNClassifier": "lstmfcn.estimator",
        "Resources": "lstmfcn.distributed.requests",
        "SearchConfig": "lstmfcn.tuning.sweep",
        "SweepLimits": "lstmfcn.distributed.requests",
        "evaluate": "lstmfcn.distributed.predict",
        "predict": "lstmfcn.distributed.predict",
        "train": "lstmfcn.distributed.train",
        "tune": "lstmfcn.distributed.tune",
    }

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)

    def __dir__() -> list[str]:
        """The public names, for completion at TAB."""
        return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
