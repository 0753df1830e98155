"""The daemon and its destination as SDK tests see them, and the means to play stories."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.crash.daemon import WRITE_KEY, Daemon

if TYPE_CHECKING:
    from tests.crash.receiver import Receiver

HERE = Path(__file__).parent
NODE_SDK = HERE / "node" / "node_modules" / "@segment" / "analytics-node"
SDKS = ("segment-python", "rudder-python", "segment-node")
_DRAIN_TIMEOUT_S = 30.0
_DRIVER_TIMEOUT_S = 120.0


@dataclass
class World:
    """The daemon, its destination, and the means to play stories through an SDK."""

    daemon: Daemon
    receiver: Receiver

    def play(
        self,
        sdk: str,
        story: str,
        tag: str,
        *,
        host: str | None = None,
        gzip: bool | None = None,
        write_key: str = WRITE_KEY,
        **options: Any,
    ) -> dict[str, Any]:
        """Runs a story to its end; how many calls were made, and the SDK's errors."""
        order = {
            "host": host or self.daemon.url,
            "write_key": write_key,
            "tag": tag,
            "story": story,
            "options": options,
        }
        if sdk != "segment-node":
            order |= {"sdk": sdk.partition("-")[0], "gzip": sdk == "rudder-python"}
            order |= {} if gzip is None else {"gzip": gzip}
        done = subprocess.run(
            _command(sdk),
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=_DRIVER_TIMEOUT_S,
            check=True,
        )
        played: dict[str, Any] = json.loads(done.stdout)
        return played

    def drain(self) -> None:
        """Waits until everything that was taken is resolved and delivered."""
        self.daemon.wait_until(self._is_drained, "to drain", _DRAIN_TIMEOUT_S)

    def counts(self) -> dict[str, int]:
        """The books of the source, as they stand."""
        return dict(self.daemon.status()["sources"]["shop"])

    def profile(self, tag: str, part: str = "") -> dict[str, Any]:
        """What the profile API says of a story's person."""
        return self.daemon.ask(f"/v1/profiles/user_id:{tag}-person{part}")

    def delivered(self, tag: str) -> list[dict[str, Any]]:
        """Deliveries about a story's person or device, in the order of arrival."""
        deliveries = [
            one
            for request in self.receiver.received()
            for one in json.loads(request.body)["batch"]
            if one["kind"] == "event"
        ]
        names = (f"{tag}-person", f"{tag}-device")
        return [
            one
            for one in deliveries
            if one["event"].get("userId") in names or one["event"].get("anonymousId") in names
        ]

    def _is_drained(self) -> bool:
        status = self.daemon.status()
        lags = sum(one["lag"] for one in status["folds"].values())
        owed = sum(one["lag"] + one["pending"] for one in status["destinations"].values())
        return bool(lags + owed == 0)


def _command(sdk: str) -> list[str]:
    if sdk != "segment-node":
        return [sys.executable, str(HERE / "python_driver.py")]
    node = shutil.which("node")
    if node is None or not NODE_SDK.exists():
        pytest.skip("needs Node 20 and `npm install` in tests/sdk/node; `make test` does that")
    return [node, "--no-warnings", str(HERE / "node" / "driver.mjs")]
