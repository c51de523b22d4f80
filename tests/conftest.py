"""Settings that every test shares."""

import os

from hypothesis import HealthCheck, settings

# Machines differ in speed, so no example has a deadline; CI draws the same examples every time.
settings.register_profile(
    "rill",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("rill")
