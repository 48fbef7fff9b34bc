import shutil

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import variables_file
from mmkd_jax.errors import UserError
from mmkd_jax.training import checkpoint


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    key: jax.Array


def state(step: int, width: int = 3) -> State:
    params = {"a": jnp.arange(width * 2.0).reshape(width, 2) * step, "half": jnp.full(2, step, jnp.bfloat16)}
    return State(jnp.int32(step), params | {"flag": jnp.array([True, False])}, jax.random.key(step))


def like(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def equal(a, b):
    raw = [
        [np.asarray(jax.random.key_data(x) if x.dtype == jax.dtypes.prng_key else x).tobytes() for x in _leaves(t)]
        for t in (a, b)
    ]
    return raw[0] == raw[1]


def _leaves(tree):
    return [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in jax.tree.leaves(tree)
    ]


def restored(checkpoints):
    """What `restore` finds where something is saved."""
    found = checkpoints.restore(like(state(0)))
    assert found is not None
    return found


@pytest.fixture
def saved(tmp_path):
    """Two checkpoints, of steps 1 and 2."""
    c = checkpoint.Checkpoints(tmp_path / "c")
    for step in (1, 2):
        c.save(step, state(step), {"note": f"step {step}"})
    c.close()
    return tmp_path / "c"


def test_round_trip(saved):
    c = checkpoint.Checkpoints(saved)
    step, tree, meta, damaged = restored(c)
    assert (step, meta, damaged) == (2, {"note": "step 2"}, [])
    assert equal(tree, state(2)) and isinstance(tree, State)
    c.save(3, state(3), {})
    c.close()
    assert sorted(p.name for p in saved.iterdir() if p.name.isdigit()) == ["2", "3"]


def test_what_is_saved_beside_it_is_as_it_was_when_save_was_called(tmp_path):
    """Orbax writes it in the background; the learning curve goes on meanwhile."""
    c, curve = checkpoint.Checkpoints(tmp_path / "c"), [1]
    c.save(1, state(1), {"curve": curve})
    curve.append(2)
    c.close()
    assert restored(checkpoint.Checkpoints(tmp_path / "c"))[2] == {"curve": [1]}


def test_nothing_saved(tmp_path):
    assert checkpoint.Checkpoints(tmp_path / "empty").restore(like(state(0))) is None


def flip(folder):
    file = max(folder.rglob("d/*"), key=lambda p: p.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


def truncate(folder):
    file = max(folder.rglob("d/*"), key=lambda p: p.stat().st_size)
    file.write_bytes(file.read_bytes()[:10])


def lose_data(folder):
    for file in folder.rglob("d/*"):
        file.unlink()


def lose_metadata(folder):
    (folder / "_CHECKPOINT_METADATA").unlink()


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("damage", [flip, truncate, lose_data, lose_metadata, empty])
def test_damage_falls_back_and_deletes_nothing(saved, damage):
    damage(saved / "2")
    c = checkpoint.Checkpoints(saved)
    step, tree, _, damaged = restored(c)
    assert step == 1 and equal(tree, state(1))
    assert [s for s, _ in damaged] == [2]
    assert (saved / "2.damaged").is_dir() and not (saved / "2").exists()
    c.save(2, state(2), {})  # the number is free again
    c.close()
    assert restored(checkpoint.Checkpoints(saved))[0] == 2


def test_all_damaged_is_an_error(saved):
    flip(saved / "1")
    flip(saved / "2")
    with pytest.raises(UserError, match="every checkpoint"):
        checkpoint.Checkpoints(saved).restore(like(state(0)))
    assert (saved / "1.damaged").is_dir() and (saved / "2.damaged").is_dir()
    assert checkpoint.Checkpoints(saved).restore(like(state(0))) is None  # so the training can start over


def test_another_tree_is_refused_by_leaf(saved):
    with pytest.raises(
        UserError, match=r"another configuration: .*params\['a'\]: float32\[3, 2\] saved, float32\[4, 2\]"
    ):
        checkpoint.Checkpoints(saved).restore(like(state(0, width=4)))


def test_checksums_see_every_change():
    base = checkpoint.checksums({"x": jnp.arange(6.0).reshape(2, 3)})["['x']"]
    swapped = checkpoint.checksums({"x": jnp.array([[1.0, 0.0, 2.0], [3.0, 4.0, 5.0]])})["['x']"]
    nudged = checkpoint.checksums({"x": jnp.arange(6.0).reshape(2, 3).at[1, 2].set(5.0000005)})["['x']"]
    assert len({int(base), int(swapped), int(nudged)}) == 3


def test_variables_round_trip_and_damage(tmp_path):
    scalar = jnp.float32(3)  # such as CLIP's logit_scale
    variables = {"student": {"params": {"w": jnp.arange(3.0), "h": jnp.ones(2, jnp.bfloat16), "s": scalar}}}
    digest = variables_file.write_variables(tmp_path / "v", variables)
    assert variables_file.write_variables(tmp_path / "w", variables) == digest
    assert equal(variables_file.read_variables(tmp_path / "v", variables, digest), variables)
    with pytest.raises(UserError, match="missing"):
        variables_file.read_variables(tmp_path / "none", variables)
    with pytest.raises(UserError, match="student/params/w"):
        variables_file.read_variables(tmp_path / "v", {"student": {"params": {"w": jnp.ones(4), "h": jnp.ones(2)}}})
    data = bytearray((tmp_path / "v").read_bytes())
    data[-1] ^= 1
    (tmp_path / "v").write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        variables_file.read_variables(tmp_path / "v", variables, digest)
