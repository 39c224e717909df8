"""Running a state machine of hypothesis: a token of it as a test, as many examples as a campaign asks for."""

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

TOKEN = 60
"""Examples, where nobody asks for more."""


def run_machine(machine: type[RuleBasedStateMachine], config: pytest.Config) -> None:
    """`--campaign-size` examples, from `--campaign-seed`; what fails is made smaller in the test only."""
    size = config.getoption("--campaign-size")
    chosen = settings(
        max_examples=size or TOKEN,
        stateful_step_count=40,
        deadline=None,
        derandomize=not size,
        database=None,
        print_blob=False,
        phases=[Phase.generate] if size else [Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow],
    )
    if size:
        seed(config.getoption("--campaign-seed"))(machine)
    run_state_machine_as_test(machine, settings=chosen)
