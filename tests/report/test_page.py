import base64
import itertools
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from lstmfcn.cli.main import main
from lstmfcn.report.build import _percent, render_page
from lstmfcn.report.figures import draw_figures
from lstmfcn.report.findings import collect_findings
from lstmfcn.report.scores import Interval, Score
from tests.helpers.small_reports import ODD_NAMES, report_case

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a page holds: elements with their attributes, and its text."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def command(model, data, output, *flags):
    return main(["report", "--model", model, "--data", data, "--output", str(output), *flags])


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A report on classes of odd names, by the command: its folder and its page."""
    folder = tmp_path_factory.mktemp("odd")
    model, data = report_case(folder, classes=ODD_NAMES, n_rows=50)
    assert command(model, data, folder / "out") == 0
    return folder, Page((folder / "out" / "report.html").read_text(encoding="utf-8"))


def test_names_of_classes_are_text_and_nothing_else(odd):
    _, page = odd
    assert page.all("b") == []
    for name in ODD_NAMES:
        assert name in page.text


def test_drawings_are_inside_the_page_and_beside_it(odd):
    folder, page = odd
    images = page.all("img")
    start = "data:image/png;base64,"
    assert all(image["src"].startswith(start) for image in images)
    inside = {base64.b64decode(image["src"][len(start) :]) for image in images}
    beside = {path.read_bytes() for path in (folder / "out").glob("*.png")}
    assert inside == beside
    assert len(images) > 20


def test_drawings_are_told_in_words_and_tables_have_headers(odd):
    _, page = odd
    assert all(len(image["alt"]) > 20 for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert {header["scope"] for header in page.all("th")} == {"col", "row"}
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.all("html") == [{"lang": "en"}]


def test_nothing_is_loaded_and_every_link_leads_somewhere(odd):
    _, page = odd
    assert page.all("script") == []
    names = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link["href"] for link in page.all("a")} == {f"#{name}" for name in names}
    assert not re.search(r"url\(|@import|https?:", page.text)


def test_an_earlier_report_is_replaced_where_asked_for_and_gives_the_same_bytes(
    odd, tmp_path, capsys
):
    folder, _ = odd
    model, data, out = str(folder / "run" / "model"), str(folder / "data"), tmp_path / "two"
    shutil.copytree(folder / "out", out)
    (out / "report.html").write_text("earlier")
    (out / "hardest_99.png").write_text("a drawing that the new report has not")
    assert command(model, data, out) == 2
    told = f"{out}/report.html: exists already; add --overwrite or choose another --output"
    assert told in capsys.readouterr().err
    assert (out / "report.html").read_text() == "earlier"
    assert command(model, data, out, "--overwrite") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "report.html")
    assert {path.name for path in out.iterdir()} == {p.name for p in (folder / "out").iterdir()}
    for path in (folder / "out").iterdir():
        assert path.read_bytes() == (out / path.name).read_bytes()


def test_a_model_that_is_worse_than_a_guess_is_called_so_in_the_header(tmp_path):
    model, data = report_case(tmp_path)
    table = pd.concat(map(pd.read_csv, sorted(Path(data).iterdir())))
    rare = pd.concat([table[table.y == "ant"], table[table.y != "ant"].head(2)])
    rare.to_csv(tmp_path / "rare.csv", index=False)
    found = collect_findings(model, str(tmp_path / "rare.csv"))
    assert found.scores.accuracy.value < found.scores.baseline
    header = render_page(found, draw_figures(found)).partition("</header>")[0]
    told = (
        "This model is worse than always giving the most frequent answer. "
        "That is right for 90.9 % of the rows."
    )
    assert told in header
    wrong = replace(found.scores, accuracy=Score(0.95, Interval(0.8, 1.0)))
    assert wrong.verdict.startswith("These rows do not show that this model is better than")
    assert replace(found.scores, accuracy=Score(0.95, Interval(0.92, 1.0))).verdict is None
    assert replace(found.scores, baseline=1.0).verdict is None  # rows of one class show nothing


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("binary", {"n_rows": 20}),
        ("one label", {"n_rows": 20}),
        ("one-hot", {"n_rows": 1, "n_shards": 1}),
    ],
)
def test_any_task_and_data_make_a_page(tmp_path, kind, arguments):
    found = collect_findings(*report_case(tmp_path, kind, **arguments))
    page = Page(render_page(found, draw_figures(found)))
    assert f"on {found.summary.rows} row" in page.text
    for one in found.summary.classes:
        assert one.name in page.text


def test_what_is_not_of_a_report_stays(odd, tmp_path, capsys):
    folder, _ = odd
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("earlier")
    (out / "notes.txt").write_text("mine")
    assert command(str(folder / "run" / "model"), str(folder / "data"), out) == 2
    assert "holds notes.txt, which is not part of a report" in capsys.readouterr().err
    assert {path.read_text() for path in out.iterdir()} == {"earlier", "mine"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "nowhere"}, "found no readable model.json"),
        ({"data": "nowhere"}, "found nothing; check the path"),
        (
            {"data": "unlabelled.csv"},
            "unlabelled.csv: found no label column in the header (x_1, x_2",
        ),
        ({"output": "data"}, "holds part-0.csv, which is not part of a report"),
        ({"output": "data/part-0.csv/out"}, "cannot be written (Not a directory)"),
        ({"output": "data/part-0.csv"}, "is a file; choose a folder"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(tmp_path, capsys, change, told):
    model, data = report_case(tmp_path, n_rows=6)
    table = pd.read_csv(tmp_path / "data" / "part-0.csv").drop(columns="y")
    table.to_csv(tmp_path / "unlabelled.csv", index=False)
    before = sorted(tmp_path.rglob("*"))
    flags = {"model": model, "data": data, "output": "out"} | change
    if flags["data"] == "unlabelled.csv":
        flags["data"] = str(tmp_path / "unlabelled.csv")
    flags["output"] = tmp_path / flags["output"]
    assert command(**flags) == 2
    *stages, line = capsys.readouterr().err.splitlines()
    # whether log lines are shown is the whole process's, and pytest's
    assert stages in ([], [f"reading {flags['data']} and drawing"])
    assert told in line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_fault_in_a_row_is_told_and_leaves_nothing(tmp_path, capsys):
    model, data = report_case(tmp_path, n_rows=6)
    shard = tmp_path / "data" / "part-1.csv"
    shard.write_text(shard.read_text().replace("ant", "elk", 1))
    assert command(model, data, tmp_path / "out") == 2
    assert "part-1.csv, row 1, column y: found the class 'elk'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_shares_are_never_rounded_to_all_or_nothing():
    shown = [_percent(share) for share in (0, 1e-5, 0.0449, 0.5, 0.99999, 1)]
    assert shown == ["0 %", "< 0.1 %", "4.5 %", "50.0 %", "> 99.9 %", "100 %"]
