"""Tune a pretrained text classifier whole, by low-rank adapters, by prompts, or only its head.

    mmkd explain experiments/adapters.py          # what each training trains
    mmkd run experiments/adapters.py --out runs/adapters

Is a text negative or positive? MiniLM is tuned on 2,000 labeled texts. The seconds are in `timings.json` of the run.
"""

import dataclasses
import sys
from typing import Any

import numpy as np
import optax

import mmkd_jax as mmkd

CLASSES = ("negative", "positive")


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of the experiment."""

    seeds: int = 3
    """Number of seeds per training."""
    steps: int = 100
    """Training steps."""
    batch: int = 16
    """Batch size."""
    labels: int = 2_000
    """Number of labeled texts."""
    rank: int = 8
    """Rank of the adapters."""
    prompts: int = 16
    """Number of prompts."""


config = Config()
baseline = "whole"


def split(name: str) -> mmkd.data.Dataset:
    """Return the texts that are rated negative or positive on average, with that class as their label."""
    rows = mmkd.data.load_or_prepare("sentiment_intensity", name)
    rating = rows.columns["rating"]
    labeled = rows.with_columns(label=(rating > 0).astype(np.int32), rated=rating != 0).where("rated")
    return dataclasses.replace(labeled, about={**labeled.about, "classes": CLASSES})


def trainings(config: Config) -> dict[str, mmkd.Training]:
    loaded = mmkd.pretrained.with_head(mmkd.pretrained.load(mmkd.pretrained.packages.minilm()), CLASSES)
    prompted = mmkd.pretrained.with_prompts(loaded, config.prompts)
    rows = {name: mmkd.data.tokenize(split(name), {loaded.processor: 40}) for name in ("train", "validation", "test")}
    chosen = np.random.default_rng(0).permutation(rows["train"].size) < config.labels
    task = mmkd.tasks.classification(len(CLASSES))

    def tuned(model: Any, rate: float, source: Any) -> mmkd.Training:
        schedule = optax.warmup_cosine_decay_schedule(0, rate, max(1, config.steps // 10), config.steps)
        return mmkd.Training(
            models={"teacher": mmkd.Trained(model, init_from=source)},
            objective=mmkd.combine(task=task.objective("teacher")),
            optimizer=optax.adamw(schedule, weight_decay=1e-2),
            task=task,
            data=mmkd.data.InMemory(rows["train"].with_columns(labelled=chosen).where("labelled"), config.batch),
            validation=mmkd.data.InMemory(rows["validation"], 250),
            test=mmkd.data.InMemory(rows["test"], 250),
            steps=config.steps,
            evaluate_every=max(1, config.steps // 2),
            save_every=10_000,
        )

    adapted = mmkd.models.low_rank(loaded.model, config.rank)
    prompts = mmkd.models.frozen_except(prompted.model, ("encoders_text.prompts", "heads_logits"))
    head = mmkd.models.frozen_except(loaded.model, "heads_logits")
    return {
        "whole": tuned(loaded.model, 1e-4, loaded.source),
        "adapters": tuned(adapted, 2e-3, loaded.source),
        "prompts": tuned(prompts, 1e-2, prompted.source),
        "head": tuned(head, 1e-2, loaded.source),
    }


if __name__ == "__main__":
    mmkd.main(["run", __file__, *sys.argv[1:]])
