"""`cdp backup` beside a daemon that goes on, and a start from the copy."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.crash.daemon import ENVIRON, ROOT, WRITE_KEY, Daemon, Settings

if TYPE_CHECKING:
    from pathlib import Path


def track(daemon: Daemon, message_id: str) -> None:
    authorization = "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
    body = {"event": "Bought", "userId": "ann", "messageId": message_id}
    request = urllib.request.Request(
        f"{daemon.url}/v1/track",
        data=json.dumps(body).encode(),
        headers={"Authorization": authorization, "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


def backup(daemon: Daemon, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cdp", "--config", str(daemon.config), "backup", str(directory)],
        cwd=ROOT,
        env={**os.environ, **ENVIRON},
        capture_output=True,
        check=False,
        text=True,
    )


def bought(daemon: Daemon) -> int:
    profile = daemon.ask("/v1/privacy/why?identifier=user_id:ann")
    return int(profile.get("events", 0))


@pytest.mark.slow
def test_a_copy_that_a_running_daemon_makes_is_whole_and_holds_no_keys(tmp_path):
    copy = tmp_path / "copy"
    with Daemon(tmp_path / "daemon", Settings()) as daemon:
        daemon.start()
        track(daemon, "m1")
        daemon.wait_until(lambda: bought(daemon) == 1, "to know the event", 30)
        made = backup(daemon, copy)
        assert made.returncode == 0, made.stderr
        assert not (copy / "keys").exists()
        track(daemon, "m2")  # it goes on
        daemon.wait_until(lambda: bought(daemon) == 2, "to go on", 30)
        again = backup(daemon, copy)
        assert again.returncode != 0
        assert "exists already" in again.stderr
        daemon.stop()
        shutil.copytree(daemon.data_dir / "keys", copy / "keys")
        shutil.rmtree(daemon.data_dir)
        copy.rename(daemon.data_dir)
        daemon.start()
        daemon.wait_until(lambda: bought(daemon) == 1, "to know what the copy knows", 30)
