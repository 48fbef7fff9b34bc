"""A run: late fusion is trained, distilled, evaluated, exported and predicted with; auxiliary terms count."""

import pathlib

import numpy as np
import pytest

from mmkd_jax import cli
from mmkd_jax.deploy import load
from mmkd_jax.experiment import RunOptions, definition, run
from tests.models.fusion import fused_experiment

EXPERIMENT = pathlib.Path(fused_experiment.__file__)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "fused"
    return folder, run(definition.load(EXPERIMENT), options=RunOptions(folder))


@pytest.mark.full
def test_late_fusion_is_trained_distilled_and_evaluated_and_auxiliary_terms_count(results):
    _, found = results
    for name in ("teacher", "student", "mixed"):
        assert found[name][0]["accuracy"] > 0.85
    last = {name: found[name][0]["history"][-1] for name in found}
    assert 0 < last["student"]["term soft"] < 2 and 0 < last["student"]["term soft image"] < 1
    assert {"term own image", "term own audio", "term balance"} < set(last["mixed"])
    # chance is log 3; the mean over steps would be millions, were rows without the modality counted
    assert max(last["mixed"][f"term own {m}"] for m in ("image", "audio")) < np.log(3)
    assert 1 <= last["mixed"]["term balance"] < 3 / 2


@pytest.mark.full
def test_a_student_with_late_fusion_predicts_rows_that_lack_a_modality(results):
    folder, _ = results
    columns = fused_experiment.columns()
    given = {
        m: [x if here else None for x, here in zip(columns[m], columns[f"present.{m}"], strict=True)]
        for m in ("image", "audio")
    }
    found = load(folder, "student").predict(given)
    right = np.array(["low", "middle", "high"])[columns["label"]] == found.prediction
    assert right.mean() > 0.85
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, np.exp(found.outputs["logits"]), rtol=1e-4, atol=1e-6)


@pytest.mark.full
@pytest.mark.parametrize("form", ["stablehlo", "onnx"])
def test_late_fusion_is_exported(results, form, capsys):
    folder, _ = results
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", str(folder), "student", "--to", form, "--experiment", str(EXPERIMENT)])
    said = capsys.readouterr().err
    assert ended.value.code == 0 and "48 test rows" in said and "100.00% of the predictions are the same" in said
