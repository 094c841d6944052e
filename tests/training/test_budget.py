"""The budget splits what is left by the shares of the stages to come, and remembers across runs."""

from pathlib import Path

import pytest

from arlon_cli.training.budget import Budget

SHARES = {"first": 1, "second": 2, "third": 1}


def test_time_left_over_goes_to_later_stages(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "plan.json", 4, SHARES)
    assert budget.allowance("first") == pytest.approx(60)
    with budget.stage("first"):
        pass
    # the first took no time: 240 seconds for shares of 2 and 1
    assert budget.allowance("second") == pytest.approx(160, abs=1)


def test_a_resumed_budget_keeps_its_plan_and_what_was_spent(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "plan.json", 4, SHARES)
    budget.plan("first", 123)
    with pytest.raises(KeyboardInterrupt), budget.stage("first"):
        raise KeyboardInterrupt
    budget.spent["first"] = 50.0
    budget.plan("second", 7)
    resumed = Budget(tmp_path / "plan.json", 4, SHARES)
    assert resumed.steps == {"first": 123, "second": 7}
    assert resumed.allowance("first") == pytest.approx(10)
