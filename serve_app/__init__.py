"""The endpoint: model directories behind HTTP, on Ray Serve.

In reading order, as a request goes:

    endpoint.py: the routes, and the limits of a request.
    access.py: host names, origins and tokens that are accepted; security headers.
    body_limits.py: receives bodies, within limits of size and time.
    codecs.py: content types; bytes to series, and predictions to bytes.
    csv_codec.py: series from CSV.
    json_codec.py: series from JSON.
    models.py: the models by name, loaded on demand and checked before they answer.
    batching.py: computes the rows of many requests together.
    explanations.py: whether a request wants explanations, and their JSON.
    errors.py: what a refused client reads, with its HTTP status.
    openapi.py: the description of the endpoint at ``/openapi.json``.
    web.py: the pages at ``/`` and ``/docs``, from the folder `page/`.

Only these know Ray:

    server.py: ``lstmfcn serve``.
    app.py: the Ray Serve application; a replica is one `endpoint.Endpoint`.
    takeover.py: brings new models into a replica.
    metrics.py: what Prometheus reads.
    haproxy.py: the environment of Ray Serve, and HAProxy as it starts it.
"""
