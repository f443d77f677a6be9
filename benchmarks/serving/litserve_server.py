"""LitServe with the same Classifier; benchmarks/serving/endpoint.py compares with it.

    python benchmarks/serving/litserve_server.py MODEL PORT PRECISION WORKERS BATCH

Runs in an environment of its own: litserve, and what lstmfcn's core needs (no Ray).
"""

import sys
from typing import Any

import litserve
import numpy as np
import torch

from lstmfcn.inference.predict_shards import format_predictions, list_prediction_columns
from lstmfcn.inference.predictor import Classifier


class Api(litserve.LitAPI):
    """JSON instances in, predictions out."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Load the model in the worker."""
        torch.set_num_threads(1)
        self.classifier = Classifier.load(sys.argv[1], sys.argv[3])  # type: ignore[arg-type]

    def decode_request(self, request):  # LitServe reads annotations; without, it gives JSON
        """One request's series."""
        return np.array(request["instances"], dtype=np.float32)

    def batch(self, inputs: list[Any]) -> Any:
        """One-row requests as one array."""
        return np.concatenate(inputs)

    def unbatch(self, output: Any) -> Any:
        """Back to one-row answers."""
        return [output[i : i + 1] for i in range(len(output))]

    def predict(self, x: Any) -> Any:
        """Probabilities."""
        return self.classifier.predict_proba(x)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """As the endpoint answers."""
        columns = list_prediction_columns(self.classifier.schema)
        rows = format_predictions(self.classifier, output)
        return {"predictions": [dict(zip(columns, map(float, row), strict=True)) for row in rows]}


if __name__ == "__main__":
    most = int(sys.argv[5])
    api = Api(max_batch_size=most, batch_timeout=0.0, api_path="/invocations")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(sys.argv[4]))
    server.run(port=int(sys.argv[2]), host="127.0.0.1", generate_client_file=False)
