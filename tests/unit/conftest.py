"""How hypothesis runs here: no time limit for one example, since a busy machine is no fault of the code."""

from hypothesis import HealthCheck, settings

settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")
