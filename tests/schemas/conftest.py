"""The Hypothesis profile of these tests. It has no deadline, so a busy machine fails no test."""

from hypothesis import HealthCheck, settings

settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")
