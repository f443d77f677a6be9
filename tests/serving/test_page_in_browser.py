"""The endpoint's page in a real browser, as people use it.

It is served by this process; tests/ray/test_serve.py opens it behind a real `lstmfcn serve`.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from playwright.sync_api import expect

from lstmfcn.inference.predictor import Classifier
from tests.helpers.browser import needs_chromium, opening, paste, started_browser
from tests.helpers.endpoints import LINES, ROWS
from tests.helpers.served_here import served_here
from tests.helpers.small_models import N_TIMEPOINTS, tiny_artifact, tiny_calibrated

CLASSES = ("<img src=x onerror=alert(1)>", "10", "9")
"""Names that a page could take for HTML, and for places in a list."""

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models, one of each kind that the page shows in its own way, and files."""
    folder = tmp_path_factory.mktemp("page")
    named = tiny_artifact("names")
    schema = named.schema.model_copy(update={"classes": CLASSES})
    replace(named, schema=schema).save(folder / "names")
    tiny_artifact(n_channels=3, missing="mask").save(folder / "channels")
    tiny_calibrated("multilabel").save(folder / "labels")
    tiny_artifact("binary").save(folder / "binary")
    header = ",".join(["id", "y", *(f"x_{i}" for i in reversed(range(N_TIMEPOINTS)))])
    rows = [
        f'"a, b",{CLASSES[i % 3]},{",".join(map(str, row[::-1]))}' for i, row in enumerate(ROWS)
    ]
    (folder / "rows.csv").write_text("\r\n".join([header, *rows, ""]))
    return folder


@pytest.fixture(scope="module")
def server(folder):
    models = ("names", "channels", "labels", "binary")
    with served_here({name: folder / name for name in models}) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with started_browser() as browser:
        yield browser


@pytest.fixture
def opened(browser):
    with opening(browser) as open_page:
        yield open_page


@pytest.fixture
def page(opened, server):
    """The page, once it knows its model."""
    page = opened(server)
    expect(page.locator("#name")).to_have_text("names")
    return page


def bars(page):
    """Name, percentage and length of each."""
    shown = page.locator(".class")
    names, shares = (shown.locator(kind).all_text_contents() for kind in (".name", ".share"))
    lengths = shown.locator(".bar i").evaluate_all("bars => bars.map(bar => bar.style.width)")
    return [
        (name, share, round(float(length.rstrip("%")), 1))
        for name, share, length in zip(names, shares, lengths, strict=True)
    ]


def expected_bars(names, probabilities):
    """The bars of a row's probabilities."""
    shares = [float(probability) * 100 for probability in probabilities]
    return [(n, f"{s:.1f} %", round(s, 1)) for n, s in zip(names, shares, strict=True)]


def points(page):
    """How many values of each channel are drawn."""
    lines = page.locator("#chart .series").evaluate_all(
        "all => all.map(one => one.getAttribute('d'))"
    )
    return [len(re.findall("[ML]", line)) for line in lines]


def test_a_dropped_file_is_drawn_and_classified(page, folder):
    text = (folder / "rows.csv").read_text()
    dropped = page.evaluate_handle(
        """text => {
            const dropped = new DataTransfer();
            dropped.items.add(new File([text], "rows.csv"));
            return dropped;
        }""",
        text,
    )
    page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    expect(page.locator("#count")).to_have_text("of 40")
    probabilities = Classifier.load(folder / "names").predict_proba(ROWS)
    for row in (1, 2, 40):
        page.get_by_label("Row", exact=True).fill(str(row))
        page.keyboard.press("Enter")
        label = CLASSES[(row - 1) % 3]
        is_right = label == CLASSES[int(probabilities[row - 1].argmax())]
        mark = "✓ right" if is_right else "✗ wrong"
        expect(page.locator("#truth")).to_have_text(f"{mark}: labelled {label}")
        expect(page.locator("#truth")).to_have_class("right" if is_right else "wrong")
        assert bars(page) == expected_bars(CLASSES, probabilities[row - 1])
        assert points(page) == [N_TIMEPOINTS]
        best = CLASSES[int(probabilities[row - 1].argmax())]
        expect(page.locator("#prediction")).to_contain_text(f"{best}, ")
    right = sum(int(p.argmax()) == i % 3 for i, p in enumerate(probabilities))
    expect(page.locator("#score")).to_have_text(f"{right} of 40 right")
    assert page.locator("img").count() == 1  # the icon, and none of a class's name
    last, drawn = ROWS[-1], page.locator("#chart")
    drawn.focus()
    page.keyboard.press("Home")
    expect(page.locator("#readout")).to_contain_text(f"timepoint 1: {float(f'{last[0]:.3g}'):g}")


