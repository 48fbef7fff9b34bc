"""KL through the heads is KL of the logits, in memory that does not grow with the vocabulary."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import losses
from mmkd_jax.core.model import Taps, linen, plain
from mmkd_jax.core.objective import combine, term
from mmkd_jax.core.step import make_step
from mmkd_jax.errors import UserError
from tests.losses.harness import close, finite, zero
from tests.small import advance, distil, gap, initialize, make_batch, make_batches, stepper

MOVING = ("student", "head", "bias", "temperature")


def inputs(lead=(3, 7), classes=11, dtype=jnp.float32, seed=0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    shapes = {"student": (*lead, 5), "teacher": (*lead, 4), "head": (5, classes), "teacher_head": (4, classes)}
    shapes |= {"bias": (classes,), "teacher_bias": (classes,)}
    x = {k: jnp.asarray(draw.normal(size=s), dtype) for k, s in shapes.items()}
    return x | {"temperature": jnp.asarray(1 + draw.random(lead), dtype), "where": jnp.asarray(draw.random(lead) < 0.7)}


def of_logits(student, teacher, head, teacher_head, bias=0, teacher_bias=0, temperature=1.0, where=True):
    """The plain form: the logits as a whole."""
    where = jnp.broadcast_to(where, student.shape[:-1])
    student, teacher = (jnp.where(where[..., None], x, 0) for x in (student, teacher))
    values = losses.kl(student @ head + bias, teacher @ teacher_head + teacher_bias, temperature=temperature)
    return jnp.sum(jnp.where(where, values, 0)) / jnp.maximum(jnp.sum(where), 1)


def gradients(loss, x, moving=MOVING, **static):
    def function(own):
        return loss(**x | own, **static)

    return jax.jit(jax.value_and_grad(function))({k: x[k] for k in moving})


@pytest.mark.full
@pytest.mark.parametrize("chunk", [1, 88, 100, 2**23])
def test_it_is_kl_of_the_logits(chunk):
    """Whatever the chunks: rows that do not fill one, heads that are added to a row at a time or all at once."""
    x = inputs()
    close(gradients(losses.chunked_kl, x, chunk=chunk), gradients(of_logits, x), 1e-5, 1e-6)
    with jax.enable_x64(True):
        x = inputs(dtype=jnp.float64)
        close(gradients(losses.chunked_kl, x, chunk=chunk), gradients(of_logits, x), 1e-9, 1e-12)


@pytest.mark.full
def test_rows_that_do_not_count_may_hold_anything():
    x = inputs()
    away = ~x["where"][..., None]
    spoilt = x | {k: jnp.where(away, jnp.nan, x[k]) for k in ("student", "teacher")}
    spoilt["temperature"] = jnp.where(x["where"], x["temperature"], 0)
    close(gradients(losses.chunked_kl, spoilt, chunk=88), gradients(of_logits, x), 1e-5, 1e-6)
    nothing = gradients(losses.chunked_kl, spoilt | {"where": jnp.zeros_like(x["where"])}, chunk=88)
    assert zero(nothing) and zero(gradients(losses.chunked_kl, inputs((0,))))
    rows = jnp.array([True, False, True])  # a mask of examples, for all their tokens
    close(losses.chunked_kl(**x | {"where": rows}), of_logits(**x | {"where": rows[:, None]}), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1, -1])
def test_huge_logits_and_removed_classes(sign):
    x = inputs()
    huge = x | {"student": sign * 1e4 * jnp.sign(x["student"]), "teacher": 1e4 * jnp.sign(x["teacher"])}
    assert finite(gradients(losses.chunked_kl, huge, chunk=88))
    with jax.enable_x64(True):
        exact = {k: v.astype(jnp.float64) if v.dtype != jnp.bool_ else v for k, v in huge.items()}
        close(gradients(losses.chunked_kl, exact, chunk=88), gradients(of_logits, exact), 1e-9, 1e-9)
    without = x | {k: x[k].at[-1].set(-jnp.inf) for k in ("bias", "teacher_bias")}
    value, slopes = gradients(losses.chunked_kl, without, chunk=88)
    fewer = x | {k: x[k][..., :-1] for k in ("head", "teacher_head", "bias", "teacher_bias")}
    close(value, of_logits(**fewer), 1e-5)
    assert finite(slopes) and zero((slopes["head"][:, -1], slopes["bias"][-1]))


def test_the_teacher_has_no_gradient():
    fixed = ("teacher", "teacher_head", "teacher_bias")
    assert zero(gradients(losses.chunked_kl, inputs(), fixed)[1])


@pytest.mark.full
def test_half_precision_adds_up_in_float32():
    x = inputs((40,), 300)
    low = {k: v.astype(jnp.bfloat16) if v.dtype == jnp.float32 and v.ndim == 2 else v for k, v in x.items()}
    assert low["head"].dtype == jnp.bfloat16
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        value, slopes = gradients(losses.chunked_kl, low, chunk=2400)
    assert value.dtype == jnp.float32 and {k: v.dtype for k, v in slopes.items()} == {k: low[k].dtype for k in MOVING}
    with jax.enable_x64(True):
        exact = {k: v.astype(jnp.float64) if v.dtype != jnp.bool_ else v for k, v in low.items()}
        expected, wanted = gradients(of_logits, exact)
        close(value, expected, 1e-5)
        for k in MOVING:
            assert gap(slopes[k].astype(jnp.float64), wanted[k]) < 5e-3 * float(jnp.abs(wanted[k]).max()), k


def test_a_population_of_temperatures():
    x = inputs() | {"temperature": jnp.array([0.5, 1.0, 4.0])}

    def each(loss, **static):
        return jax.vmap(lambda t: gradients(loss, x | {"temperature": t}, **static))(x["temperature"])

    close(each(losses.chunked_kl, chunk=88), each(of_logits), 1e-5, 1e-6)


def compiled(loss, classes, rows=512, width=64, gradient=True):
    """The program of a weighted value and its gradients by features and head; nothing is run."""
    shapes = [(rows, width), (width, classes), (rows, width), (width, classes)]
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]

    def value(student, head, teacher, teacher_head, weight):
        return weight * loss(student, teacher, head, teacher_head)

    program = jax.value_and_grad(value, (0, 1)) if gradient else value
    return jax.jit(program).lower(*shapes, jax.ShapeDtypeStruct((), jnp.float32)).compile()


def test_memory_does_not_grow_with_the_vocabulary():
    def temporaries(loss, classes):
        stats = compiled(loss, classes).memory_analysis()
        assert stats is not None
        return stats.temp_size_in_bytes

    sizes = [temporaries(losses.chunked_kl, v) for v in (2**14, 2**17)]
    assert max(sizes) < 1.1 * min(sizes) and max(sizes) < 13 * 2**23  # 12 bytes a logit of a chunk
    assert temporaries(of_logits, 2**17) > 10 * max(sizes)


def test_a_value_alone_costs_no_gradient():
    classes, rows, width = 2**12, 512, 64
    product = 2 * classes * rows * width
    flops = []
    for gradient in (False, True):
        costs = compiled(losses.chunked_kl, classes, rows, width, gradient).cost_analysis()
        assert costs is not None
        flops.append(costs["flops"])
    assert flops[0] < 3 * product < 3.9 * product < flops[1]


WIDTH, CLASSES = 6, 9


class Tower(nn.Module):
    """Tokens' features, and the head as one more output."""

    @nn.compact
    def __call__(self, batch, ctx, patch):
        tap = Taps(patch)
        x = tap("hidden", nn.tanh(nn.Dense(WIDTH)(batch["audio"])))
        kernel = tap("head.kernel", self.param("head", nn.initializers.lecun_normal(), (WIDTH, CLASSES)))
        tap("logits", x @ kernel)
        return tap.outputs


