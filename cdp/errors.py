"""The tree of errors. The axis is who must act.

    CdpError
    ├── ConfigError        the operator: refuses to start; names file, key and what is allowed
    ├── InvalidEvent       the sender: never retried; has a code and the path into the body
    ├── Overloaded         nobody; wait: 429 or 503 with `retry_after_s`
    ├── StorageError       the machine: crash, restart, alarm
    │   ├── StoreFull      nobody yet: answer 503 and wait; it resumes by itself
    │   ├── StoreInUse     the operator: another daemon has the data directory
    │   └── StoreDamaged   the operator: stops; the message names the file and what to run
    └── PluginError        the plugin's author

Expected outcomes are values, bugs are other exceptions, impossible states are asserts.
"""

from __future__ import annotations


class CdpError(Exception):
    """What every error of ours that is not a bug descends from."""


class ConfigError(CdpError):
    """The configuration cannot be used. The text names the file, the key and what is allowed."""


class InvalidEvent(CdpError):
    """An event that cannot be accepted, with a stable `code` and a text that names the path."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Overloaded(CdpError):
    """There is no room now. Nothing was stored; the same request may succeed later."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageError(CdpError):
    """The store failed. The outcome of the last write is unknown; de-duplication decides."""


class StoreFull(StorageError):
    """The disk is full. Nothing was acknowledged; the store resumes once there is room."""


class StoreInUse(StorageError):
    """Another process has the data directory open."""


class StoreDamaged(StorageError):
    """The store holds less, or other, than was acknowledged. Never opened with silent loss."""


class PluginError(CdpError):
    """A destination plugin cannot be loaded or breaks its contract. Names package and version."""
