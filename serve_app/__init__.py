"""The endpoint: a model directory behind HTTP, on Ray Serve.

A request's way: `endpoint` (routes, limits) to `protocols` (bytes to series), `models` (which
model), `batching` (rows of many requests at a time), `lstmfcn.classifier`, and back. Only `app` and
`run` know of Ray.
"""
