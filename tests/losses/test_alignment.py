"""What the table cannot say of the losses that align modalities."""

from functools import cache, partial
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.optimize import linprog

from mmkd_jax import losses
from mmkd_jax.errors import UserError
from tests.losses.formulas.alignment import squares

DRAW = np.random.default_rng(5)
DISTRIBUTIONS = [losses.coral, losses.cmd, losses.mmd, losses.sinkhorn]


def rows(*shape):
    return DRAW.normal(size=shape)


@cache
def whole(loss, **options):
    """A loss as one program: compiling its operations one by one takes many times as long."""
    return jax.jit(partial(loss, **options))


@cache
def with_slope(loss, **options):
    """Its sum and the gradient by its first argument, as one program."""
    return jax.jit(jax.value_and_grad(lambda *given: jnp.sum(loss(*given, **options))))


@pytest.fixture(autouse=True)
def exact():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("loss", [*DISTRIBUTIONS, losses.grassmann])
def test_the_order_of_a_sides_rows_does_not_matter(loss):
    s, t = rows(7, 5), rows(7, 5)
    of = whole(loss)
    np.testing.assert_allclose(np.mean(of(s[::-1], t)), np.mean(of(s, t)), rtol=1e-8)
    np.testing.assert_allclose(np.mean(of(t[::-1], t)), 0, atol=1e-6)


@pytest.mark.parametrize("loss", [losses.coral, losses.grassmann, losses.cca])
def test_places_do_not_matter(loss):
    s, t = rows(9, 5), rows(9, 5)
    np.testing.assert_allclose(whole(loss)(s + rows(1, 5), t - 3), whole(loss)(s, t), rtol=1e-9)


@pytest.mark.parametrize("loss", [losses.mmd, losses.sinkhorn])
def test_a_common_move_and_scale_do_not_matter(loss):
    """Widths and ε go with the scale: the MMD stays, the cost of transport grows with its square."""
    s, t = rows(6, 3), rows(6, 3)
    grown = {losses.mmd: 1, losses.sinkhorn: 9}[loss]
    of = whole(loss)
    np.testing.assert_allclose(np.mean(of(3 * s + 7, 3 * t + 7)), grown * np.mean(of(s, t)), rtol=1e-9)


def test_cca_does_not_see_invertible_maps():
    s, t = rows(20, 4), rows(20, 3)
    exactly = {"r1": 1e-12, "r2": 1e-12}
    value = whole(losses.cca, **exactly)(s, t)
    maps = (np.eye(n) + 0.5 * np.tril(rows(n, n), -1) for n in (4, 3))
    mapped = whole(losses.cca, **exactly)(s @ next(maps), t @ next(maps) + 1)
    np.testing.assert_allclose(mapped, value, rtol=1e-8)
    whitened = (np.linalg.qr(x - np.mean(x, 0))[0] for x in (s, t))  # an orthonormal basis of each side's columns
    correlations = np.cos(subspace_angles(*whitened))
    np.testing.assert_allclose(value, -correlations.sum(), rtol=1e-8)
    np.testing.assert_allclose(whole(losses.cca, components=1, **exactly)(s, t), -correlations.max(), rtol=1e-8)


def test_cca_has_a_gradient_where_correlations_are_equal():
    """Orthogonal channels that correlate alike: a decomposition's own gradient divides by the gap, which is 0."""
    s = np.linalg.qr(np.c_[np.ones(8), rows(8, 5)])[0][:, 1:]
    t, s = 0.6 * s[:, :2] + 0.8 * s[:, 2:4], s[:, :2]
    of = with_slope(losses.cca, r1=1e-9, r2=1e-9)
    value, slope = of(s, t)
    np.testing.assert_allclose(value, -1.2, rtol=1e-5)
    move = rows(8, 2)
    ends = [of(s + h * move, t)[0] for h in (1e-6, -1e-6)]
    np.testing.assert_allclose(np.sum(slope * move), (float(ends[0]) - float(ends[1])) / 2e-6, rtol=1e-5)
    _, slope = with_slope(losses.cca)(s, rows(8, 1) @ np.ones((1, 3)))  # one of three is not 0
    assert np.isfinite(slope).all()


def test_cca_of_directions_without_variance_is_that_of_the_others():
    """In float32, where the ridge is less than what rounding leaves of their variance."""
    s, t = (np.float32(rows(12, n)) * np.float32(1e4) for n in (3, 2))
    value, slope = with_slope(losses.cca)(np.concatenate([s, s], 1), t)
    np.testing.assert_allclose(value, whole(losses.cca)(s, t), rtol=1e-4)
    assert np.abs(slope).max() < 1e-2


