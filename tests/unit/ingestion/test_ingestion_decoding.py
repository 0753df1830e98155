"""Bounded inflation, and the repair of almost-JSON."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdp.ingestion.decoding import (
    GZIP_MEMBERS_MAX,
    JSON_ERRORS,
    TOO_DEEP,
    count_keys,
    cut_deep,
    decode_json,
    decompress,
    exceeds_depth,
    repair,
)
from cdp.ingestion.refusal import Refusal

BODY = b'{"batch":[]}'
LIMIT = 1_000


def refused(body: bytes, encoding: bytes = b"gzip", limit: int = LIMIT) -> str:
    with pytest.raises(Refusal) as caught:
        decompress(body, encoding, limit)
    assert caught.value.status == 400
    return caught.value.code


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"x-gzip", b"", b"identity"])
def test_what_starts_as_gzip_is_inflated_whatever_the_header_says(encoding: bytes) -> None:
    assert decompress(gzip.compress(BODY), encoding, LIMIT) == BODY


def test_a_plain_body_under_a_gzip_header_is_taken_as_it_is() -> None:
    assert decompress(BODY, b"gzip", LIMIT) == BODY
    assert decompress(BODY, b"deflate", LIMIT) == BODY


def test_deflate_is_read_with_and_without_its_wrapper() -> None:
    assert decompress(zlib.compress(BODY), b"deflate", LIMIT) == BODY
    bare = zlib.compressobj(wbits=-15)
    assert decompress(bare.compress(BODY) + bare.flush(), b"deflate", LIMIT) == BODY


def test_members_are_joined_and_garbage_after_them_is_dropped() -> None:
    two = gzip.compress(BODY[:4]) + gzip.compress(BODY[4:])
    assert decompress(two, b"gzip", LIMIT) == BODY
    assert decompress(two + b"garbage", b"gzip", LIMIT) == BODY


@pytest.mark.parametrize("cut", [3, 12, 20, -9, -1])
def test_a_truncated_gzip_is_refused(cut: int) -> None:
    assert refused(gzip.compress(BODY)[:cut]) == "invalid_json"


def test_a_damaged_gzip_is_refused() -> None:
    body = bytearray(gzip.compress(BODY))
    body[-6] ^= 1
    assert refused(bytes(body)) == "invalid_json"


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"gzip, gzip", b"\xff"])
def test_other_encodings_are_refused_by_name(encoding: bytes) -> None:
    assert refused(BODY, encoding) == "unsupported_encoding"


def test_the_limit_is_on_decoded_bytes_and_exact() -> None:
    assert len(decompress(gzip.compress(b"a" * LIMIT), b"gzip", LIMIT)) == LIMIT
    assert refused(gzip.compress(b"a" * (LIMIT + 1))) == "payload_too_large"
    assert refused(zlib.compress(b"a" * (LIMIT + 1)), b"deflate") == "payload_too_large"
    assert refused(b"{" * (LIMIT + 1)) == "payload_too_large"


def test_the_limit_is_on_all_members_together() -> None:
    half = gzip.compress(b"a" * (LIMIT // 2))
    assert len(decompress(half * 2, b"gzip", LIMIT)) == LIMIT
    assert refused(half * 3) == "payload_too_large"


def test_members_are_counted() -> None:
    empty = gzip.compress(b"")
    full = gzip.compress(BODY)
    assert decompress(empty * (GZIP_MEMBERS_MAX - 1) + full, b"gzip", LIMIT) == BODY
    assert refused(empty * GZIP_MEMBERS_MAX + full) == "invalid_json"


def test_a_byte_order_mark_is_dropped() -> None:
    assert decompress(b"\xef\xbb\xbf" + BODY, b"", LIMIT) == BODY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"a":NaN,"b":[Infinity,-Infinity]}', {"a": None, "b": [None, None]}),
        (b'{"a":"NaN Infinity 1e999"}', {"a": "NaN Infinity 1e999"}),
        (rb'{"a\u0000b":"c\u0000d"}', {"ab": "cd"}),
        (b'{"a":"b\x00c"}', {"a": "bc"}),
        (rb'{"a":"\\u0000"}', {"a": "\\u0000"}),
        (rb'{"a":"\ud800"}', {"a": "\ufffd"}),
        (rb'{"a":"x\udc00\ud800y"}', {"a": "x\ufffd\ufffdy"}),
        (rb'{"a":"\ud83d\ude00"}', {"a": "\U0001f600"}),
        (rb'{"a":"\\ud800"}', {"a": "\\ud800"}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'{"a":"x\ny"}', {"a": "x\ny"}),
        (b'{"a":9223372036854775809}', {"a": 9223372036854775809}),
        (b'{"a":18446744073709551616}', {"a": "18446744073709551616"}),
        (b'{"a":-9223372036854775809}', {"a": "-9223372036854775809"}),
        (b'{"a":9007199254740993}', {"a": 9007199254740993}),
        (b'{"a":' + b"7" * 5000 + b"}", {"a": "7" * 5000}),
        (b'{"a":1e308,"b":5e-324,"c":1e400,"d":-1E+999}', {"a": 1e308, "b": 5e-324}),
        (b'{"a":0.12345678901234567890}', {"a": 0.12345678901234567890}),
    ],
)
def test_almost_json_becomes_json(text: bytes, expected: dict[str, object]) -> None:
    decoded = decode_json(repair(text))
    assert {
        key: value for key, value in decoded.items() if value is not None or key in expected
    } == (expected)


@pytest.mark.parametrize("text", [b"{", b"[1,]", b'{"a":01}', b"{'a':1}", b'{"a":+1}', b'"\\x"'])
def test_what_is_not_json_stays_wrong(text: bytes) -> None:
    with pytest.raises(JSON_ERRORS):
        decode_json(repair(text))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def without_nul(value: object) -> object:
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    if isinstance(value, dict):
        return {without_nul(key): without_nul(item) for key, item in value.items()}
    return value


@settings(max_examples=150, deadline=None)
@given(JSON, st.booleans())
def test_repair_changes_nothing_in_clean_json_but_nul(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert decode_json(repair(text)) == without_nul(decode_json(text))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_repair_never_fails(body: bytes) -> None:
    once = repair(body)
    assert repair(once) == once


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"gzip", b"deflate"]), st.booleans())
def test_inflating_anything_gives_bytes_or_a_refusal(
    body: bytes, encoding: bytes, magic: bool
) -> None:
    with suppress(Refusal):
        assert len(decompress(b"\x1f\x8b" * magic + body, encoding, LIMIT)) <= LIMIT


def test_depth_and_keys_are_counted_exactly() -> None:
    assert not exceeds_depth({"a": [1]}, 2)
    assert exceeds_depth({"a": [{}]}, 2)
    assert count_keys({"a": [{"b": 1, "c": {"d": 2}}]}) == 4


def test_what_is_too_deep_is_cut_out_and_the_rest_stays() -> None:
    body = b'[[1],[[2]],["[[["],3]'
    assert decode_json(cut_deep(body, 2)) == [[1], [TOO_DEEP], ["[[["], 3]


def test_a_bottomless_text_that_never_ends_is_refused() -> None:
    with pytest.raises(Refusal):
        cut_deep(b"[" * 100_000, 200)


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 500000,
        b'"\\' * 400000,
        b"-" * 10**6,
        b"1" * 10**6,
        b"1.e+" * 250000,
        b"[" * 500000 + b'"' + b'\\"' * 250000,
        b'{"a":' * 200000,
    ],
    ids=range(7),
)
def test_hostile_text_costs_time_in_proportion_to_its_length(body: bytes) -> None:
    started = time.process_time()
    repair(body)
    with suppress(Refusal):
        cut_deep(body, 200)
    assert time.process_time() - started < 3.0  # anything quadratic would take hours
