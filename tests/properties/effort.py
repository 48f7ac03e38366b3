"""How many examples each property is tried with.

By default a property is tried with the same examples every time, so that every run has the same
result and ends soon. `COMMS_TEST_EFFORT=20` tries twenty times as many examples, at random. Use it
after a change of what is tested here.
"""

import os

from hypothesis import HealthCheck, settings

EFFORT = int(os.environ.get("COMMS_TEST_EFFORT", "1"))


def effort(examples: int, *, steps: int = 50) -> settings:
    """Return the settings of a property: its examples, and the steps of each if it has steps."""
    return settings(
        max_examples=examples * EFFORT,
        stateful_step_count=steps,
        derandomize=EFFORT == 1,
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.filter_too_much,
            HealthCheck.function_scoped_fixture,
        ],
    )
