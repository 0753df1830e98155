"""The scanner of the canary tests finds what it is for: a test that cannot fail shows nothing."""

import base64
import hashlib
import json
from urllib.parse import quote

import pytest

from tests.privacy import scanner
from tests.privacy.scanner import Scanner

MARKER = "Ann+zq81@Canary.example"


@pytest.mark.parametrize(
    "written",
    [
        MARKER.encode(),
        MARKER.lower().encode(),
        quote(MARKER, safe="").encode(),
        json.dumps({"mail": MARKER}).encode(),
        MARKER.encode().hex().encode(),
        MARKER.encode("utf-16-le"),
        hashlib.sha256(MARKER.encode()).digest(),
        *(base64.b64encode(b"xyz"[:pad] + MARKER.encode() + b"tail") for pad in range(3)),
    ],
)
def test_a_marker_is_found_in_whatever_form_it_was_written(tmp_path, written):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(b"\x00\xff before " + written + b" after")
    assert {hit.marker for hit in Scanner([MARKER]).in_tree(tmp_path)} == {MARKER}


def test_a_marker_across_two_chunks_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(scanner, "CHUNK_BYTES", 32)
    for shift in range(40):
        (tmp_path / "file").write_bytes(b"." * shift + MARKER.encode() + b"." * 50)
        assert Scanner([MARKER]).in_tree(tmp_path), shift


def test_a_marker_in_the_name_of_a_file_is_found(tmp_path):
    (tmp_path / MARKER).mkdir()
    assert Scanner([MARKER]).in_tree(tmp_path)


def test_what_is_not_there_is_not_found(tmp_path):
    (tmp_path / "file").write_bytes(b"somebody+else@canary.example" * 1_000)
    assert not Scanner([MARKER]).in_tree(tmp_path)
