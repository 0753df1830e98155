"""Code in the documents works. A block is marked by a comment on the line before its fence.

`<!-- run -->` runs Python, `<!-- config -->` loads TOML as a whole cdp.toml.
"""

import re

import pytest
from source_tree import ROOT, shown, text

from cdp.config import load

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"<!-- (?P<mark>run|config) -->\n+```\w+\n(?P<code>.*?)```", re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


def blocks(mark):
    return [
        pytest.param(match["code"], id=f"{shown(path)}-{number}")
        for path in DOCUMENTS
        for number, match in enumerate(BLOCK.finditer(text(path)))
        if match["mark"] == mark
    ]


@pytest.mark.parametrize("code", blocks("run"))
def test_a_marked_python_block_runs(code):
    exec(compile(code, "document", "exec"), {"__name__": "document"})


@pytest.mark.parametrize("code", blocks("config"))
def test_a_marked_configuration_is_accepted(code, tmp_path):
    for secret in re.findall(r'"file:([^"]+)"', code):
        path = tmp_path / secret
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s" * 64)
        path.chmod(0o600)
    file = tmp_path / "cdp.toml"
    file.write_text(code)
    assert load(file, lambda name: "s" * 64).path == file


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_links_between_documents_lead_somewhere(path):
    dead = [link for link in LINK.findall(text(path)) if not (path.parent / link).exists()]
    assert dead == []
