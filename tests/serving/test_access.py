"""Which host names and origins are accepted; test_endpoint.py and test_page.py test the token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmfcn.errors import ResourceError
from serve_app.access import Gate, public_host_names, refuse_invalid_origins

APP = "https://app.example.com"
PATHS = ("/ping", "/model", "/", "/docs", "/nothing", "/invocations")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8000", "localhost:9", "LOCALHOST", "localhost.", "[::1]:8000", "[::1]",
     "10.0.3.7", "169.254.1.1:80", "[fe80::1]:80"],
)  # fmt: skip
def test_ip_addresses_and_localhost_are_accepted(served, host):
    client = served()
    for path in PATHS:
        assert client.get(path, headers={"Host": host}).status_code not in (400, 421)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
     "0x7f.1", "notlocalhost", "", "127.0.0.1:8000:1", "a@127.0.0.1", "127.0.0.1/a", "[::1",
     "2130706433", "*"],
)  # fmt: skip
def test_other_host_names_are_refused(served, host):
    client = served(access={"allow_hosts": ["api.example.com"]})
    for path in PATHS:
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert answer.json()["message"].startswith(f"found Host {host!r}, which ")
    assert set(client.metrics.refusals) == {("default", 421)}


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        (["api.example.com"], "api.example.com:8000", 200),
        (["API.example.com"], "api.EXAMPLE.com", 200),
        (["*.example.com"], "a.b.example.com", 200),
        (["*.example.com"], "example.com", 421),
        (["*.example.com"], "evilexample.com", 421),
        (["*"], "whatever", 200),
    ],
)
def test_host_names_can_be_allowed(served, allowed, host, status):
    client = served(access={"allow_hosts": allowed})
    assert client.get("/ping", headers={"Host": host}).status_code == status


@given(st.text(max_size=30))
def test_any_host_header_gets_an_answer(host):
    gate = Gate(None, [], [], lambda _: None)
    scope = {"http_version": "1.1", "headers": [(b"host", host.encode("utf-8"))]}
    refusal = gate._refusal(scope)
    assert refusal is None or refusal.status in (400, 421)


def test_exactly_one_host_header_is_required():
    gate = Gate(None, [], [], lambda _: None)
    for version, hosts, status in (
        ("1.1", 0, 400),
        ("1.0", 0, None),
        ("1.1", 1, None),
        ("1.1", 2, 400),
    ):
        headers = [(b"host", b"127.0.0.1")] * hosts
        refusal = gate._refusal({"http_version": version, "headers": headers})
        assert (refusal and refusal.status) == status


def test_other_expect_headers_are_refused(served, values):
    client = served()
    for expect, status in (("100-continue", 200), ("nonsense", 417)):
        answer = client.post("/invocations", json={"instances": values}, headers={"Expect": expect})
        assert answer.status_code == status


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "x"])
def test_pages_of_other_origins_are_refused(served, values, origin):
    client = served(access={"allow_origins": [APP]})
    answer = client.post("/invocations", json={"instances": values}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert answer.json()["message"].startswith(f"found Origin {origin!r}, which ")
    assert "access-control-allow-origin" not in answer.headers
    assert client.metrics.answers == []


def test_every_origin_header_is_checked():
    gate = Gate(None, [], [APP], lambda _: None)

    def status(*headers, version="1.1"):
        refusal = gate._refusal({"http_version": version, "headers": list(headers)})
        return refusal and refusal.status

    host, own = (b"host", b"127.0.0.1"), (b"origin", b"http://127.0.0.1")
    evil = (b"origin", b"https://evil.example")
    assert status(host, own) is None
    assert status(host, own, evil) == status(host, evil, own) == 403
    for origin in (b"null", b"x", b"", b"http://"):
        assert status((b"origin", origin), host) == 403
    assert status((b"origin", b"null"), version="1.0") == 403
    assert status((b"origin", b"ftp://127.0.0.1"), host) == 403


def test_allowed_origins_ignore_case(served):
    client = served(access={"allow_origins": ["https://App.Example.com"]})
    answer = client.get("/ping", headers={"Origin": APP})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == APP


def test_pages_of_the_endpoint_are_accepted(served, values):
    client = served()
    headers = {"Origin": "http://127.0.0.1:8000"}
    answer = client.post("/invocations", json={"instances": values}, headers=headers)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_allowed_origins_get_a_preflight_answer(served, values):
    client = served(token="s3cret", access={"allow_origins": [APP]})
    preflight_headers = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    preflight = client.options("/invocations", headers=preflight_headers)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == APP
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert {"authorization", "content-type"} <= {
        name.strip().lower()
        for name in preflight.headers["access-control-allow-headers"].split(",")
    }
    token = {"Authorization": "Bearer s3cret", "Origin": APP}
    for headers, status in ((token, 200), ({"Origin": APP}, 401)):
        answer = client.post("/invocations", json={"instances": values}, headers=headers)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["vary"] == "Origin"


def test_no_preflight_without_allowed_origins(served):
    preflight_headers = {"Origin": "http://127.0.0.1:8000", "Access-Control-Request-Method": "POST"}
    assert served().options("/invocations", headers=preflight_headers).status_code == 405


@pytest.mark.parametrize("token", ["", "s3cret"])
def test_every_answer_has_security_headers(served, token):
    client = served(token=token)
    for path in PATHS:
        headers = client.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_public_host_names():
    assert public_host_names("127.0.0.1") == public_host_names("::1") == []
    assert public_host_names("Model.example.com") == ["model.example.com"]
    assert public_host_names("0.0.0.0")
    assert all(public_host_names("::"))


def test_invalid_origins_are_refused():
    refuse_invalid_origins([APP, "http://localhost:3000"])
    for origin in ("app.example.com", "https://app.example.com/", "*", "null", "https://*.a.b"):
        with pytest.raises(ResourceError, match="is not an origin"):
            refuse_invalid_origins([origin])
