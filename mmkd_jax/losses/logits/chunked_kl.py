"""KL over a vocabulary so large that the logits must never stand in memory as a whole."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, like


@checked
def chunked_kl(
    student: Float[Array, "*n d"],
    teacher: Float[Array, "*n e"],
    head: Float[Array, "d c"],
    teacher_head: Float[Array, "e c"],
    *,
    bias: Float[Array, " c"] | None = None,
    teacher_bias: Float[Array, " c"] | None = None,
    temperature: Positive = 1.0,
    chunk: int = 2**22,
    where: Bool[Array, "*n"] | None = None,
    axis: str | None = None,
) -> Float[Array, ""]:
    """KD through the heads: `kl` of features and their heads' weights, whose logits are made and used in chunks.

    Formula: (1 / n) Σ_i T² KL(softmax((t_i U + a) / T) ‖ softmax((s_i W + b) / T)), the sum over the n rows that count

    The student's gradients are computed beside the value, chunk by chunk, so that no logits are kept or made twice.
    The head's gradient sums over rows: hence the mean is taken here, over the rows of `where`. In a term, the head is
    one more output of the model, `tap("head.kernel", kernel)`:
    `term(losses.chunked_kl, student="student.hidden.text.2", head="student.head.kernel",
    teacher="teacher.hidden.text.6", teacher_head="teacher.head.kernel", where="text.mask")`.
    The logits themselves may be an output, too: what nobody reads is not computed.

    Args:
        student: features s, [..., d].
        teacher: features t, [..., e].
        head: the student's W, [d, c]. Features and head in bfloat16 are multiplied as such and added up in float32.
        teacher_head: the teacher's U, [e, c].
        bias: b, [c]; −inf in both biases removes a class.
        teacher_bias: a, [c].
        temperature: T > 0, a number or one per row.
        chunk: how many of a model's logits exist at a time; about 20 bytes each. A chunk is at least one row.
        where: rows that count, [...].
        axis: the device axis in the per-device forms.

    Returns:
        The mean over the rows that count, on all devices; 0 if there are none. Gradients reach the student's features,
        head and bias, and the temperature; none reaches the teacher's. Reverse mode only (no `jvp`).

    Compares: features through their heads, as logits
    Extra: none; the heads' weights as outputs of the models
    Source: Hsu et al., Liger Kernel: Efficient Triton Kernels for LLM Training, 2024, https://arxiv.org/abs/2410.10989

    Example:
        >>> x, w = jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
        >>> float(chunked_kl(x, x, w, w))
        0.0
    """
    lead, classes = student.shape[:-1], head.shape[1]
    mask = jnp.ones(lead, bool) if where is None else where
    student, head = _one_dtype(student, head)
    teacher, teacher_head = _one_dtype(teacher, teacher_head)
    wide = at_least_float32(student[:0], teacher[:0])[0].dtype
    bias, teacher_bias = (None if b is None else b.astype(wide) for b in (bias, teacher_bias))
    # zeros in rows that do not count: whatever stands there reaches neither value nor gradient
    student, teacher = (jnp.where(mask[..., None], x, 0).reshape(mask.size, -1) for x in (student, teacher))
    t = jnp.where(mask, jnp.broadcast_to(like(temperature, jnp.zeros(lead, wide)), lead), 1)
    held = max(1, chunk // classes)  # of rows of any array as wide as the vocabulary
    own, fixed = (student, head, bias, t.reshape(-1)), (teacher, teacher_head, teacher_bias, mask.reshape(-1))
    total, count = _summed(held, own, fixed), jnp.sum(mask).astype(wide)
    if axis is not None:
        total, count = lax.psum((total, count), axis)
    return total / jnp.maximum(count, 1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(held, own, fixed):
    """Σ kl over the rows that count. Only `own` has gradients."""

    def add(total, rows):
        return total + _of_chunk(*_logits(own, fixed, rows), *rows[2:]), None

    return lax.scan(add, jnp.zeros((), own[3].dtype), _chunks(held, own, fixed))[0]


def _forward(held, own, fixed):
    """The value, and its gradients, which the backward pass has only to scale."""
    features, head, bias, t = own

    def add(carry, rows):
        total, to_head, to_bias = carry
        student, teacher = _logits(own, fixed, rows)
        value, (slope, to_t) = jax.value_and_grad(_of_chunk, (0, 2))(student, teacher, *rows[2:])
        to_bias = None if bias is None else to_bias + jnp.sum(slope, 0)
        slope = slope.astype(head.dtype)
        to_head = _add_product(to_head, rows[0].T, slope, held)
        return (total + value, to_head, to_bias), (_product(slope, head.T, t.dtype), to_t)

    start = jax.tree.map(lambda x: jnp.zeros(x.shape, t.dtype), (t[:0].sum(), head, bias))
    (total, to_head, to_bias), of_rows = lax.scan(add, start, _chunks(held, own, fixed))
    to_features, to_t = (jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])[: len(t)] for x in of_rows)
    return total, ((to_features, to_head, to_bias, to_t), (features[:0], head[:0]))


def _backward(held, kept, slope):
    del held
    (to_features, to_head, *rest), low = kept
    cast = [(slope * g).astype(x.dtype) for g, x in zip((to_features, to_head), low, strict=True)]
    return (*cast, *jax.tree.map(lambda g: slope * g, rest)), None


_summed.defvjp(_forward, _backward)


def _of_chunk(student, teacher, t, mask):
    return jnp.sum(jnp.where(mask, kl(student, teacher, temperature=t), 0))


def _chunks(held, own, fixed):
    """The rows' arrays as [chunks, rows, …], filled up with rows that do not count.

    A chunk takes its rows from all over the batch, so that rows which are spread over a mesh stay where they are.
    """
    features, _, _, t = own
    teacher, _, _, mask = fixed
    count = max(1, -(-len(t) // held))
    rows = max(1, -(-len(t) // count))

    def cut(x, fill=0):
        x = jnp.pad(x, [(0, rows * count - len(t))] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
        return jnp.moveaxis(x.reshape(rows, count, *x.shape[1:]), 1, 0)

    return cut(features), cut(teacher), cut(t, 1), cut(mask)


def _logits(own, fixed, rows):
    pairs = zip(rows[:2], (own, fixed), strict=True)
    made = ((_product(x, head, own[3].dtype), bias) for x, (_, head, bias, _) in pairs)
    return [z if bias is None else z + bias[None] for z, bias in made]


def _product(a, b, dtype):
    return jnp.matmul(a, b, precision="highest", preferred_element_type=dtype)


def _add_product(total, a, b, held):
    """total + a b, in place and a few rows at a time: no second array of total's size appears."""
    height = min(held, len(total))

    def add(start, size, total):
        before, factor = (lax.dynamic_slice_in_dim(x, start, size) for x in (total, a))
        return lax.dynamic_update_slice_in_dim(total, before + _product(factor, b, total.dtype), start, 0)

    blocks = len(total) // height
    total = lax.fori_loop(0, blocks, lambda i, total: add(i * height, height, total), total)
    return add(blocks * height, len(total) % height, total) if len(total) % height else total


def _one_dtype(x, head):
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(x, head)
    return x.astype(dtype), head.astype(dtype)
