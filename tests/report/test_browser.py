"""The report in Chromium, as its readers have it: on a screen, on a phone, on paper."""

import shutil

import pytest

from lstmfcn.report.build import write_report
from tests.helpers.small_reports import ODD_NAMES, report_case

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

TOO_WIDE = """() => [...document.querySelectorAll("body *")]
  .filter(each => !each.closest(".scroll") || each.classList.contains("scroll"))
  .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(each => each.outerHTML.slice(0, 100))"""
UNSEEN = "() => [...document.images].filter(each => !each.naturalWidth).map(each => each.alt)"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(
    scope="module",
    params=[
        ("names", {"classes": [*ODD_NAMES, *(f"class {k}" for k in range(32))], "n_rows": 150}),
        ("multilabel", {"n_channels": 3, "missing": "mask"}),
    ],
    ids=["37 classes", "several labels and channels"],
)
def page_file(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    kind, arguments = request.param
    return write_report(*report_case(folder, kind, **arguments), str(folder / "out"))


@pytest.mark.parametrize("width", [1280, 400])
def test_it_loads_nothing_complains_of_nothing_and_fits(browser, page_file, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri(), wait_until="networkidle")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert page.evaluate(UNSEEN) == []
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_it_prints(browser, page_file):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 1000})  # A4 less its margins, at 96 dpi
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    page.close()
