"""How hypothesis runs here: the same examples each time, and no time limit for one of them.

Whether a commit passes must not be drawn by lot, and a busy machine is no fault of the code. New examples are looked
for on purpose, again and again: `pytest tests/unit -m hypothesis --hypothesis-profile search`.
"""

from hypothesis import HealthCheck, settings

_PLAIN = settings.get_profile("default")  # whatever CI is in the environment
settings.register_profile("search", _PLAIN, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("unit", settings.get_profile("search"), derandomize=True)
settings.load_profile("unit")
