"""Settings of the property tests: the same examples on every run, no deadline on noisy machines."""

from hypothesis import HealthCheck, settings

settings.register_profile("laws", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
