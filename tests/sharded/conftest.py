"""Eight virtual devices: these tests need a process of their own (`python -m pytest tests/sharded`)."""

import jax
import pytest

from mmkd_jax.core import sharding

jax.config.update("jax_platforms", "cpu")
# refused by jax once a device is in use: no test here runs on one by mistake
jax.config.update("jax_num_cpu_devices", 8)
sharding.threads_for_devices()


@pytest.fixture(scope="session")
def mesh():
    """All eight, on one data axis."""
    assert jax.device_count() == 8
    return sharding.make_mesh()