def test_a_file_that_is_opened_is_classified(page, folder):
    page.get_by_label("Open a file").set_input_files(folder / "rows.csv")
    expect(page.locator("#count")).to_have_text("of 40")


def test_pasted_rows_are_classified_as_spreadsheets_copy_them(page, folder):
    paste(page, "\n".join(LINES[:2]).replace(",", "\t"))
    expect(page.locator("#count")).to_have_text("of 2")
    probabilities = Classifier.load(folder / "names").predict_proba(ROWS[:2])
    assert bars(page) == expected_bars(CLASSES, probabilities[0])
    expect(page.locator("#status")).to_contain_text("Row 1 of 2: ")


@pytest.mark.parametrize(
    "text",
    [
        LINES[0].replace(",", " "),
        LINES[0].replace(",", "  ") + " \n",
        LINES[0].replace(",", ";"),
        LINES[0].replace(",", ";").replace(".", ","),
        LINES[0].replace(",", "\n"),
        f"[{LINES[0]}]",
        json.dumps([ROWS[0]]),
    ],
)
def test_a_series_may_be_pasted_as_people_have_it(page, folder, text):
    paste(page, text)
    expect(page.locator("#answer")).to_be_visible()
    probabilities = Classifier.load(folder / "names").predict_proba(ROWS[:1])
    assert bars(page) == expected_bars(CLASSES, probabilities[0])
    assert points(page) == [N_TIMEPOINTS]


def test_a_refused_file_leaves_no_former_answer(page, folder):
    page.get_by_label("Open a file").set_input_files(folder / "rows.csv")
    expect(page.locator("#answer")).to_be_visible()
    (folder / "other.csv").write_text("a,b\n1,2\n")
    page.get_by_label("Open a file").set_input_files(folder / "other.csv")
    expect(page.get_by_role("alert")).to_contain_text("found a header of other columns")
    assert page.locator("#answer").is_hidden()


def test_another_model_of_other_series_begins_empty(page):
    paste(page, LINES[0])
    expect(page.locator("#answer")).to_be_visible()
    page.get_by_label("Model", exact=True).select_option("channels")
    expect(page.locator("#name")).to_have_text("channels")
    assert page.get_by_role("alert").is_hidden()
    assert page.get_by_label("Series", exact=True).input_value() == ""


def test_the_docs_list_what_there_is(opened, server):
    page = opened(server)
    page.get_by_role("link", name="API").click()
    expect(page.get_by_role("heading", name="POST /invocations")).to_be_visible()


def test_all_of_it_works_by_keyboard(page):
    """From the first tab stop on; each place that has the focus shows it."""

    def tab_to(name):
        for _ in range(20):
            page.keyboard.press("Tab")
            ring = "getComputedStyle(document.activeElement{}).outlineStyle"
            hidden = page.evaluate("document.activeElement.id === 'file'")
            assert page.evaluate(ring.format(".nextElementSibling" if hidden else "")) != "none"
            if page.evaluate("document.activeElement.id") == name:
                return
        raise AssertionError(f"{name} is no tab stop")

    tab_to("series")
    page.keyboard.type("\n".join(LINES[:3]))
    page.keyboard.press("Control+Enter")
    expect(page.locator("#count")).to_have_text("of 3")
    tab_to("next")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Row 2 of 3: ")
    tab_to("chart")
    page.keyboard.press("End")
    expect(page.locator("#chart")).to_have_attribute(
        "aria-valuetext", re.compile(f"^timepoint {N_TIMEPOINTS}: ")
    )


def explained(server, model, cells):
    """What the endpoint says of why, for one series."""
    body = json.dumps({"instances": [cells]})
    path = f"/endpoints/{model}/invocations?explain=true"
    (explanation,) = json.loads(server.ask(body, "application/json", path)[2])["explanations"]
    return explanation


def colours(page):
    """How each timepoint is coloured: for (True) or against, and how strongly."""
    stops = page.locator("#chart stop").evaluate_all(
        "all => all.map(one => [one.classList.contains('for'), one.getAttribute('stop-opacity')])"
    )
    return [(is_for, float(strength)) for is_for, strength in stops]


