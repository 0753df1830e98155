"""The data plane: bytes from SDKs in, events in the log, an answer once they are on disk."""

from cdp.ingestion.actor import Intake
from cdp.ingestion.http import Gateway

__all__ = ["Gateway", "Intake"]
