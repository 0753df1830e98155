"""The demo is a promise: it runs through, and its own checks of the numbers hold."""

import os
import subprocess
import sys

import pytest
from source_tree import ROOT


@pytest.mark.slow
def test_the_demo_plays_and_every_number_is_what_the_story_makes_it(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "demo" / "shop_week.py"),
            "--directory",
            str(tmp_path / "demo"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-3_000:]
    assert "Every number is what the story makes it." in done.stdout
    for question in range(1, 6):
        assert f"{question}. " in done.stdout


def test_the_story_has_everything_that_it_promises():
    sys.path.insert(0, str(ROOT))
    from demo.story import expected, week

    calls = week()
    books = expected(calls)
    assert books.accepted + books.duplicate + books.rejected == len(calls)
    assert books.duplicate == 3
    assert books.rejected == 1
    assert len({call.message_id for call in calls if not call.again}) == len(calls) - 3
    assert 0 < books.delivered["marketing"] < books.delivered["analytics"] < books.accepted
