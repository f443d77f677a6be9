import sys

from tests.helpers.checkout import REPOSITORY
from tests.helpers.problems import waves, write
from tests.helpers.small_models import tiny_artifact


def test_verbose_adds_what_ray_has_to_say(run_command, tmp_path):
    tiny_artifact().save(tmp_path / "model")
    table = waves(90).rename(columns={"x_12": "x_0"})  # the names that the model has
    data = write(tmp_path / "data", table, 2)
    words = [sys.executable, REPOSITORY / "jobs" / "predict.py", data]
    words += ["--model", tmp_path / "model", "--output"]
    plain = run_command(*words, tmp_path / "plain").stderr
    verbose = run_command(*words, tmp_path / "verbose", "--verbose").stderr
    assert "Ray cluster" not in plain
    assert "Connecting to existing Ray cluster" in verbose
    assert "predicted 90 rows of 2 shards in" in verbose
