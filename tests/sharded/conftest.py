"""Eight virtual devices: these tests need a process of their own (`python -m pytest tests/sharded`)."""

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update(
    "jax_num_cpu_devices", 8
)  # refused by jax once a device is in use: no test here runs on one by mistake


@pytest.fixture(scope="session")
def mesh():
    """All eight, on one data axis."""
    from mmkd_jax.core.sharding import make_mesh

    assert jax.device_count() == 8
    return make_mesh()
