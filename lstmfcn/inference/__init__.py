"""From a model directory to predictions, explanations and metrics."""
