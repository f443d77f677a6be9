import io

import numpy as np
import pytest
from matplotlib.image import imread

from lstmfcn.report.score_plots import draw_confusion
from lstmfcn.report.scores import ClassScores
from lstmfcn.report.style import render_drawing, shorten_names
from tests.helpers.small_reports import ODD_NAMES

pytestmark = pytest.mark.slow


def test_names_stay_where_the_font_has_them():
    assert shorten_names(["cat", "größer", "$x$", "_y"]) == ["cat", "größer", "$x$", "_y"]


def test_names_that_cannot_be_drawn_are_numbers():
    assert shorten_names(["cat", "中文", "a\nb", ""]) == ["cat", "#2", "a b", ""]


def test_long_names_are_cut_unless_they_would_be_the_same():
    assert shorten_names(["a" * 30, "b"], longest=5) == ["aaaa…", "b"]
    assert shorten_names(["a" * 30, "a" * 31, "b"], longest=5) == ["#1", "#2", "b"]


@pytest.mark.parametrize("n_classes", [1, 5, 37, 80])
def test_a_confusion_matrix_fits_the_page_and_is_not_blank(n_classes):
    names = [*ODD_NAMES, *map(str, range(100))][:n_classes]
    classes = [ClassScores(name, *[None] * 10) for name in names]
    found = render_drawing(
        "m.png", "words", draw_confusion, classes, np.eye(n_classes, dtype=np.int64) * 3
    )
    pixels = imread(io.BytesIO(found.png))
    assert pixels.shape[:2] == (found.height, found.width)
    assert found.width <= 1460
    assert pixels.std() > 0.01


def test_a_drawing_has_the_same_bytes_each_time():
    classes = [ClassScores(name, *[None] * 10) for name in ODD_NAMES]
    one, two = (
        render_drawing("m.png", "words", draw_confusion, classes, np.eye(5, dtype=np.int64))
        for _ in range(2)
    )
    assert one == two