def line(params, batch, patch):
    tap = Taps(patch)
    x = tap("hidden", batch["audio"] @ params["w"])
    tap("logits", x @ tap("head.kernel", params["head"]))
    return tap.outputs


def draw(key, batch):
    return {"w": jax.random.normal(key, (3, 4)), "head": jax.random.normal(key, (4, CLASSES))}


def through_heads(**more):
    return term(
        losses.chunked_kl,
        student="student.hidden",
        head="student.head.kernel",
        teacher="teacher.hidden",
        teacher_head="teacher.head.kernel",
        temperature=2.0,
        **more,
    )


@pytest.mark.slow
@pytest.mark.parametrize("student", [linen(Tower()), plain(line, draw)], ids=["linen", "plain"])
def test_a_term_of_it_trains_features_and_head_as_kl_does(student):
    models = {"teacher": plain(line, draw), "student": student}
    soft = term(losses.kl, student="student.logits", teacher="teacher.logits", temperature=2.0)
    runs = []
    for objective in (through_heads(chunk=8 * CLASSES), soft):
        distillation = distil(models, combine(soft=objective))
        state, frozen = initialize(distillation)
        runs.append((state, *advance(stepper(distillation), state, frozen, make_batches(4))))
    (first, ours, values, _), (_, theirs, expected, _) = runs
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert gap(ours.params, theirs.params) < 1e-6
    for before, after in zip(jax.tree.leaves(first.params), jax.tree.leaves(ours.params), strict=True):
        assert gap(before, after) > 1e-3


def test_microbatches_are_refused():
    """They join outputs by rows, and a head has none."""
    distillation = distil({n: plain(line, draw) for n in ("teacher", "student")}, combine(soft=through_heads()))
    state, frozen = initialize(distillation)
    with pytest.raises(UserError, match="chunked_kl: head is float32.*but d is 4 in student"):
        make_step(distillation, 2)(state, frozen, {k: jnp.asarray(v) for k, v in make_batch().items()})
