"""What an event says about consent, in the words of each vendor, as one stamp.

Only `true` (or the text `"true"`) grants. A missing category is decided by the gate, not here.
"""

from __future__ import annotations

from typing import Any, Final

from cdp.domain.event import ConsentStamp

NO_STAMP: Final = ConsentStamp()


def read_stamp(context: dict[str, Any]) -> ConsentStamp:
    """The stamp of an event. Where two vendors' objects disagree, the denial holds."""
    preferences = _preferences(context.get("consent"))
    management = _management(context.get("consentManagement"))
    if preferences is None and management is None:
        return NO_STAMP
    purposes = preferences or {}
    for purpose, granted in (management or {}).items():
        purposes[purpose] = granted and purposes.get(purpose, True)
    return ConsentStamp(present=True, purposes=purposes)


def _preferences(consent: Any) -> dict[str, bool] | None:
    """`{"categoryPreferences": {"<id>": true}}`. An unreadable one grants nothing."""
    if type(consent) is not dict or "categoryPreferences" not in consent:
        return None
    preferences = consent["categoryPreferences"]
    if type(preferences) is not dict:
        return {}
    return {name: value is True or value == "true" for name, value in preferences.items()}


def _management(management: Any) -> dict[str, bool] | None:
    """`{"allowedConsentIds": [...], "deniedConsentIds": [...]}`. An id in both is denied."""
    if type(management) is not dict:
        return None
    if "allowedConsentIds" not in management and "deniedConsentIds" not in management:
        return None
    allowed = dict.fromkeys(_ids(management.get("allowedConsentIds")), True)
    denied = dict.fromkeys(_ids(management.get("deniedConsentIds")), False)
    return {**allowed, **denied}


def _ids(value: Any) -> list[str]:
    return [item for item in value if type(item) is str] if type(value) is list else []