@pytest.mark.parametrize("metric", ["projection", "geodesic"])
def test_grassmann_sees_the_span_alone(metric):
    """Whatever basis: rows that span k dimensions, mixed and scaled, are the same subspace."""
    s, t = rows(3, 6), rows(3, 6)
    options = {"dimensions": 3, "metric": metric, "center": False}
    of = whole(losses.grassmann, **options)
    angles = np.asarray(subspace_angles(s.T, t.T))
    wanted = np.sum(np.sin(angles) ** 2 if metric == "projection" else angles**2)
    for mix in (np.eye(3), rows(3, 3)):
        np.testing.assert_allclose(of(mix @ s, t), wanted, rtol=1e-7)
    np.testing.assert_allclose(of(rows(3, 3) @ t, t), 0, atol=1e-8)


def test_grassmann_of_fewer_rows_than_dimensions():
    """Two rows span two dimensions: of four, two are missing."""
    s, x = rows(2, 6), rows(4, 6)
    options = {"dimensions": 4, "center": False}
    padded = np.concatenate([s, 0 * s])
    u, v = (np.linalg.svd(a, full_matrices=False)[2] for a in (s, x))
    value, slope = with_slope(losses.grassmann, **options)(padded, x)
    np.testing.assert_allclose(value, 3 - np.sum((u @ v.T) ** 2), rtol=1e-8)
    assert np.isfinite(slope).all() and np.abs(slope[:2]).max() > 0
    wanted = np.sum(np.asarray(subspace_angles(u.T, v.T)) ** 2) + 2 * (np.pi / 2) ** 2
    geodesic = whole(losses.grassmann, metric="geodesic", **options)
    np.testing.assert_allclose(geodesic(padded, x), wanted, rtol=1e-7)


def test_grassmann_of_equally_strong_directions_has_no_infinite_gradient():
    t = rows(6, 3)
    for metric in ("projection", "geodesic"):
        _, slope = with_slope(losses.grassmann, dimensions=2, center=False, metric=metric)(np.eye(6)[:, :3], t)
        assert np.isfinite(slope).all()


def test_mmd_is_a_double_loop():
    s, t = rows(5, 2), rows(5, 2)

    def k(x, y):
        return np.exp(-np.sum((x - y) ** 2) / (2 * 1.5))

    pairs = [(i, j) for i in range(5) for j in range(5)]
    wanted = np.mean([k(s[i], s[j]) + k(t[i], t[j]) - 2 * k(s[i], t[j]) for i, j in pairs])
    found = whole(losses.mmd, factors=(1.0,), bandwidth=1.5, relative=False)(s, t)
    np.testing.assert_allclose(np.mean(found), wanted, rtol=1e-10)


def test_cmd_of_one_moment_is_the_distance_of_the_means():
    s, t = rows(5, 3), rows(5, 3)
    np.testing.assert_allclose(whole(losses.cmd, moments=1)(s, t), np.linalg.norm(np.mean(s - t, 0)), rtol=1e-12)


def test_sinkhorn_nears_optimal_transport_and_mmd():
    """ε → 0: the linear program, which of n points each is a permutation; ε → ∞: the distance of the means."""
    s, t = rows(5, 2), rows(5, 2)
    cost = squares(s, t)
    sums = np.concatenate([np.kron(np.eye(5), np.ones(5)), np.kron(np.ones(5), np.eye(5))])
    plan = linprog(cost.ravel(), A_eq=sums, b_eq=np.full(10, 1 / 5)).fun
    np.testing.assert_allclose(plan, min(np.mean(cost[range(5), list(p)]) for p in permutations(range(5))), rtol=1e-9)
    for debiased in (True, False):
        near = whole(losses.sinkhorn, epsilon=2e-3, iterations=3000, debiased=debiased)(s, t)
        np.testing.assert_allclose(near, plan, rtol=0.01)
    far = whole(losses.sinkhorn, epsilon=1e5)(s, t)
    np.testing.assert_allclose(far, np.sum(np.mean(s - t, 0) ** 2), rtol=1e-4)


def test_sinkhorn_takes_a_population():
    """Also of ε: always as many iterations."""
    s, t = rows(3, 5, 2), rows(3, 5, 2)
    epsilon = np.array([0.1, 0.5, 2.0])

    def alone(s, t, epsilon):
        return losses.sinkhorn(s, t, epsilon=epsilon)

    together = jax.jit(jax.vmap(alone))(s, t, epsilon)
    for i in range(3):
        np.testing.assert_allclose(together[i], jax.jit(alone)(s[i], t[i], epsilon[i]), rtol=1e-10)


