"""Which file a target means, and ranges (RFC 9110 §14)."""
import os

import pytest

from iip.apps.files import locate, parse_range, respond


@pytest.fixture
def root(tmp_path):
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "a.txt").write_bytes(b"0123456789")
    (site / "sub" / "index.html").write_bytes(b"<p>index</p>")
    (site / "with space & <tag>.bin").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    (site / "way-out").symlink_to(tmp_path / "secret")
    (site / "inside").symlink_to(site / "a.txt")
    (tmp_path / "site-neighbour").mkdir()
    (tmp_path / "site-neighbour" / "x").write_bytes(b"secret")
    return str(site)


def closed(body):
    if body.file is not None:
        os.close(body.file)
    return body


@pytest.mark.parametrize("target", ["/../secret", "/%2e%2e/secret", "/sub/../../secret", "/..%2fsecret", "/..",
                                    "/../site-neighbour/x", "/a.txt%00.html", "a.txt", "http://elsewhere/a.txt", ""])
def test_nothing_outside_the_root(root, target):
    assert locate(root, target) is None
    assert respond(root, target, {}).status == 404


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_a_link_out_of_the_root_is_not_followed(root, tmp_path):
    os.symlink(tmp_path / "site-neighbour", os.path.join(root, "sub", "neighbour"))
    files = len(os.listdir("/proc/self/fd"))
    for target in ("/way-out", "/sub/neighbour", "/sub/neighbour/", "/sub/neighbour/x"):
        assert respond(root, target, {}).status == 404
    assert len(os.listdir("/proc/self/fd")) == files


@pytest.mark.parametrize("target", ["/a.txt", "/./a.txt", "/sub/../a.txt", "/%61.txt", "/a.txt?query", "//a.txt",
                                    "/inside"])
def test_the_file(root, target):
    body = closed(respond(root, target, {}))
    assert (body.status, body.start, body.length) == (200, 0, 10)
    assert dict(body.headers)["Content-Type"] == "text/plain"


def test_directories(root):
    moved = respond(root, "/sub", {})
    assert moved.status == 301 and dict(moved.headers)["Location"] == "/sub/"
    assert closed(respond(root, "/sub/", {})).length == len(b"<p>index</p>")
    assert dict(respond(root, "//sub", {}).headers)["Location"] == "/sub/"
    page = respond(root, "/", {}).data.decode()
    assert 'href="./with%20space%20%26%20%3Ctag%3E.bin">with space &amp; &lt;tag&gt;.bin' in page
    assert respond(root, "/", {}, listing=False).status == 403
    assert respond(root, "/nothing", {}).status == 404


@pytest.mark.parametrize("value, expected", [
    ("bytes=0-0", (0, 0)), ("bytes=2-5", (2, 5)), ("bytes=5-", (5, 9)), ("bytes=-3", (7, 9)), ("bytes=-100", (0, 9)),
    ("bytes=0-100", (0, 9)), ("BYTES = 1 - 2 ", (1, 2)),
    ("bytes=10-", "unsatisfiable"), ("bytes=99-100", "unsatisfiable"), ("bytes=-0", "unsatisfiable"),
    ("bytes=5-2", None), ("bytes=-", None), ("bytes=0-1,3-4", None), ("lines=0-1", None), ("bytes=a-b", None),
    ("", None),
    ("bytes=0x1-2", None), ("bytes=99999999999999999999-", None),
])
def test_ranges(value, expected):
    assert parse_range(value, 10) == expected


def test_a_range_of_nothing():
    assert parse_range("bytes=0-", 0) == "unsatisfiable"


def test_range_responses(root):
    body = closed(respond(root, "/a.txt", {b"range": b"bytes=2-5"}))
    assert (body.status, body.start, body.length) == (206, 2, 4)
    assert dict(body.headers)["Content-Range"] == "bytes 2-5/10"
    body = respond(root, "/a.txt", {b"range": b"bytes=10-"})
    assert body.status == 416 and dict(body.headers)["Content-Range"] == "bytes */10"


def test_if_range(root):
    modified = dict(closed(respond(root, "/a.txt", {})).headers)["Last-Modified"].encode()
    same = {b"range": b"bytes=2-5", b"if-range": modified}
    other = {b"range": b"bytes=2-5", b"if-range": b"Thu, 01 Jan 1970 00:00:00 GMT"}
    assert closed(respond(root, "/a.txt", same)).status == 206
    assert closed(respond(root, "/a.txt", other)).status == 200