def test_what_spoke_for_a_class_is_coloured_along_the_series(page, server):
    explanation = explained(server, "names", ROWS[0])
    paste(page, LINES[0])
    expect(page.locator("#legend")).to_be_visible()
    page.locator(".class input").last.check()
    page.locator(".class input").last.focus()
    for name in CLASSES:
        page.keyboard.press("ArrowDown")  # from the last to the first
        expect(page.locator("#explained")).to_have_text(name)
        terms = np.array(explanation["timepoints"][name])
        strengths = (np.abs(terms) / np.abs(terms).max()) ** 0.7
        assert [is_for for is_for, _ in colours(page)] == (terms >= 0).tolist()
        assert np.allclose([strength for _, strength in colours(page)], strengths, atol=1e-6)
        parts = [terms.sum(), explanation["lstm"][name], explanation["bias"][name]]
        told = page.locator("#terms").text_content().replace("\u2212", "-")
        numbers = [float(number) for number in re.findall(r"[+-]\d+\.\d+", told)]
        assert np.allclose(numbers, [explanation["logits"][name], *parts], atol=0.006)


def test_what_speaks_for_yes_speaks_against_no(page, server):
    page.get_by_label("Model", exact=True).select_option("binary")
    expect(page.locator("#name")).to_have_text("binary")
    (terms,) = explained(server, "binary", ROWS[0])["timepoints"].values()
    paste(page, LINES[0])
    expect(page.locator("#legend")).to_be_visible()
    for place, side in ((0, [term <= 0 for term in terms]), (1, [term >= 0 for term in terms])):
        page.locator(".class input").nth(place).check()
        expect(page.locator("#explained")).to_have_text(f"y = {place}")
        assert [is_for for is_for, _ in colours(page)] == side


def test_an_example_is_what_the_model_reads(page):
    page.get_by_role("button", name="Example").click()
    expect(page.locator("#count")).to_have_text("of 3")
    page.get_by_label("Model", exact=True).select_option("channels")
    expect(page.locator("#name")).to_have_text("channels")
    page.get_by_role("button", name="Example").click()
    expect(page.locator("#chart .channel")).to_have_text(["x1", "x2", "x3"])
    assert points(page) == [4, 4, 4]


@pytest.mark.parametrize("body", ["", "1,2,3", f"{LINES[0]}\n{LINES[1][:-1]}oops"])
def test_a_refusal_is_shown_as_the_endpoint_says_it(page, server, body):
    page.get_by_label("Series", exact=True).fill(body)
    page.get_by_role("button", name="Classify").click()
    _, _, refusal = server.ask(body)
    expect(page.get_by_role("alert")).to_have_text(json.loads(refusal)["message"])
    assert page.locator("#answer").is_hidden()
    page.get_by_label("Series", exact=True).fill(LINES[0])
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#answer")).to_be_visible()
    assert page.get_by_role("alert").is_hidden()


def test_each_channel_is_drawn_with_its_gaps(page, folder):
    page.get_by_label("Model", exact=True).select_option("channels")
    expect(page.locator("#name")).to_have_text("channels")
    cells = LINES[0].split(",")
    cells[1] = cells[7] = ""
    paste(page, ",".join(cells))
    expect(page.locator("#answer")).to_be_visible()
    assert points(page) == [3, 3, 4]
    values = np.array([[float(cell or "nan") for cell in cells]], np.float32)
    probabilities = Classifier.load(folder / "channels").predict_proba(values)
    assert bars(page) == expected_bars(["y_a", "y_b", "y_c"], probabilities[0])


def test_labels_are_decided_each_for_itself(page, folder):
    page.get_by_label("Model", exact=True).select_option("labels")
    expect(page.locator("#name")).to_have_text("labels")
    paste(page, LINES[0])
    classifier = Classifier.load(folder / "labels")
    probabilities = classifier.predict_proba(ROWS[:1])
    decided = classifier.predict_labels(probabilities)[0]
    expect(page.locator(".class")).to_have_count(3)
    assert bars(page) == expected_bars(["y_1", "y_2", "y_3"], probabilities[0])
    chosen = page.locator(".decided .name").all_text_contents()
    assert chosen == [f"y_{i + 1}" for i in np.flatnonzero(decided)]
    marks = page.locator(".bar b").evaluate_all("marks => marks.map(mark => mark.style.left)")
    assert marks == ["25%", "56.25%", "50%"]


def test_yes_and_no_have_a_bar_each(page, folder):
    page.get_by_label("Model", exact=True).select_option("binary")
    expect(page.locator("#name")).to_have_text("binary")
    paste(page, LINES[0])
    ((yes,),) = Classifier.load(folder / "binary").predict_proba(ROWS[:1])
    expect(page.locator(".class")).to_have_count(2)
    assert bars(page) == expected_bars(["y = 0", "y = 1"], [1 - float(yes), yes])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen_in_light_and_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 400, "height": 800})
    paste(page, "\n".join(LINES[:3]))
    expect(page.locator("#answer")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    found = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", found)[:3])) / 3
    assert lightness > 200 if scheme == "light" else lightness < 50