@pytest.mark.parametrize("loss", DISTRIBUTIONS)
def test_a_student_that_follows_its_gradient_gets_there(loss):
    s, t = (jnp.asarray(0.5 * rows(12, 2)) for _ in range(2))
    rate = 0.05 if loss is losses.cmd else 0.5  # whose gradient does not shrink on the way

    @jax.jit
    def go(s):
        def value(s):
            return jnp.mean(loss(s, t))

        return jax.lax.fori_loop(0, 200, lambda _, s: s - rate * jax.grad(value)(s), s), value(s)

    after, before = go(s)
    assert go(after)[1] < 0.5 * before


@pytest.mark.parametrize("loss", [losses.agreement_jsd, losses.agreement_kl])
def test_modalities_that_agree_have_nothing_to_learn(loss):
    z = rows(3, 4)
    value, slopes = with_slope(loss, temperature=2.0)((z, z + 1, z - 2))
    np.testing.assert_allclose(value, 0, atol=1e-12)
    np.testing.assert_allclose(slopes, 0, atol=1e-12)


def test_agreement_of_two_is_the_jensen_shannon_divergence():
    x, y = rows(3, 4), rows(3, 4)
    of_two = whole(losses.agreement_jsd, sharpness=3.0)((x, y))
    np.testing.assert_allclose(of_two, whole(losses.jsd)(x, y), rtol=1e-10)


@pytest.mark.parametrize("loss", [losses.agreement_jsd, losses.agreement_kl])
def test_a_modality_that_contradicts_the_others_weighs_less(loss):
    """The sharper, the more the consensus is that of the two; it learns more, they less."""
    two, other = np.array([[3.0, 0.0]]), np.array([[0.0, 3.0]])

    def moved(sharpness):
        return [np.abs(g).max() for g in with_slope(loss, sharpness=sharpness)((two, two + 1, other))[1]]

    even, sharp = moved(0.0), moved(20.0)
    assert sharp[0] < 0.1 * even[0]
    if loss is losses.agreement_kl:
        assert sharp[2] > even[2] > even[0]


@pytest.mark.parametrize("loss", [losses.agreement_jsd, losses.agreement_kl])
def test_a_modality_that_is_not_there_says_nothing(loss):
    x, y = rows(3, 4), rows(3, 4)
    masks = tuple(map(jnp.array, ([True, True, False], [True, True, False], [False] * 3)))
    of = jax.jit(jax.value_and_grad(lambda z: jnp.sum(loss(z, present=masks))))
    for there in (0.0, np.nan, np.inf):
        value, slopes = jax.device_get(of((x, y, np.full((3, 4), there))))
        np.testing.assert_allclose(value, np.sum(whole(loss)((x, y))[:2]), rtol=1e-10)
        assert not np.any(slopes[2]) and not np.any(slopes[0][2]) and np.all(slopes[0][:2] != 0)


def test_classes_at_minus_infinity():
    """In all: removed. In some: finite of the mixture, infinite where the consensus has mass and one has none."""
    x, y = rows(2, 4), rows(2, 4)
    removed = tuple(np.where(np.arange(4) < 3, z, -np.inf) for z in (x, y))
    for loss in (losses.agreement_jsd, losses.agreement_kl):
        value, slopes = jax.device_get(with_slope(loss)(removed))
        np.testing.assert_allclose(value, np.sum(whole(loss)((x[:, :3], y[:, :3]))), rtol=1e-10)
        assert all(np.isfinite(g).all() and not np.any(g[:, 3]) for g in slopes)
        value, slopes = with_slope(loss)((removed[0], y))
        assert np.isinf(value) == (loss is losses.agreement_kl)
        assert not any(np.isnan(g).any() for g in slopes)


def test_one_modality_and_masks_that_are_missing():
    x, mask = jnp.asarray(rows(2, 3)), jnp.ones(2, bool)
    with pytest.raises(UserError, match="agreement_jsd: logits has 1 array; expected two or more, one per"):
        losses.agreement_jsd((x,))
    with pytest.raises(UserError, match="agreement_kl: present has 1 masks; expected 2"):
        losses.agreement_kl((x, x), present=(mask,))


def test_a_modality_that_is_trusted_nothing_at_all_costs_nothing():
    rows = tuple(np.array([r]) for r in ([0.0, -200.0, -200.0], [-200.0, 0.0, -1.0], [-200.0, 0.0, -1.2]))
    for sharpness in (1.0, 100.0, 1000.0):
        value, slopes = with_slope(losses.agreement_jsd, sharpness=sharpness)(rows)
        assert 0 <= float(value) <= np.log(3) and all(np.isfinite(g).all() for g in slopes), sharpness
