"""What predicting shards costs beside the Classifier alone.

    python -m benchmarks.serving.predict [--rows 1000000]

The paper's network with random weights, T = 100, 3 classes; shards of random values. The Classifier
alone computes rows in memory, in as many processes as CPUs, with one thread each.
"""

from __future__ import annotations

import argparse
import re

from benchmarks.common import (
    command,
    local_ray,
    main,
    print_ratio,
    print_table,
    write_random_shards,
)
from benchmarks.processes import peak_memory, print_peaks
from benchmarks.serving.endpoint import N_TIMEPOINTS, bare_rows_per_second, random_model

N_SHARDS = 20
BARE_SECONDS = 20.0


def shards(arguments: argparse.Namespace) -> None:
    """Rows/s of ``lstmfcn predict``, and of the Classifier alone before and after it."""
    model, data = random_model(arguments.folder / "model"), arguments.folder / "data"
    csv_bytes = write_random_shards(data, arguments.rows, N_TIMEPOINTS, n_shards=N_SHARDS)
    before = bare_rows_per_second(model, "fp32", BARE_SECONDS)
    with local_ray(), peak_memory() as peaks:
        output = ("--output", arguments.folder / "predictions")
        done = command("predict", "--model", model, "--input", data, *output)
    after = bare_rows_per_second(model, "fp32", BARE_SECONDS)
    rate = float(re.findall(r"s, ([\d.,]+) rows/s", done.stderr)[0].replace(",", ""))
    print_table([{"rows": arguments.rows, "GB": csv_bytes / 1e9, "rows/s": rate,
                  "Classifier before": before, "after": after}])  # fmt: skip
    print_peaks(peaks)
    print_ratio("rows/s, predict / Classifier alone", 2 * rate / (before + after), least=0.85)


if __name__ == "__main__":
    main(__doc__, (shards,), {"--rows": {"type": int, "default": 1_000_000}}, data=False)
