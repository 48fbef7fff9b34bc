"""The peers' side: torchdistill by its own API, and plain PyTorch loops."""

import logging
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers import torch_models
from benchmarks.peers.setting import BATCH, LEARNING_RATE, TEMPERATURE, WEIGHT_DECAY


class Rows(Dataset):
    """`(inputs, label)` of a row in memory."""

    def __init__(self, folder: pathlib.Path):
        self.held = dict(np.load(folder / "rows.npz"))
        pictures = np.ascontiguousarray(self.held["image"].transpose(0, 3, 1, 2))
        inputs = {"ids": self.held["text.ids"], "mask": self.held["text.mask"], "image": pictures}
        self.inputs = {k: torch.from_numpy(v) for k, v in inputs.items()}
        self.labels = torch.from_numpy(self.held["label"]).long()
        self.order = self.held["order"].reshape(-1).tolist()  # as ours draws them

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return {k: v[row] for k, v in self.inputs.items()}, self.labels[row]


def loaded(folder):
    """Teacher and student with our weights."""
    weights = np.load(folder / "weights.npz")
    own = {
        name: {k.partition("/")[2]: weights[k] for k in weights if k.startswith(name + "/")}
        for name in ("teacher", "student", "connector")
    }
    teacher, student = torch_models.models()
    torch_models.load(teacher, own["teacher"])
    torch_models.load(student, own["student"], own["connector"])
    return teacher, student


def torchdistill(folder: pathlib.Path):
    """As torchdistill's own examples train: a distillation box, its hooks, losses, optimizer and loader."""
    logging.disable(logging.INFO)
    # beside a CPU build of torch, the index's torchvision lacks its compiled operators; its import asks for these two
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchdistill.core.distillation import get_distillation_box

    teacher, student = loaded(folder)
    rows = Rows(folder)
    config = {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "rows",
            "sampler": {"class_or_func": lambda dataset: dataset.org_dataset.order},
            "kwargs": {"batch_size": BATCH, "num_workers": 0},
        },
        "teacher": {
            "forward_proc": "forward_batch_only",
            "requires_grad": False,
            "forward_hook": {"input": [], "output": ["embed", "head"]},
        },
        "student": {
            "forward_proc": "forward_batch_only",
            "requires_grad": True,
            "forward_hook": {"input": [], "output": ["connector", "head"]},
        },
        "optimizer": {"key": "AdamW", "kwargs": {"lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "sub_terms": {
                    "kd": {
                        "criterion": {
                            "key": "KDLoss",
                            "kwargs": {
                                "student_module_path": "head",
                                "student_module_io": "output",
                                "teacher_module_path": "head",
                                "teacher_module_io": "output",
                                "temperature": TEMPERATURE,
                                "alpha": 1.0,
                                "beta": 1.0,
                                "reduction": "batchmean",
                            },
                        },
                        "weight": 1.0,
                    },
                    "hint": {
                        "criterion": {"key": "MSELoss", "kwargs": {}},
                        "criterion_wrapper": {
                            "key": "SimpleLossWrapper",
                            "kwargs": {
                                "input": {"is_from_teacher": False, "module_path": "connector", "io": "output"},
                                "target": {"is_from_teacher": True, "module_path": "embed", "io": "output"},
                            },
                        },
                        "weight": 1.0,
                    },
                },
            },
        },
    }
    box = get_distillation_box(teacher, student, {"rows": rows}, config, torch.device("cpu"), None, False, 1)
    box.pre_epoch_process(epoch=0)
    batches = iter(box.train_data_loader)

    def run(steps: int) -> float:
        total = 0.0
        for _ in range(steps):
            inputs, labels, more = next(batches)
            box.pre_forward_process()
            loss = box.forward_process(inputs, labels, more)
            box.post_forward_process(loss=loss)
            total += loss.item()  # its examples log every step's
        return total / steps

    return run


def plain(folder: pathlib.Path, *, cached: bool = False, compiled: bool = False):
    """A loop in eager mode; or torch.compile and a fused optimizer. `cached`: the teacher's answers are looked up."""
    teacher, student = loaded(folder)
    rows = Rows(folder)
    kept = [torch.from_numpy(rows.held[f"teacher.{k}"]) for k in ("logits", "embedding")] if cached else None
    optimizer = torch.optim.AdamW(
        student.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=compiled or None
    )
    batches = iter(DataLoader(rows, batch_size=BATCH, sampler=rows.order))
    order = iter(rows.held["order"])

    class Loss(nn.Module):
        """The teacher, the student and the sum of the three terms."""

        def __init__(self):
            super().__init__()
            self.teacher, self.student = teacher, student

        def forward(self, inputs, labels, answers):
            if answers is None:
                with torch.no_grad():
                    answers = self.teacher(inputs)
            logits, embedding = self.student(inputs)
            wanted = F.softmax(answers[0] / TEMPERATURE, -1)
            soft = F.kl_div(F.log_softmax(logits / TEMPERATURE, -1), wanted, reduction="batchmean")
            hard = F.cross_entropy(logits, labels)
            return hard + TEMPERATURE**2 * soft + F.mse_loss(embedding, answers[1])

    loss_of = torch.compile(Loss()) if compiled else Loss()

    def run(steps: int) -> float:
        total = 0.0
        for _ in range(steps):
            inputs, labels = next(batches)
            index = torch.from_numpy(next(order)).long()
            loss = loss_of(inputs, labels, None if kept is None else [x[index] for x in kept])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item()
        return total / steps

    return run
