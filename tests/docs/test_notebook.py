"""The quickstart notebook runs from top to bottom, with a Ray of its own, and shows it all."""

import re
import shutil
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import lstmfcn
from tests.helpers.checkout import REPOSITORY
from tests.helpers.heads import free_ports

pytestmark = pytest.mark.ray  # the notebook starts one

NOTEBOOK = REPOSITORY / "notebooks" / "quickstart.ipynb"
PICTURES = 6
"""Series, learning curve, slices of the sweep, confusion matrix, explanations, answers."""

SMALLER = {"num_samples=8": "num_samples=3", "epochs=18": "epochs=4"}
"""A shorter sweep."""

MISTAKE = 'train("nowhere", "runs/second")'


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def executed():
    """The notebook after it ran in an empty folder, and that folder."""
    folder = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))  # short: sockets have 107 characters
    (port,) = free_ports(1)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for written, instead in (SMALLER | {"port = 8000": f"port = {port}"}).items():
        (cell,) = (cell for cell in code_cells(notebook) if written in cell.source)
        cell.source = cell.source.replace(written, instead)
    mistake = nbformat.v4.new_code_cell(MISTAKE, metadata={"tags": ["raises-exception"]})
    notebook.cells.append(mistake)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("TMPDIR", str(folder))  # where it makes its own folder
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    yield notebook, folder
    shutil.rmtree(folder)


def outputs_of(notebook, beginning):
    """What the cell with this in its code put out."""
    (cell,) = (cell for cell in code_cells(notebook) if beginning in cell.source)
    return cell.outputs


def text_of(outputs):
    return "".join(
        output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        for output in outputs
    )


def test_the_committed_notebook_holds_no_outputs():
    for cell in code_cells(nbformat.read(NOTEBOOK, as_version=4)):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_it_imports_the_public_names_only():
    imports = [
        line
        for cell in code_cells(nbformat.read(NOTEBOOK, as_version=4))
        for line in cell.source.splitlines()
        if re.match(r"(import|from) (lstmfcn|serve_app)", line)
    ]
    (line,) = imports
    names = line.removeprefix("from lstmfcn import ").split(", ")
    assert set(names) <= set(lstmfcn.__all__)


def test_every_cell_runs_without_an_error_or_a_word_on_stderr(executed):
    notebook, _ = executed
    assert all(cell.execution_count for cell in code_cells(notebook))
    told = [
        out.text
        for cell in code_cells(notebook)
        for out in cell.outputs
        if out.get("name") == "stderr"
    ]
    assert told == []


def test_a_users_mistake_is_one_line(executed):
    notebook, _ = executed
    (error,) = outputs_of(notebook, MISTAKE)
    assert error.traceback == ["DataError: nowhere: found nothing; check the path"]


def test_training_goes_on_where_it_was(executed):
    notebook, _ = executed
    told = text_of(outputs_of(notebook, "resume=True"))
    assert "resuming after epoch 4 of 10 epochs" in told
    assert "\nepoch: 5 train_loss" in told
    assert "\nepoch: 10 train_loss" in told


def test_the_sweep_tells_its_trials(executed):
    notebook, _ = executed
    told = text_of(outputs_of(notebook, "sweep = tune("))
    assert "[3 of 3 ended" in told
    assert "best: trial " in told


def test_the_endpoint_answers_and_refuses(executed):
    notebook, _ = executed
    told = text_of(outputs_of(notebook, "live = pd.DataFrame"))
    assert "p_funnel" in told
    assert "the same as the predictions in the file: True" in told
    refused = text_of(outputs_of(notebook, '"0.5,1.5"'))
    assert "'row': 1" in refused


def test_the_model_is_good_on_the_test_rows(executed):
    notebook, _ = executed
    told = text_of(outputs_of(notebook, "found = evaluate("))
    assert float(told.split("accuracy ")[1].split(",")[0]) > 0.9
    assert "on 300 rows" in told


def test_every_picture_is_drawn(executed):
    notebook, _ = executed
    shown = [
        o for cell in code_cells(notebook) for o in cell.outputs if "image/png" in o.get("data", {})
    ]
    assert len(shown) == PICTURES
    assert all(len(output.data["image/png"]) > 8_000 for output in shown)


def test_nothing_is_left_behind(executed):
    _, folder = executed
    assert list(folder.glob("lstmfcn-*")) == []
