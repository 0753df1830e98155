"""A policy text is what it was when people agreed to it."""

from __future__ import annotations

from hashlib import sha256

import pytest

from cdp.config_consent import Policy
from cdp.consent.texts import PolicyTexts
from cdp.errors import ConfigError
from cdp.storage.memory import MemoryStore


@pytest.fixture
def store():
    return MemoryStore()


def policies(tmp_path, text="we sell nothing", *, version="1", language="en"):
    file = tmp_path / f"{version}.{language}.txt"
    file.write_text(text)
    return {"shop": Policy(version=version, text=file, language=language)}


def test_a_text_is_registered_once_and_found_by_its_label(store, tmp_path):
    PolicyTexts(store, policies(tmp_path), now_us=1)
    rows = list(store.items("meta"))
    texts = PolicyTexts(store, policies(tmp_path), now_us=2)
    assert list(store.items("meta")) == rows
    (text,) = texts.labelled("shop@1")
    assert (text.text, text.sha256) == ("we sell nothing", sha256(b"we sell nothing").hexdigest())
    assert texts.version_of("shop") == "1"
    assert texts.version_of("other") is None


def test_a_text_that_changed_under_its_version_is_refused_with_what_to_do(store, tmp_path):
    PolicyTexts(store, policies(tmp_path), now_us=1)
    with pytest.raises(ConfigError, match=r"the text has changed .* give it a new version"):
        PolicyTexts(store, policies(tmp_path, "we sell everything"), now_us=2)
    assert len(list(store.items("meta"))) == 1


def test_texts_that_no_longer_hold_stay_and_each_language_is_its_own(store, tmp_path):
    PolicyTexts(store, policies(tmp_path), now_us=1)
    PolicyTexts(store, policies(tmp_path, "wir verkaufen nichts", language="de"), now_us=2)
    texts = PolicyTexts(store, policies(tmp_path, "we sell ads", version="2"), now_us=3)
    assert {text.language for text in texts.labelled("shop@1")} == {"en", "de"}
    assert sorted(text.label for text in texts) == ["shop@1", "shop@1", "shop@2"]
    assert texts.version_of("shop") == "2"


def test_a_text_that_cannot_be_read_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match=r"consent\.policies\.shop\.text: .* cannot be read"):
        PolicyTexts(store, {"shop": Policy(version="1", text=tmp_path / "none")}, now_us=1)
