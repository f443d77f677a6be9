import matplotlib.image
import numpy as np
import pytest

from lstmfcn.training.progress import save_learning_curve

pytestmark = pytest.mark.slow


def history_of(epochs, validation):
    history = []
    for epoch in range(1, epochs + 1):
        metrics = {"epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 1 - 0.5 / epoch}
        if validation:
            metrics |= {"valid_loss": 1.1 / epoch, "valid_accuracy": 0.9 - 0.5 / epoch}
        history.append(metrics)
    return history


def drawn(path, history, best_epoch):
    save_learning_curve(history, best_epoch, path)
    return matplotlib.image.imread(path)


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("epochs", [1, 3, 60])
def test_the_curve_is_a_png_that_opens(tmp_path, epochs, validation):
    path = tmp_path / "learning_curve.png"
    image = drawn(path, history_of(epochs, validation), epochs)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert image.shape == (480, 1200, 4)
    assert len(np.unique(image.reshape(-1, 4), axis=0)) > 10
    assert [entry.name for entry in tmp_path.iterdir()] == ["learning_curve.png"]


def test_validation_adds_a_line(tmp_path):
    path = tmp_path / "learning_curve.png"
    alone = drawn(path, history_of(5, validation=False), 5)
    both = drawn(path, history_of(5, validation=True), 5)
    assert not np.array_equal(alone, both)


def test_the_kept_epoch_is_marked(tmp_path):
    path, history = tmp_path / "learning_curve.png", history_of(5, validation=True)
    assert not np.array_equal(drawn(path, history, 2), drawn(path, history, 4))


def test_equal_histories_give_equal_pictures(tmp_path):
    path, history = tmp_path / "learning_curve.png", history_of(5, validation=True)
    np.testing.assert_array_equal(drawn(path, history, 3), drawn(path, history, 3))
