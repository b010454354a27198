"""The list of mutants is true: each text stands where it says, and the changed file is still Python."""

import pytest

from tests.databases import ROOT
from tests.properties.hunt import MUTANTS
from tests.properties.mutants import Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    for file, old, new in mutant.edits:
        text = (ROOT / file).read_text()
        assert text.count(old) == 1, f"{file} no longer holds once:\n{old}"
        compile(text.replace(old, new), file, "exec")


def test_every_mutant_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 14
