"""What holds for every test: a slow machine fails nobody."""

from hypothesis import HealthCheck, settings

settings.register_profile("cdp", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cdp")
