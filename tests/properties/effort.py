"""How hard the properties are tried.

By default each is tried with the same examples every time, so that a run says the same today and
tomorrow and ends soon. `COMMS_TEST_EFFORT=20` tries twenty times as many, at random: for a search
after a change of what is tested here.
"""

import os

from hypothesis import HealthCheck, settings

EFFORT = int(os.environ.get("COMMS_TEST_EFFORT", "1"))


def effort(examples: int, *, steps: int = 50) -> settings:
    """Settings for a property: so many examples, of at most so many steps where it has steps."""
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
