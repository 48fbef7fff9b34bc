"""KL over a vocabulary so large that the logits must never stand in memory as a whole."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import summed
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, like

PIECES = 8  # of a chunk, for what is done between the products with the heads: it needs several arrays


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
    chunk: int = 2**23,
    where: Bool[Array, "..."] | None = None,
    axis: str | None = None,
) -> Float[Array, ""]:
    """KD through the heads: `kl` of features and their heads' weights, whose logits are made and used in chunks.

    Formula: (1 / n) Σ_i T² KL(softmax((t_i U + a) / T) ‖ softmax((s_i W + b) / T)), the sum over the n rows that count

    The student's gradients are computed beside the value, chunk by chunk, so that no logits are kept or made twice.
    The head's gradient sums over rows: hence the mean is taken here, over the rows of `where`. In a term, the head is
    one more output of the model, `tap("head.kernel", kernel)`:
    `term(losses.chunked_kl, student="student.hidden.text.2", head="student.head.kernel",
    teacher="teacher.hidden.text.6", teacher_head="teacher.head.kernel", where="text.mask")`.
    The logits may be an output, too: what nobody reads is not computed. Microbatches join outputs by rows, which a head
    has not: they are refused.

    At 50,000 classes, 2048 rows, 256 features, float32, XLA counts 100 MiB of temporaries where the plain form has 2051
    (`python -m benchmarks.chunked_kl`).

    Args:
        student: features s, [..., d].
        teacher: features t, [..., e].
        head: the student's W, [d, c]. Features and head in bfloat16 are multiplied as such and added up in float32.
        teacher_head: the teacher's U, [e, c].
        bias: b, [c]; −inf in both biases removes a class.
        teacher_bias: a, [c].
        temperature: T > 0, a number or one per row.
        chunk: how many of a model's logits exist at a time, some 12 bytes each; at least 8 rows.
        where: rows that count, [...] or its leading axes.
        axis: the device axis in the per-device forms.

    Returns:
        The mean over the rows that count, on all devices; 0 if there are none. Gradients reach the student's features,
        head and bias, and the temperature; none reaches the teacher's. Reverse mode only (no `jvp`);
        under `shard_map` with check_vma=False, as everywhere here.

    Compares: features through their heads, as logits
    Extra: none; the heads' weights as outputs of the models
    Source: Hsu et al., Liger Kernel: Efficient Triton Kernels for LLM Training, 2024, https://arxiv.org/abs/2410.10989

    Example:
        >>> x, w = jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
        >>> float(chunked_kl(x, x, w, w))
        0.0
    """
    mask = jnp.ones(student.shape[:-1], bool)
    if where is not None:
        mask = mask & where.reshape(where.shape + (1,) * (mask.ndim - where.ndim))
    wide = at_least_float32(student[:0], teacher[:0], head[:0], teacher_head[:0])[0].dtype
    t = jnp.where(mask, jnp.broadcast_to(like(temperature, jnp.zeros(mask.shape, wide)), mask.shape), 1)
    own, fixed = _model(student, head, bias, mask, wide), _model(teacher, teacher_head, teacher_bias, mask, wide)
    held = max(1, chunk // head.shape[1])  # rows of any array as wide as the vocabulary
    total = summed(_total(held, own, fixed, t.reshape(-1), mask.reshape(-1)), axis)
    return total / jnp.maximum(summed(jnp.sum(mask), axis), 1).astype(wide)


class _Model(NamedTuple):
    features: Array
    head: Array
    bias: Array | None

    def logits(self, rows, dtype):
        z = _product(rows, self.head, dtype)
        return z if self.bias is None else z + self.bias.reshape((1,) * (z.ndim - 1) + (-1,))


def _model(features, head, bias, mask, wide):
    """Zeros in rows that do not count, so that whatever stands there reaches neither value nor gradient."""
    features = jnp.where(mask[..., None], features, 0).reshape(mask.size, features.shape[-1])
    with jax.numpy_dtype_promotion("standard"):
        narrow = jnp.result_type(features, head)
    return _Model(features.astype(narrow), head.astype(narrow), None if bias is None else bias.astype(wide))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _total(held, own, fixed, t, mask):
    """Σ kl over the rows that count. `fixed` has no gradients."""

    def add(total, chunk):
        own_rows, fixed_rows, t, mask = chunk
        return total + _of_rows(own.logits(own_rows, t.dtype), fixed.logits(fixed_rows, t.dtype), t, mask), None

    return lax.scan(add, jnp.zeros((), t.dtype), _chunks(held, own, fixed, t, mask))[0]


def _forward(held, own, fixed, t, mask):
    """The value, and its gradients, which the backward pass has only to scale."""

    def add(carry, chunk):
        total, to_head, to_bias = carry
        (own_rows, fixed_rows, t, mask), columns = chunk
        value, slope, to_t = _in_place(own.logits(own_rows, t.dtype), fixed.logits(fixed_rows, t.dtype), t, mask)
        to_bias = None if own.bias is None else to_bias + jnp.sum(slope, (0, 1))
        slope = slope.astype(own.head.dtype)
        to_head = _add_product(to_head, columns, slope.reshape(-1, slope.shape[-1]), held)
        return (total + value, to_head, to_bias), (_product(slope, own.head.T, t.dtype), to_t)

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, t.dtype), (own.head, own.bias))
    chunks = _chunks(held, own, fixed, t, mask)
    # turned here: as a transposed factor XLA's CPU refuses bfloat16
    columns = jnp.swapaxes(chunks[0].reshape(len(chunks[0]), -1, len(own.head)), 1, 2)
    (total, to_head, to_bias), of_rows = lax.scan(add, (jnp.zeros((), t.dtype), *zeros), (chunks, columns))
    to_rows, to_t = (jnp.moveaxis(x, 0, 2).reshape(-1, *x.shape[3:])[: len(t)] for x in of_rows)
    return total, (_Model(to_rows, to_head, to_bias), to_t, own.head[:0])


def _backward(held, kept, factor):
    del held
    (to_rows, to_head, to_bias), to_t, low = kept
    to_rows, to_head = ((factor * g).astype(low.dtype) for g in (to_rows, to_head))
    return _Model(to_rows, to_head, None if to_bias is None else factor * to_bias), None, factor * to_t, None


_total.defvjp(_forward, _backward)


def _of_rows(student, teacher, t, mask):
    return jnp.sum(jnp.where(mask, kl(student, teacher, temperature=t), 0))


def _in_place(student, teacher, t, mask):
    """A chunk's sum, its slopes in the place of the student's logits, and those by t."""

    def some(i, carry):
        total, z, to_t = carry
        piece = (lax.dynamic_index_in_dim(x, i, 1, keepdims=False) for x in (z, teacher, t, mask))
        value, slopes = jax.value_and_grad(_of_rows, (0, 2))(*piece)
        z, to_t = (lax.dynamic_update_index_in_dim(x, g, i, 1) for x, g in zip((z, to_t), slopes, strict=True))
        return total + value, z, to_t

    return lax.fori_loop(0, PIECES, some, (jnp.zeros((), t.dtype), student, t))


def _chunks(held, own, fixed, t, mask):
    """What the rows have, as [chunks, rows ÷ pieces, pieces, …], filled up with rows that do not count.

    Every chunk and piece takes its rows from all over the batch: where rows are spread over a mesh, they stay there.
    """
    count = max(1, -(-len(t) // max(held, PIECES)))
    few = max(1, -(-len(t) // (count * PIECES)))

    def cut(x, fill=0):
        x = jnp.pad(x, [(0, few * PIECES * count - len(t))] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
        return jnp.moveaxis(x.reshape(few, PIECES, count, *x.shape[1:]), 2, 0)

    return cut(own.features), cut(fixed.features), cut(t, 1), cut(mask)


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
