"""A simulation that finds nothing proves nothing: each planted bug must be found in few seeds."""

from __future__ import annotations

import pytest

from tests.simulation.planted import BUGS
from tests.simulation.run import SEEDS_PER_BUG, first_seed


@pytest.mark.slow
@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_planted_bug_is_found(bug):
    assert first_seed(bug) is not None, f"{bug} stayed hidden for {SEEDS_PER_BUG} seeds"
