"""Identifiers are found in files in whatever form they got there, and only counted."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest

from cdp.consent.byte_scan import READ_BYTES, scan

MAIL = "Ada+Test@example.com"
FORMS = {
    "plain": MAIL.encode(),
    "lower": MAIL.lower().encode(),
    "url": quote(MAIL, safe="").encode(),
    "hex": MAIL.encode().hex().encode(),
    "utf16": MAIL.encode("utf-16-le"),
    "base64": b64encode(MAIL.encode()),
    "base64 in a text": b64encode(b"x" + MAIL.encode() + b"and more"),
    "base64 further in it": b64encode(b"xy" + MAIL.encode() + b"an"),
    "url-safe": urlsafe_b64encode(b"to:" + MAIL.encode() + b"\xff\xfe"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found(tmp_path, form):
    (tmp_path / "file").write_bytes(b"\0" * 100 + FORMS[form] + b"\0" * 100)
    assert scan(tmp_path, [MAIL, "somebody@example.org"]).hits == {"file": 1}


def test_json_escapes_are_found(tmp_path):
    (tmp_path / "file").write_text(json.dumps({"name": 'Ünä "Ada" Löw'}))
    assert scan(tmp_path, ['Ünä "Ada" Löw']).hits == {"file": 1}


@pytest.mark.parametrize("before", range(1, len(MAIL) + 2))
def test_what_lies_over_the_border_of_two_reads_counts_once(tmp_path, before):
    (tmp_path / "file").write_bytes(b"." * (READ_BYTES - before) + MAIL.encode() + b"." * 50)
    assert scan(tmp_path, [MAIL]).hits == {"file": 1}


def test_what_is_found_twice_counts_twice_and_others_not(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(MAIL.encode() * 2)
    (tmp_path / "other").write_bytes(b"bob@example.com")
    found = scan(tmp_path, [MAIL])
    assert (found.files, found.hits) == (2, {"sub/file": 2})


def test_what_is_too_short_to_mean_anything_is_said_to_be_skipped(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    found = scan(tmp_path, ["12345", MAIL])
    assert (found.needles, found.skipped, found.hits) == (1, 1, {})
