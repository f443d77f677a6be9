"""The endpoint: a model directory behind HTTP, on Ray Serve.

A request's way: `endpoint` (routes, limits) to `codecs` (bytes to series), `models` (which
model), `batching` (rows of many requests at a time), `lstmfcn.inference.predictor`, and back. Only
`app`, `server` and `metrics` know of Ray.
"""
