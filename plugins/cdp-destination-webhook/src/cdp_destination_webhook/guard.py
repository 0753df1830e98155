"""Where requests may not go: the platform's own rules, under the name that this plugin uses."""

from __future__ import annotations

from cdp.outgoing import Denied, check_host, check_url, denial

__all__ = ["Denied", "check_host", "check_url", "denial"]
