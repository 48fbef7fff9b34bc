"""A student of a pretrained family as a folder that transformers loads, with its model card."""

import pathlib

import pytest

from mmkd_jax import cli, pretrained

EXPERIMENT = """
import dataclasses
import numpy as np
import optax
import mmkd_jax as mmkd
from mmkd_jax.models import Bert, Encoders, TransformerConfig


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 1


config = Config()


def trainings(config):
    draw, label = np.random.default_rng(0), (np.arange(16) % 2).astype(np.int32)
    columns = {"text.ids": draw.integers(0, 9, (16, 6)).astype(np.int32), "text.mask": np.ones((16, 6), bool)}
    rows = mmkd.data.from_columns({**columns, "label": label}, "made-up", classes=("no", "yes"))
    small = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=16)
    module = Encoders({"text": Bert(9, small, length=6, pooler=True)})
    loaded = mmkd.pretrained.Pretrained(module, mmkd.pretrained.initial(module), lambda texts: {}, "bert")
    student = mmkd.pretrained.with_head(loaded, ("no", "yes"))
    task, data = mmkd.tasks.classification(2), mmkd.data.InMemory(rows, 16)
    return {
        "tuned": mmkd.Training(
            models={"student": mmkd.Trained(student)},
            objective=mmkd.combine(task=task.objective("student")),
            optimizer=optax.adam(1e-3), task=task, data=data, validation=data, test=data, steps=2,
        )
    }
"""


def test_a_folder_for_transformers_is_read_again_and_has_a_card(tmp_path, capsys):
    (tmp_path / "texts.py").write_text(EXPERIMENT)
    for words in (
        ["run", tmp_path / "texts.py", "--out", tmp_path / "run"],
        ["export", tmp_path / "run", "tuned", "--to", "hf", "--out", tmp_path / "hub"],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main([*map(str, words)])
        assert ended.value.code == 0, capsys.readouterr().err
    assert "with the folder read again by pretrained.load" in capsys.readouterr().err
    again = pretrained.load(tmp_path / "hub")
    assert again.kind == "bert" and again.labels == ("no", "yes")
    card = pathlib.Path(tmp_path / "hub" / "README.md").read_text()
    assert "made-up, 16 training rows; license: unknown" in card and "classes: no, yes" in card
    assert "- `task`: reads" in card and "accuracy on the test split" in card
