"""The list of mutants is true: each text stands where it says, and the changed file is still Python."""

import subprocess

import pytest
from hypothesis.errors import FlakyFailure, FlakyStrategyDefinition

from tests.databases import ROOT
from tests.properties.__main__ import is_flaky
from tests.properties.hunt import MUTANTS, noticed
from tests.properties.mutants import Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    for file, old, new in mutant.edits:
        text = (ROOT / file).read_text()
        assert text.count(old) == 1, f"{file} no longer holds once:\n{old}"
        compile(text.replace(old, new), file, "exec")


def test_every_mutant_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 14


_ONCE = """  + Exception Group Traceback (most recent call last):
  | hypothesis.errors.FlakyFailure: Falsified on the first call but did not on a subsequent one (1 sub-exception)
  +-+---------------- 1 ----------------
    | AssertionError: [keys] two live bots for first
"""


@pytest.mark.parametrize(
    ("status", "text", "by"),
    [
        (0, "hypothesis.errors.FlakyStrategyDefinition: Inconsistent data generation! Inconsistent\n", ""),
        (1, "hypothesis.errors.FlakyError: of its own\nValueError: none such\n", "ValueError: none such"),
        (1, _ONCE, "keys"),
    ],
)
def test_a_fault_is_noticed_by_a_failure_and_not_by_an_example_that_went_another_way(
    status: int, text: str, by: str
) -> None:
    assert noticed(subprocess.CompletedProcess([], status, text, "")) == by


def test_an_example_that_went_another_way_is_no_finding_unless_it_failed() -> None:
    assert is_flaky(FlakyStrategyDefinition("other choices"))
    assert not is_flaky(FlakyFailure("not again", [AssertionError("[keys]")]))
    assert not is_flaky(AssertionError("[keys]"))
