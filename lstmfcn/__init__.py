"""LSTM-FCN time-series classification: train, tune and serve from CSV shards, on Ray.

Importing this package does not import Ray, and a model directory predicts without it.
"""

__version__ = "0.1.0"
