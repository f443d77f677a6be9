"""What predicting shards costs beside the Classifier alone.

    python benchmarks/predict.py [--rows 1000000]

The paper's net with random weights, T = 100, 3 classes; shards of random values. The Classifier
alone computes rows in memory, in as many processes as CPUs, a thread each.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from commands import REPOSITORY, local_ray
from csv_shards import write_random_shards
from peak_memory import peak_memory
from serve import CPUS, N_TIMEPOINTS, bare_rows_per_second, random_model

N_SHARDS = 20
BARE_SECONDS = 20.0


def main() -> None:
    """Print rows/s of the job and of the Classifier alone, and each process's peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        model, data = random_model(Path(folder) / "model"), Path(folder) / "data"
        csv_bytes = write_random_shards(data, rows, N_TIMEPOINTS, n_shards=N_SHARDS)
        bare = [bare_rows_per_second(model, "fp32", BARE_SECONDS)]
        with local_ray(), peak_memory() as peaks:
            done = subprocess.run(
                [
                    *(sys.executable, REPOSITORY / "jobs" / "predict.py", "--model", model),
                    *("--input", data, "--output", Path(folder) / "predictions"),
                ],
                stderr=subprocess.PIPE,
                text=True,
                check=True,
            )
        bare.append(bare_rows_per_second(model, "fp32", BARE_SECONDS))
        rate = float(re.findall(r"s, ([\d.,]+) rows/s", done.stderr)[0].replace(",", ""))
        alone = sum(bare) / len(bare)
        print(
            f"{rows} rows in {N_SHARDS} shards ({csv_bytes / 1e9:.2f} GB): {rate:.0f} rows/s; "
            f"Classifier alone in {CPUS} processes {alone:.0f} (before {bare[0]:.0f}, after "
            f"{bare[1]:.0f}); ratio {rate / alone:.2f} (target 0.85)"
        )
        for process, megabytes in sorted(peaks.items(), key=lambda item: -item[1])[:6]:
            print(f"  peak of {process}: {megabytes:.0f} MB")


if __name__ == "__main__":
    main()
