"""Bad input is refused in words: the loss, the argument, what it is. All from annotations, so for every loss."""

import types
from typing import Literal, Union, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify

from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import term
from mmkd_jax.core.outputs import Outputs
from mmkd_jax.errors import UserError
from mmkd_jax.typing import Positive, Share
from tests.losses.harness import arrays, every, only

OUTSIDE = {Positive: (0, -1.5, np.float32(0), float("nan")), Share: (-0.1, 1.5, float("nan"))}


def places(case):
    """Each array: its name in messages, what may stand there, the array, and all inputs with another in its place."""
    given = {k: v for k, v in case.inputs.items()} | ({"where": np.ones(case.rows, bool)} if case.couples else {})
    for name, value in given.items():
        annotation = case.parameters[name].annotation
        if not isinstance(value, tuple):
            yield name, members(annotation), value, lambda new, name=name: given | {name: new}
            continue
        inner = get_args(annotation)
        for i, x in enumerate(value):

            def changed(new, name=name, value=value, i=i):
                return given | {name: (*value[:i], new, *value[i + 1 :])}

            yield f"{name}[{i}]", members(inner[0 if inner[-1] is ... else i]), x, changed


def members(annotation):
    """The kinds of array of a union, or the one."""
    several = get_origin(annotation) in (Union, types.UnionType)
    return [m for m in (get_args(annotation) if several else [annotation]) if hasattr(m, "dim_str")]


def variadic(dim):
    return dim == "..." or dim.startswith("*")


def axes(kinds, x):
    """The names of an array's axes; those under one name are numbered; `...` and `_` are no names."""
    for kind in kinds:
        dims = kind.dim_str.split()
        extra = x.ndim - len(dims) + 1
        if x.dtype.name not in kind.dtypes:
            continue
        if any(map(variadic, dims)) and extra >= 0:
            return [n for d in dims for n in ([d + str(i) for i in range(extra)] if variadic(d) else [d])]
        if len(dims) == x.ndim:
            return dims
    raise AssertionError(f"no annotation fits {x.dtype}{list(x.shape)}")


def refusal(case, inputs, **options):
    """What is said when the loss is traced: first its name."""
    with pytest.raises(UserError) as caught:
        jax.eval_shape(lambda x: case.loss(**x, **case.hyper | options), inputs)
    name, _, message = str(caught.value).partition(": ")
    assert name == case.loss.__name__
    return message


def bound(case, inputs, **options):
    """The loss in a term, over a batch of these inputs."""
    batch, paths = {}, {}
    for name, value in inputs.items():
        leaves = {f"{name}.{i}": x for i, x in enumerate(value)} if isinstance(value, tuple) else {name: value}
        batch |= leaves
        found = tuple(f"batch.{n}" for n in leaves)
        paths[name] = found if isinstance(value, tuple) else found[0]
    outputs = Outputs(batch, {}, {}, StepContext(jnp.int32(0), jax.random.key(0)))
    objective = term(case.loss, **paths, **case.hyper | options)
    return objective.apply(*objective.init(outputs), outputs)


@every
def test_another_kind_of_array(case):
    """Integers in the place of floats, floats in that of integers."""
    for name, kinds, x, changed in places(case):
        for kind in (np.int32, np.float32, np.bool_):
            if not any(np.dtype(kind).name in k.dtypes for k in kinds):
                said = refusal(case, changed(np.zeros(x.shape, kind)))
                assert said.startswith(f"{name} is {np.dtype(kind).name}{list(x.shape)}; expected "), said


@every
def test_another_rank(case):
    for name, kinds, x, changed in places(case):
        dims = [k.dim_str.split() for k in kinds]
        if not any(variadic(d) for ds in dims for d in ds):
            assert refusal(case, changed(x[None])).startswith(f"{name} is ")
        if all(any(not variadic(d) for d in ds) for ds in dims):
            assert refusal(case, changed(x.ravel()[0])).startswith(f"{name} is ")


@every
def test_axes_that_do_not_agree(case):
    """One longer than the axis of the same name of another argument; both are named."""
    named = {name: axes(kinds, x) for name, kinds, x, _ in places(case)}
    tried = 0
    for name, _, x, changed in places(case):
        others = {d for other, ds in named.items() if other != name for d in ds}
        for i, d in enumerate(named[name]):
            if d in others and d[0] not in "._":
                said = refusal(case, changed(np.concatenate([x, x.take([0], i)], i)))
                assert name in said and (said.startswith(name) or said.split("; expected")[0].endswith(f"in {name}"))
                tried += 1
    assert tried or len(named) == 1


