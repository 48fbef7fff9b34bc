"""CCL: the composition, its three contrasts, and who is taught by which."""

import dataclasses

import jax
import numpy as np
import pytest

from mmkd_jax.core.hyperparams import hyperparams_of
from mmkd_jax.core.objective import total
from mmkd_jax.errors import UserError
from mmkd_jax.methods import ccl
from tests.losses.formulas.common import divergence, softmax
from tests.losses.formulas.cross import ccl as contrast
from tests.methods.cross import first_outputs, without
from tests.methods.trained import gradients
from tests.small import compiled, gap

pytestmark = pytest.mark.usefixtures("strict")
TEACHERS = {m: f"{m}_teacher.embedding" for m in ("image", "audio")}
METHOD = ccl(TEACHERS, temperature=0.4, agreement=0.3, weight=0.2, where="labelled")


@pytest.mark.full
def test_values():
    outputs = first_outputs()
    params, state = compiled(METHOD).init(outputs)
    assert hyperparams_of(state).keys() == {"temperature", "agreement", "weight"}
    terms, after = METHOD.apply(params, state, outputs)
    assert after is state
    y = np.asarray(outputs.batch["label"])
    for m, path in TEACHERS.items():
        p = jax.tree.map(np.asarray, params[m])
        s, t, z = (np.asarray(outputs[x]) for x in ("student.embedding", path, "student.logits"))
        t = t @ p["adapt"]["Dense_0"]["kernel"] + p["adapt"]["Dense_0"]["bias"]
        both = np.concatenate([x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (t, s)], 1)
        c = t + both @ p["residual"]["kernel"] + p["residual"]["bias"]
        q = softmax(c @ p["classifier"]["kernel"] + p["classifier"]["bias"])
        rows = np.asarray(outputs.batch["valid"] & outputs.batch["labelled"] & outputs.batch.get(f"present.{m}", True))
        s, t, c, q, z, label = (x[rows] for x in (s, t, c, q, softmax(z), y))
        agree = 0.3 * (divergence(z, q) + divergence(q, z))
        own = contrast(s, c, label, 0.4, True) + contrast(s, t, label, 0.4, True) + agree
        entropy = -np.log(q[np.arange(len(q)), label])
        composed = contrast(s, c, label, 0.4, True) + contrast(c, t, label, 0.4, True) + agree + entropy
        for name, values in (("student", own), ("composition", composed)):
            np.testing.assert_allclose(terms[m][name].values[rows], values, rtol=1e-3, atol=1e-4)
        assert int(total(terms)[1][f"{m}.student"][1]) == rows.sum() > 2


@pytest.mark.slow
def test_the_composition_teaches_the_student_and_not_the_other_way_round():
    outputs, heard = first_outputs(), {"audio": TEACHERS["audio"]}
    to_params, to_outputs = gradients(ccl(heard, where="labelled"), outputs)
    zero = {m: jax.tree.map(np.zeros_like, g) for m, g in to_params.items()}
    assert all(gap(to_params[m][layer], zero[m][layer]) > 1e-5 for m in zero for layer in zero[m])
    assert np.abs(to_outputs["student"]["embedding"]).max() > 1e-4
    assert np.abs(to_outputs["student"]["logits"]).max() > 1e-5
    assert not any(np.any(g) for m in TEACHERS for g in to_outputs[f"{m}_teacher"].values())
    # the composition's own terms leave the student alone
    silent = ccl(heard, weight=0.0, where="labelled")
    to_params, to_outputs = gradients(silent, outputs)
    assert not any(np.any(g) for g in to_outputs["student"].values())
    assert all(gap(to_params[m][layer], zero[m][layer]) > 1e-5 for m in zero for layer in zero[m])


def test_of_equal_widths_the_teacher_is_taken_as_it_is():
    outputs = first_outputs()
    params, _ = ccl({"image": "student.embedding"}).init(outputs)
    assert params["image"].keys() == {"residual", "classifier"}


def test_refusals():
    outputs = first_outputs()
    with pytest.raises(UserError, match="no modality 'audio'"):
        compiled(METHOD).init(dataclasses.replace(outputs, batch=without(outputs.batch, "audio")))
    with pytest.raises(UserError, match="teachers is empty"):
        ccl({})


@pytest.mark.full
def test_a_cached_teachers_modality_may_be_there_by_its_mask_alone():
    outputs = first_outputs()
    told = dataclasses.replace(outputs, batch={k: x for k, x in outputs.batch.items() if k != "audio"})
    method = ccl({"audio": TEACHERS["audio"]}, where="labelled")
    params, state = compiled(method).init(told)
    one, other = (total(compiled(method).apply(params, state, v)[0])[0] for v in (told, outputs))
    assert float(one) == float(other)
