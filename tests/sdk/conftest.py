"""One daemon and one receiver for all SDK tests. Each test has its own tag, so its own people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.daemon import Daemon, Settings
from tests.crash.receiver import Receiver
from tests.sdk.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running daemon that delivers everything to a receiver."""
    directory = tmp_path_factory.mktemp("sdk")
    with Receiver(directory / "received.bin") as receiver:
        settings = Settings(webhook_url=receiver.url)
        with Daemon(directory / "daemon", settings) as daemon:
            daemon.start()
            yield World(daemon, receiver)