@every
def test_no_array_at_all(case):
    inputs = arrays(case.inputs)
    for name, value in inputs.items():
        wrong = value[0] if isinstance(value, tuple) else [[1.0]]
        with pytest.raises(UserError, match=f"{case.loss.__name__}: {name} is .*; expected "):
            case.loss(**inputs | {name: wrong}, **case.hyper)


@every
def test_arguments_it_does_not_have_or_lacks(case):
    inputs, name = arrays(case.inputs), case.loss.__name__
    with pytest.raises(TypeError, match=rf"{name}\(\) has no argument 'temprature'; it has: .*{next(iter(inputs))}"):
        case.loss(**inputs, **case.hyper, temprature=1.0)
    with pytest.raises(UserError, match=f"{name} has no argument 'temprature'"):
        bound(case, inputs, temprature=1.0)
    first = next(k for k, p in case.parameters.items() if p.default is p.empty)
    with pytest.raises(TypeError, match=rf"{name}\(\): .*'{first}'"):
        case.loss(**{k: x for k, x in inputs.items() if k != first}, **case.hyper)


@only(lambda case: case.numbers)
def test_numbers_out_of_range(case):
    """Python's own, in a call and in a term; what is traced has no value yet."""
    inputs = arrays(case.inputs)
    for k in case.numbers:
        for value in (*OUTSIDE.get(case.parameters[k].annotation, ()), "4"):
            said = refusal(case, inputs, **{k: value})
            assert said.startswith(f"{k} is ") and "expected a number" in said
            if value != "4":  # a path, in a term
                with pytest.raises(UserError, match=f"{case.loss.__name__}: {k} is .*; expected a number"):
                    bound(case, inputs, **{k: value})


@only(lambda case: case.numbers)
def test_numbers_of_another_shape(case):
    """They would broadcast over rows, classes or channels, and nothing would notice."""
    for name in case.numbers:
        for shape in ((case.rows + 1,), (case.rows, 1), (1, case.rows)):
            said = refusal(case, case.inputs, **{name: jnp.full(shape, 0.5)})
            assert f"{name} is float32{list(shape)}" in said and "expected a scalar" in said


@only(lambda case: any(get_origin(p.annotation) is Literal for p in case.parameters.values()))
def test_words_that_are_not_offered(case):
    for k, p in case.parameters.items():
        if get_origin(p.annotation) is Literal:
            said = refusal(case, arrays(case.inputs), **{k: "none of them"})
            assert said.startswith(f"{k} is 'none of them'; expected ") and repr(p.default) in said


def classes(case):
    """How many classes the integer labels of a case may name; 0 where it has none."""
    if "labels" not in case.inputs or case.inputs["labels"].dtype.kind != "i":
        return 0
    return next((x.shape[axes(kinds, x).index("c")] for _, kinds, x, _ in places(case) if "c" in axes(kinds, x)), 0)


@only(classes)
def test_labels_out_of_range(case):
    """Where they are known, in a call and in a term; under jit, for whoever asks checkify."""
    inputs, c, name = arrays(case.inputs), classes(case), case.loss.__name__
    safe = jax.jit(checkify.checkify(lambda x: case.loss(**x, **case.hyper), errors=checkify.user_checks))
    assert safe(inputs)[0].get() is None
    for bad in (c, -1):
        wrong = inputs | {"labels": inputs["labels"].at[..., -1].set(bad)}
        for call, error in ((lambda x: case.loss(**x, **case.hyper), UserError), (lambda x: bound(case, x), UserError)):
            with pytest.raises(error, match=f"{name}: labels contain {bad}; expected 0 … {c - 1}"):
                call(wrong)
        said = safe(wrong)[0].get()
        assert f"{name}: labels go from" in said and f"expected 0 … {c - 1}" in said and str(bad) in said


@every
def test_a_term_says_the_same(case):
    inputs = arrays(case.inputs)
    name, value = next(iter(inputs.items()))
    wrong = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.complex64), value)
    with pytest.raises(UserError, match=rf"{case.loss.__name__}: {name}.* is complex64.*; expected "):
        bound(case, inputs | {name: wrong})
