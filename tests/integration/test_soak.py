"""No process grows with the number of tasks and actors that a program has run. The long run is
``make soak``."""

import pytest

from soak import soak

pytestmark = pytest.mark.ours_only


@pytest.mark.timeout(300)
def test_memory_stays_flat(start_cluster):
    start_cluster(_system_config=soak.SYSTEM_CONFIG)
    samples = soak.soak(tasks=20_000, actors=200, batches=20)
    for growth in soak.growths(samples):
        assert growth.is_flat(slack_kib=2048), f"{growth.kind}: {growth.before} -> {growth.after}"
