"""The pages of docs/ are true: what they list is what there is, what they quote is what is told."""

import os
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lstmfcn.cli.main import app
from lstmfcn.console import pluralize
from lstmfcn.data.reader import open_dataset, read_tables
from lstmfcn.data.schema import SeriesSchema
from lstmfcn.errors import LstmfcnError
from lstmfcn.hyperparameters import Hyperparameters
from lstmfcn.model.artifact import Artifact
from lstmfcn.model.network import build_network
from lstmfcn.model.task import make_task
from lstmfcn.tuning.search_space import PRESETS, SearchSpace
from tests.helpers.small_models import tiny_artifact

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]


def path_id(path):
    return str(path.relative_to(REPOSITORY))


def page(name):
    (path,) = (path for path in PAGES if path.stem == name)
    return path.read_text()


def table(name, header):
    """The rows of the table in a page that has this first column, each a list of its cells."""
    (rows,) = re.findall(rf"^\| {header} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page(name), re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]


def code(cell):
    """What a cell shows in code spans."""
    return re.findall("`([^`]+)`", cell)


@pytest.mark.parametrize("path", TEXTS, ids=path_id)
def test_what_a_page_links_to_is_there(path):
    for target, heading in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", path.read_text()):
        if target.startswith("http"):
            continue
        linked = path.parent / target if target else path
        assert linked.exists(), target
        if heading:
            headings = re.findall("^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert heading in map(slug, headings), target


def slug(heading):
    """The name that a heading is linked by."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_the_site_leads_to_every_page_and_the_readme_to_each_part():
    navigation = (REPOSITORY / "mkdocs.yml").read_text()
    listed = re.findall(r"^ +- .*: (\S+\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == [str(path.relative_to(DOCS)) for path in PAGES]
    readme = (REPOSITORY / "README.md").read_text()
    for part in ("tutorial", "how-to", "reference", "explanation"):
        assert f"(docs/{part}/" in readme


@pytest.mark.slow  # starts a process
@pytest.mark.parametrize("name", ["hyperparameters", "command_line"])
def test_a_generated_page_is_what_its_script_prints(name):
    command = [sys.executable, DOCS / "generate" / f"{name}.py"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert page(name.replace("_", "-")) == printed.stdout


def test_every_command_stands_on_the_page_of_commands():
    sections = re.findall("^## lstmfcn (.*)$", page("command-line"), re.MULTILINE)
    assert sorted(sections) == sorted(name for name in app if not name.startswith("-"))


def test_every_hyperparameter_stands_on_its_page_once():
    text = page("hyperparameters")
    for name in Hyperparameters().to_flags():
        assert len(re.findall(rf"^\| `{name}` \| .* \| .* \| .*\.  *\|$", text, re.MULTILINE)) == 1


def test_the_search_spaces_of_the_page_are_the_presets():
    blocks = re.findall("^```yaml\n(.*?)^```", page("hyperparameters"), re.DOTALL | re.MULTILINE)
    for name, text in zip(PRESETS, blocks, strict=True):
        assert SearchSpace.parse(text, name) == SearchSpace.load(name)


def test_the_search_space_of_the_guide_can_be_searched():
    (text,) = re.findall("^```yaml\n(.*?)^```", page("tune"), re.DOTALL | re.MULTILINE)
    assert len(SearchSpace.parse(text, "tune.md").values) == 4


def read(data, task="multiclass", missing="refuse", schema=None):
    """Read all of a data argument, as training does."""
    found = open_dataset(data, task, schema, missing=missing)
    schema, names = found.schema, set()
    for shard, header in zip(found.shards, found.headers, strict=True):
        for rows, source in read_tables(shard, schema, True, header):
            schema.encode_values(rows, source)
            if schema.classes:
                schema.refuse_absent_classes(schema.encode_labels(rows, source), data)
            else:
                names |= set(schema.label_names(rows, source))
    if not schema.classes:
        schema.with_classes(sorted(names), data)


def refusal(call, *arguments, **options):
    with pytest.raises(LstmfcnError) as refused:
        call(*arguments, **options)
    return str(refused.value).replace(f"{Path.cwd()}/", "")


@pytest.mark.parametrize(("task", "lines", "message"), table("data-format", "task"))
def test_a_shard_of_these_lines_is_refused_with_this_message(
    task, lines, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("\n".join(code(lines)))
    name, *masked = code(task) or ["multiclass"]
    missing = "mask" if masked else "refuse"
    assert code(message) == [refusal(read, "a.csv", name, missing)]


def test_what_the_page_quotes_of_more_than_a_shard_is_what_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = SeriesSchema.from_header(["y", "x_1", "x_2", "x_3"], "multiclass")
    Path("bare").mkdir()
    Path("broken.parquet").write_text("PAR1")
    pq.write_table(pa.table({"y": ["a"], "x_1": ["text"]}), "text.parquet")
    pq.write_table(pa.table({"y": ["a"], "x": [[[1.0]]]}), "nested.parquet")
    Path("unlabelled.csv").write_text("x_1,x_2,x_3\n1,2,3\n")
    Path("short.csv").write_text("y,x_1,x_2\na,1,2\n")
    Path("one-hot.csv").write_text("y_1,y_2,x_1\n1,0,5\n")
    Path("cow.csv").write_text("y,x_1,x_2,x_3\ncow,1,2,3\n")
    Path("link.csv").symlink_to("TARGET")
    os.mkfifo("fifo")
    Path("latin.csv").write_text("y,x_1\ngrößer,1\n", "latin-1")
    Path("zip.csv").write_bytes(b"PK\x03\x04")
    Path("long.csv").write_text("y,x_1\na," + "1" * (17 << 20))
    Path("y=up").mkdir()
    pq.write_table(pa.table({"x_1": [1.0]}), "y=up/part-0.parquet")
    cases = {
        "PATH: found nothing": ["nowhere"],
        "PATH: found no shard": ["bare"],
        "PATH: found a link": ["link.csv"],
        "PATH: found a pipe": ["fifo"],
        "URI: found a URI": ["nowhere://bucket"],
        "FILE: found a file that cannot": ["broken.parquet"],
        "FILE: found bytes": ["latin.csv"],
        "FILE: found a zip": ["zip.csv"],
        "FILE: found a line": ["long.csv"],
        "FILE: found no label column in the header, but": ["y=up/part-0.parquet"],
        "FILE, column x_1": ["text.parquet"],
        "FILE, column x: found": ["nested.parquet"],
        "FILE: found no label column in the header (": [
            "unlabelled.csv",
            "multiclass",
            "refuse",
            known,
        ],
        "FILE: found 2": ["short.csv", "multiclass", "refuse", known],
        "PATH: found no row": ["one-hot.csv"],
        "FILE, row 1": ["cow.csv", "multiclass", "refuse", known.with_classes(["ant", "bee"])],
    }
    quoted = [code(message)[0] for _, message in table("data-format", "data")]
    assert len(quoted) == len(cases)
    for message, (beginning, arguments) in zip(quoted, cases.items(), strict=True):
        assert message.startswith(beginning)
        place = message.partition(":")[0].partition(",")[0]
        told = refusal(read, *arguments).replace(arguments[0], place)
        pattern = re.escape(message).replace("REASON", ".+")
        assert re.fullmatch(pattern, told), told


def test_the_page_of_the_model_directory_lists_the_tensors_and_their_shapes():
    rows = [(code(name)[0], code(shape)[0]) for name, shape, _ in table("model-directory", "name")]
    shapes, seen = dict(rows), set()
    kinds = [
        ("multiclass", {"n_channels": 1, "num_layers": 2}),
        ("binary", {"n_channels": 2, "network": "malstm-fcn", "num_layers": 2, "filters_1": 40}),
        ("multilabel", {"n_channels": 4, "missing": "mask", "filters_2": 3, "view": "differences"}),
        ("multiclass", {"n_channels": 6, "network": "alstm-fcn", "kernel_size_1": 8}),
    ]
    for kind, changes in kinds:
        artifact = tiny_artifact(kind, **changes)
        n_outputs = make_task(artifact.schema).n_outputs
        for name, tensor in artifact.weights.items():
            listed, index = generalised(name)
            seen.add(listed)
            sizes = symbols(artifact.hyperparameters, artifact.schema, index, n_outputs)
            written = shapes[listed].replace("4H", "4 * H")
            assert tuple(tensor.shape) == eval(written, sizes), name
    assert seen == shapes.keys()


def generalised(name):
    """A tensor's name as the page has it, and the number of its layer or block."""
    found = re.fullmatch(r"(.*(?:layers|blocks)\.)(\d+)(\..*)", name)
    if not found:
        return name, 0
    before, index, after = found.groups()
    return f"{before}{'L' if before.startswith('lstm') else 'B'}{after}", int(index)


def symbols(hyperparameters, schema, index, n_outputs):
    """What the letters of the page stand for, in that layer or block."""
    h, n_channels, n_timepoints = hyperparameters, schema.n_channels, schema.n_timepoints
    filters = [n_channels, h.filters_1, h.filters_2, h.filters_3]
    kernels = [h.kernel_size_1, h.kernel_size_2, h.kernel_size_3]
    first = n_timepoints if n_timepoints > n_channels else n_channels
    out = filters[min(index, 2) + 1]
    return {
        "H": h.hidden_size,
        "C": n_channels,
        "F": h.hidden_size if index else first,
        "I": filters[min(index, 2)],
        "O": out,
        "S": max(1, out // 16),
        "k": kernels[min(index, 2)],
        "K": n_outputs,
        "N": h.filters_3,
    }


def test_an_ensembles_tensors_have_their_members_number_before_their_names():
    hyperparameters = Hyperparameters(members=2, filters_1=4, filters_2=4, filters_3=4)
    ensemble, one = (
        build_network(h, 12, 3).state_dict()
        for h in (hyperparameters, hyperparameters.split_into_members()[0])
    )
    assert list(ensemble) == [f"members.{m}.{name}" for m in range(2) for name in one]


def test_the_model_directorys_messages_are_what_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    messages = [code(message)[0] for _, message in table("model-directory", "what is wrong")]
    told = [refusal(Artifact.load, "model").replace("model:", "DIR:")]
    for one, other in {'"epoch": 2': '"epoch": 3', '_version": 1': '_version": 2'}.items():
        tiny_artifact().save("model")
        path = Path("model", "model.json")
        path.write_text(path.read_text().replace(one, other))
        told.append(refusal(Artifact.load, "model").replace(str(path), "FILE"))
    artifact, bias = tiny_artifact(), "head.bias"
    for tampered in (
        replace(artifact, hyperparameters=Hyperparameters(task="binary")),
        replace(artifact, weights=artifact.weights | {bias: torch.zeros(4)}),
        replace(artifact, weights=artifact.weights | {bias: torch.full((3,), torch.nan)}),
    ):
        tampered.save("model")
        told.append(re.sub(r"model/model[.]\w+:", "FILE:", refusal(Artifact.load, "model")))
    path.unlink()
    os.mkfifo(path)
    Path("run").mkdir()
    Path("run", "run.json").touch()
    told += [refusal(Artifact.load, name) for name in ("model", "run", "s3:/bucket/model")]
    assert [re.sub("^(model|run):", "DIR:", line) for line in told] == messages


def test_the_table_of_the_archive_has_the_means_and_ranges_of_the_results():
    (header,) = re.findall(r"^\| set \|.*\| classes \|(.*)\|$", page("accuracy"), re.MULTILINE)
    *rows, (_, _, _, *means) = table("accuracy", r"set \| rows x timepoints")
    for column, cell in enumerate(header.split("|")):
        if not (name := code(cell)):
            continue
        found = pd.read_csv(RESULTS / f"{name[0]}.csv").groupby("set").accuracy
        expected = {name: told_accuracies(list(of_set)) for name, of_set in found}
        assert {row[0]: row[3 + column] for row in rows if row[3 + column]} == expected
        if len(found) == len(rows):
            assert means[column] == f"{found.mean().mean():.4f}"


def test_the_table_of_other_methods_has_their_means_and_ours_in_order():
    published = pd.read_csv(RESULTS / "published.csv")
    means = published.drop(columns=["method", "source"]).mean(axis=1)
    found = [*zip(means, published.method, published.source, strict=True)]
    for name in ("best", "default"):
        by_set = pd.read_csv(RESULTS / f"{name}.csv").groupby("set").accuracy
        assert set(by_set.groups) == set(published.columns[2:])
        seeds = pluralize(int(by_set.size().max()), "seed")
        found.append((by_set.mean().mean(), f"`{name}`", f"here, {seeds}"))
    rows = [[name, f"{mean:.4f}", by] for mean, name, by in sorted(found, reverse=True)]
    assert table("accuracy", "method") == rows
    text = page("accuracy").replace("\n", " ")
    of_fcn = sorted(f"{m:.3f}" for m, name, by in found if name == "FCN" and "one run" not in by)
    assert f"its mean is {' to '.join(of_fcn)} in others' hands" in text
    readme = (REPOSITORY / "README.md").read_text()
    for mean, name, by in found:
        if name in ("WEASEL 2", "HIVE-COTE 2", "ROCKET", "InceptionTime", "LSTM-FCN"):
            assert f"{name} {mean:.3f}" in readme, by


def told_accuracies(accuracies):
    mean = f"{statistics.fmean(accuracies):.3f}"
    if len(accuracies) == 1:
        return mean
    return f"{mean} ({min(accuracies):.3f} to {max(accuracies):.3f})"


def test_the_table_of_views_is_that_of_the_results():
    found = pd.read_csv(RESULTS / "views.csv").drop(columns=["trains", "held_out"])
    means = ["mean", *(f"{mean:.4f}" for mean in found.drop(columns="set").mean())]
    rows = [[row[0], *(f"{cell:.3f}" for cell in row[1:])] for row in found.values.tolist()]
    assert table("experiments", "held out of") == [*rows, means]


def test_the_table_of_small_sets_is_that_of_the_results():
    found = pd.read_csv(RESULTS / "defaults-small.csv", keep_default_na=False)
    means = found.groupby("change")[["accuracy", "cross_entropy"]].mean()
    rows = [
        [f"`{change}`" if change else "none", f"{accuracy:.4f}", f"{cross_entropy:.3f}"]
        for change, accuracy, cross_entropy in means.itertuples()
    ]
    assert table("experiments", "change on small sets") == rows


def test_the_table_of_batch_norms_memory_is_that_of_the_results():
    found = pd.read_csv(RESULTS / "batch-norm.csv")
    others = set(pd.read_csv(RESULTS / "defaults.csv")["set"])
    found["sets"] = ["others" if name in others else "small" for name in found["set"]]
    means = found.pivot_table("accuracy", ["sets", "epochs"], "memory", sort=False)
    rows = [
        [f"{sets}, {epochs}", *(f"{mean:.4f}" for mean in means.loc[(sets, epochs)])]
        for sets, epochs in sorted(means.index)
    ]
    assert table("experiments", "sets, epochs") == rows


SPLITS = pd.read_csv(RESULTS / "small-sets.csv", dtype={"memory": str})
SPLITS["accuracy"] = SPLITS["right"] / SPLITS["rows"]


def on_splits(networks, memory="0.1", sets=None):
    """Figures of each set's splits."""
    found = SPLITS[(SPLITS.networks == networks) & (SPLITS.memory == memory)]
    found = found if sets is None else found[found["set"].isin(sets)]
    return found.set_index(["set", "split"])[["accuracy", "cross_entropy"]]


def differing(networks, sets, memory="0.1"):
    """Accuracy on these sets, what it is more than the series', and the standard error of that."""
    found, series = on_splits(networks, memory, sets), on_splits("series", sets=sets)
    mean = found.accuracy.groupby("split").mean()
    more = mean - series.accuracy.loc[found.index].groupby("split").mean()
    return mean.mean(), more.mean(), more.std() / len(more) ** 0.5


def groups_of_sets():
    others = set(pd.read_csv(RESULTS / "defaults.csv")["set"])
    return set(SPLITS["set"]) - others, others


def test_the_table_of_networks_on_many_splits_is_that_of_the_results():
    rows = []
    for networks in dict.fromkeys(SPLITS.networks):
        if networks != "series":
            found = [differing(networks, sets) for sets in groups_of_sets()]
            cells = [(f"{a:.4f}", f"{more:+.3f} ± {error:.3f}") for a, more, error in found]
            rows.append([networks, *cells[0], *cells[1]])
    assert table("experiments", "networks") == rows


def test_the_figures_of_batch_norms_memory_on_many_splits_are_those_of_the_results():
    small, _ = groups_of_sets()
    text = page("experiments").replace("\n", " ")
    found = {
        memory: differing("series", small, memory) for memory in ("0.1", "0.01", "0.1 to 0.01")
    }
    assert (
        "{:.4f} with 0.1, {:.4f} with 0.01 and with 0.1 to 0.01".format(
            found["0.1"][0], found["0.01"][0]
        )
        in text
    )
    assert f"{found['0.01'][0]:.4f}" == f"{found['0.1 to 0.01'][0]:.4f}"
    for memory in ("0.01", "0.1 to 0.01"):
        _, more, error = found[memory]
        assert f"apart by {abs(more):.4f} with a standard error of {error:.4f}" in text
    rows = SPLITS[(SPLITS.networks == "series") & (SPLITS.memory == "0.1")]
    assert f"{rows[rows['set'].isin(small)]['rows'].sum():,} held-out rows in all" in text


LENGTHS = {
    "24 to 99": {
        *("ItalyPowerDemand", "MelbournePedestrian", "SonyAIBORobotSurface1", "TwoLeadECG"),
        *("MoteStrain", "ElectricDevices", "MedicalImages"),
    },
    "128 to 187": {"CBF", "ECGFiveDays", "GunPoint", "Adiac", "mitbih"},
    "286 to 570": {"Coffee", "Lightning7", "FaceFour", "Beef", "BeetleFly", "OliveOil"},
}


def test_the_table_of_coarse_networks_by_length_is_that_of_the_results():
    assert set().union(*LENGTHS.values()) == set(SPLITS["set"])
    rows = []
    for lengths, sets in LENGTHS.items():
        coarse = on_splits("coarse", sets=sets)
        each = [on_splits("series", sets=sets).loc[coarse.index], coarse]
        means = [found.groupby("set").mean().mean() for found in each]
        rows.append(
            [
                lengths,
                *(f"{mean.accuracy:.4f}" for mean in means),
                *(f"{mean.cross_entropy:.3f}" for mean in means),
            ]
        )
    assert table("experiments", "timepoints") == rows


def test_what_is_said_of_beetlefly_is_that_of_the_results():
    text = page("experiments").replace("\n ", "")
    found = pd.read_csv(RESULTS / "beetlefly.csv").sort_values("seed").accuracy
    assert len(found) == 20
    mean, error = found.mean(), found.std() / 20**0.5
    assert f"(beetlefly.csv) it is {mean:.4f} with a standard error of {error:.3f}" in text
    fives = [f"{found.iloc[start : start + 5].mean():.2f}" for start in range(0, 20, 5)]
    assert f"over fives of them {', '.join(fives[:3])} and {fives[3]}" in text
    assert f"{0.9 - mean:.4f} below" in text


def test_what_is_said_of_long_test_rows_is_that_of_the_results():
    text = page("experiments").replace("\n", " ")
    coarse, series = (
        pd.read_csv(RESULTS / f"{name}.csv").groupby("set")[["accuracy", "seconds"]].mean()
        for name in ("view-coarse", "default")
    )
    series = series.loc[coarse.index]
    means = f"{coarse.accuracy.mean():.3f}, of the series {series.accuracy.mean():.3f}"
    seconds = f"{coarse.seconds.mean():.0f} s a training, of the series {series.seconds.mean():.0f}"
    more = (coarse - series).accuracy
    each = f"{more['OliveOil']:.2f} more on OliveOil, {-more['BeetleFly']:.2f} less on BeetleFly"
    assert f"the mean is {means}: {each}" in text
    assert f"{seconds} s." in text
    gain = differing("coarse", LENGTHS["286 to 570"])[1:]
    assert "({:.3f}, {:.3f})".format(*gain) in text


def test_the_table_of_averages_is_that_of_the_results():
    found = pd.read_csv(RESULTS / "averaging.csv").groupby("epochs")
    means = found.mean(numeric_only=True).drop(columns="seed")
    rows = [
        [str(epochs), str(seeds), *(f"{mean:.4f}" for mean in means.loc[epochs])]
        for epochs, seeds in found["seed"].nunique().items()
    ]
    assert table("experiments", "epochs") == rows


def test_the_changelog_names_modules_that_are_there():
    """Its first column says where what had another name is now."""
    table = (REPOSITORY / "CHANGELOG.md").read_text()
    names = re.findall(r"^\| `((?:lstmfcn|serve_app)\.[\w.]+)` \|", table, re.MULTILINE)
    assert len(names) > 50
    paths = [REPOSITORY / name.replace(".", "/") for name in names]
    assert [p for p in paths if not (p.is_dir() or p.with_suffix(".py").exists())] == []


def test_the_tree_has_one_line_for_every_folder():
    contributing = (REPOSITORY / "CONTRIBUTING.md").read_text()
    (tree,) = re.findall("^```text\n(lstmfcn/.*?)^```", contributing, re.DOTALL | re.MULTILINE)
    lines = tree.splitlines()
    assert len(lines) <= 30
    named = [line.split()[0].rstrip("/") for line in lines]
    folders = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    top = {name.split("/")[0] for name in folders if "/" in name and not name.startswith(".")}
    package = {name.split("/")[1] for name in folders if re.match(r"lstmfcn/\w+/", name)}
    assert top | package <= set(named)


COMMAND = re.compile(r"(?:\S+=\S+ )*(?:lstmfcn |python jobs/)([a-z]+)(?:\.py)?( .*)?")
FILE = re.compile(
    r"(?<![\w/~.])(?:lstmfcn|tests|jobs|serve_app|benchmarks|docs)/[a-z_/]+\.(?:py|yaml|md)"
)


def lines_of(text):
    """Lines of code blocks, continued ones in one, without comments; what code spans hold."""
    blocks = re.findall(r"^```(?:sh|text)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.split(" #")[0] for b in blocks for line in b.replace("\\\n", "").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [*lines, *re.findall("`([^`\n]+)`", prose)]


@pytest.mark.parametrize("path", TEXTS, ids=path_id)
def test_every_flag_of_a_command_on_a_page_is_one_that_the_command_has(path):
    for line in lines_of(path.read_text()):
        for part in re.split(" -- | && ", line):
            if found := COMMAND.fullmatch(part.strip()):
                name, flags = found.groups()
                for word in re.findall(r"(?<= )--[\w-]+", flags or ""):
                    assert word in flags_of(app[name]), line


@pytest.mark.parametrize("path", TEXTS, ids=path_id)
def test_every_command_in_a_code_block_is_complete(path):
    blocks = re.findall(r"^```(?:sh|text)\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    for line in "".join(blocks).replace("\\\n", "").splitlines():
        for part in re.split(" -- | && ", line.split(" #")[0]):
            found = COMMAND.fullmatch(part.strip())
            if found and "[OPTIONS]" not in part:
                name, words = found.groups()
                app[name].parse_args(words or "", exit_on_error=False, print_error=False)


def flags_of(command):
    own = {name for argument in command.assemble_argument_collection() for name in argument.names}
    return own | {"--help", "--quiet", "--json", "--verbose"}


@pytest.mark.parametrize("path", TEXTS, ids=path_id)
def test_every_file_that_a_page_names_is_there_and_benchmarks_have_their_flags(path):
    for line in lines_of(path.read_text()):
        for name in FILE.findall(line):
            assert (REPOSITORY / name).exists(), line
        if found := re.match(r"python -m (benchmarks[\w.]+)(.*?)(?: -- .*)?$", line):
            module, flags = found.groups()
            script = f"{module.replace('.', '/')}.py"
            source = "".join((REPOSITORY / n).read_text() for n in (script, "benchmarks/common.py"))
            for flag in re.findall(r"--[\w-]+", flags):
                assert f'"{flag}"' in source, line
