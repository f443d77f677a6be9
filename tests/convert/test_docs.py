"""What docs/ says of convert is what it does."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from lstmfcn.cli.main import main
from lstmfcn.convert.run import _FORMS
from lstmfcn.data.csv_parser import BLOCK_BYTES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = "".join(
    (DOCS / name).read_text() for name in ("how-to/convert.md", "reference/data-format.md")
)


def table(header):
    """The rows of the table with this header, each a list of its cells."""
    (rows,) = re.findall(rf"^\| {header} \|\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()]


def code(cell):
    return re.findall("`([^`]+)`", cell)


def last_line(capsys, *words):
    """Run convert and return its last line."""
    assert main(["convert", "--output", "output", *words]) == 2
    assert not Path("output").exists()
    *_, line = capsys.readouterr().err.splitlines()
    return line.removeprefix("lstmfcn: ").replace(f"{Path.cwd()}/", "")


@pytest.mark.parametrize(("named", "lines", "message"), table(r"to convert \| lines \| message"))
def test_a_file_of_these_lines_is_refused_with_this_message(
    named, lines, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    file, *flags = code(named)
    Path(file).write_text("\n".join(code(lines)))
    words = [word for flag in flags for word in shlex.split(flag)]
    assert code(message) == [last_line(capsys, "--input", file, *words)]


def test_messages_on_folders_and_arrays_are_those_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("a.tsv").write_text("1\t" * (BLOCK_BYTES // 2 + 1))
    np.save("a.npy", np.ones((2, 3)))
    np.savez("names.npz", X_train=np.ones((2, 3)), y_train=[1, 2])
    np.savez("objects.npz", x=np.ones((2, 3)), y=np.array(["a", None]))
    np.savez("axes.npz", x=np.ones((2, 60, 1)), y=[1, 2])
    files = ["folder", "a.tsv", "a.npy", "names.npz", "objects.npz", "axes.npz"]
    quoted = [code(message)[0] for _, message in table(r"to convert \| message")]
    assert [last_line(capsys, "--input", file).partition(": ")[2] for file in files] == [
        message.partition(": ")[2] for message in quoted
    ]


def test_every_format_is_on_the_page():
    named = {name for cell, _ in table(r"convert from \| is") for name in code(cell)}
    assert named - {"--no-header"} == set(filter(None, _FORMS))


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall("^```sh\n(printf.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for line in "".join(blocks).splitlines():
        if line.startswith("printf"):
            text, file = re.fullmatch("printf '(.*)' > (.*)", line).groups()
            Path(file).write_text(text.encode().decode("unicode_escape"))
        else:
            assert main(shlex.split(line)[1:]) == 0
    assert Path("beats/part-000.csv").read_text() == "y,x_1,x_2\none,0.1,0.2\ntwo,0.3,0.1\n"
