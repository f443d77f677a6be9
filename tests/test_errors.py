import copy
import pickle

import pytest

from lstmfcn.errors import (
    DataError,
    HyperparameterError,
    LstmfcnError,
    ModelError,
    OutputError,
    ResourceError,
    RunInterruptedError,
    TrainingError,
    UserError,
)

USER_ERRORS = (DataError, HyperparameterError, ModelError, OutputError, ResourceError)
ONE_LINERS = (UserError, HyperparameterError, ModelError, OutputError, ResourceError, TrainingError)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "found it; fix it"),
        ({"file": "a.csv"}, "a.csv: found it; fix it"),
        ({"row": 3}, "row 3: found it; fix it"),
        ({"column": "x_2"}, "column x_2: found it; fix it"),
        ({"file": "a.csv", "row": 3}, "a.csv, row 3: found it; fix it"),
        ({"file": "a.csv", "row": 3, "column": "y"}, "a.csv, row 3, column y: found it; fix it"),
    ],
)
def test_data_error_names_the_places_it_knows(place, text):
    assert str(DataError("it", "fix it", **place)) == text


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
@pytest.mark.parametrize(
    "place", [{}, {"file": "a.csv"}, {"file": "a.csv", "row": 7, "column": "x_1"}]
)
def test_data_error_survives_pickling_and_copying(place, again):
    error = DataError("an empty cell", "fill it", **place)
    twin = again(error)
    assert type(twin) is DataError
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)
    assert (twin.found, twin.fix) == ("an empty cell", "fill it")
    assert (twin.file, twin.row, twin.column) == tuple(map(place.get, ("file", "row", "column")))


@pytest.mark.parametrize("kind", [LstmfcnError, *ONE_LINERS])
def test_other_errors_survive_pickling(kind):
    twin = pickle.loads(pickle.dumps(kind("the one line")))
    assert type(twin) is kind
    assert str(twin) == "the one line"
    assert twin.exit_code == kind.exit_code


@pytest.mark.parametrize("kind", USER_ERRORS)
def test_user_errors_end_a_command_with_2(kind):
    assert issubclass(kind, UserError)
    assert kind.exit_code == 2


def test_a_failed_training_is_not_a_user_error_and_has_exit_code_1():
    assert not issubclass(TrainingError, UserError)
    assert issubclass(TrainingError, LstmfcnError)
    assert TrainingError.exit_code == 1


def test_a_stop_survives_the_way_from_a_worker_process():
    error = pickle.loads(pickle.dumps(RunInterruptedError("stopped after epoch 3", resumable=True)))
    assert (str(error), error.resumable) == ("stopped after epoch 3", True)
