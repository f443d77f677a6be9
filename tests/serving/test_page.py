"""The files of the page: their headers, and that no other file is sent."""

import re
from pathlib import Path

import pytest

import serve_app

FOLDER = Path(serve_app.__file__).parent / "page"
NAMES = {"index.html": "/", "docs.html": "/docs"}
PATHS = {NAMES.get(file.name, f"/page/{file.name}"): file for file in sorted(FOLDER.iterdir())}
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@pytest.fixture
def client(served):
    """A client of an endpoint with a token, which sends it as a browser sends a typed password."""
    client = served(token="s3cret")
    client.auth = ("anybody", "s3cret")
    return client


@pytest.mark.parametrize("path", PATHS)
def test_each_file_is_sent_whole(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.content == PATHS[path].read_bytes()
    assert answer.headers["content-type"].partition(";")[0] == TYPES[PATHS[path].suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.metrics.refusals == []


@pytest.mark.parametrize("path", PATHS)
def test_the_policy_allows_this_origin_only(client, path):
    policy = client.get(path).headers["content-security-policy"]
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["form-action"] == "'none'"
    assert {rules[kind] for kind in ("script-src", "style-src", "connect-src", "img-src")} == {
        "'self'"
    }
    addresses = re.findall(r"https?://[^\s\"']*", PATHS[path].read_text())
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}  # a name, not a place


def test_browsers_keep_files_and_revalidate_them(client):
    first = client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert client.get("/", headers={"If-None-Match": '"other"'}).content == first.content


def test_head_has_the_headers_of_get(client):
    answer, whole = client.head("/"), client.get("/")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers == whole.headers


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page/",
        "/page/index.html",
        "/page/../web.py",
        "/page/%2e%2e/web.py",
        "/page/..%2fweb.py",
        "/page//etc/passwd",
        "/index.html",
    ],
)
def test_no_other_file_is_sent(client, path):
    assert client.get(path).status_code == 404


def test_the_page_accepts_get_only(client):
    assert client.post("/", content="1,2").status_code == 405


def test_the_page_names_existing_files(client):
    texts = [client.get(path).text for path in PATHS]
    named = {
        f"/{name}" for text in texts for name in re.findall(r'(?:href|src)="(page/.*?)"', text)
    }
    named |= {f"/page/{name}" for text in texts for name in re.findall(r' from "\./(.*?)"', text)}
    assert named == set(PATHS) - {"/", "/docs"}


@pytest.mark.parametrize("path", [*PATHS, "/openapi.json", "/model", "/nothing", "/page/nothing"])
def test_nothing_is_sent_without_the_token(client, path):
    client.auth = None
    for headers in ({}, {"Authorization": "Basic s3cret"}, {"Authorization": "Basic YTpi"}):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 401
        challenges = answer.headers.get_list("www-authenticate")  # apart, else Chromium asks nobody
        assert challenges == ['Basic realm="lstmfcn", charset="UTF-8"', "Bearer"]
        assert answer.headers["content-security-policy"].endswith("frame-ancestors 'none'")
