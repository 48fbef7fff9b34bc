"""The pages of the docs that are made of the recordings: `python -m tests.losses.golden.pages` writes them anew."""

import pathlib
import re
from collections import Counter
from typing import Any

import numpy as np

from mmkd_jax.cli.catalogue import entries
from tests.losses.golden import ROWS
from tests.losses.golden.recorded import cases, compare, departure, row_of

DOCS = pathlib.Path(__file__).resolve().parents[3] / "docs"
VERDICTS = {"equal": "equal", "composed": "equal when composed", "differs": "differs on purpose"}
# what papers call one method, the recordings keep apart
METHODS = {
    "KD": (
        "kd",
        "kl_div",
        "kd_ce",
        "kd_ce_dynT",
        "kd_mse_prob",
        "kd_mse",
        "kd_topk",
        "kd_masked_feature",
        "skd_instance",
    ),
    "Generalized JSD (GKD)": ("gkd_jsd",),
    "Cross-entropy": ("ce", "soft_ce", "bce"),
    "DKD, NKD": ("dkd", "nkd"),
    "DIST": ("dist", "dist_plus"),
    "Logit standardization": ("logit_std_kd", "logit_std_dkd"),
    "WSLD, MLKD, MFT": ("wsld", "mlkd_cc", "mlkd_bc", "mft"),
    "RKD": ("rkd", "rkd_distance", "rkd_angle"),
    "SP, CC, PKT, DarkRank": ("sp", "sp_l1", "cc", "pkt", "hard_dark_rank"),
    "FitNets hint, L2": ("hint", "hint_convreg", "l2", "pkd", "pkd_pearson", "pad_l2", "cos"),
    "AT": ("at", "at_paper", "at_kdlib"),
    "FSP, NST": ("fsp", "nst", "gram_fsp", "mmd_nst"),
    "AB, OFD": ("ab", "ofd"),
    "FT, KTA": ("ft", "kta"),
    "CWD, ICKD, affinity": ("cwd", "ickd", "affinity"),
    "VID": ("vid",),
    "ReviewKD": ("hcl", "reviewkd_abf"),
    "SemCKD, SRRL, SimKD": ("semckd", "srrl", "simkd"),
    "Attention and hidden states": (
        *("attention_mse", "attention_mse_sum", "attention_ce", "attention_ce_mean", "hidden_mse"),
    ),
    "CRD": ("crd",),
    "Others": ("skd_direction", "srd", "sskd", "sskd_aux", "kdsvd"),
}

# departures that no value of a loss shows
OUTSIDE = (
    "mdistiller's VID does not pass its variances to the optimizer, so they are never trained.",
    "mdistiller's OFD runs the teacher in training mode, so its BatchNorm statistics change.",
    "torchdistill's CRD cannot sample negatives itself: it reads an attribute that does not exist.",
)


def golden() -> str:
    """Every recorded case with its verdict."""
    rows = {id_: row_of(ROWS, id_) for id_ in cases()}
    count = Counter(r.verdict for r in rows.values())
    lines = [
        "# Recorded values of published implementations",
        "",
        f"Values and gradients of {len(rows)} cases, recorded in float64 (float32 if the original supports nothing "
        "else) and compared with ours by `pytest tests/losses/test_golden.py`. Equal means within 1e-9 of the largest "
        "recorded magnitude, or 1e-6 if the original has a float32 constant. An id names loss, origin and inputs: "
        "`8x10` is eight rows of ten classes or features; `6x12v20`, six rows of twelve features for the student and "
        "twenty for the teacher; `fm`, feature maps (`up`: the teacher's are larger; `diff`: the channels differ); "
        "`tok`, tokens; `T4`, temperature 4.",
        "",
        "| verdict | cases |",
        "| --- | ---: |",
        *(f"| {VERDICTS.get(v, v)} | {count[v]} |" for v in ("equal", "composed", "differs", "not offered")),
    ]
    for method, names in METHODS.items():
        inside = {i: r for i, r in rows.items() if cases()[i]["loss"] in names}
        if not inside:
            continue
        lines += ["", f"## {method}", "", "| case | verdict | within | |", "| --- | --- | --- | --- |"]
        for id_, row in inside.items():
            lines.append(f"| `{id_}` | {VERDICTS.get(row.verdict, row.verdict)} | {_within(id_, row)} | {row.why} |")
    lines += [
        "",
        "## Paper only",
        "",
        "No values are recorded for these. Each loss is compared with its paper's formula in plain NumPy and passes "
        "the contract ([checks](checks.md)); each method and recipe has tests of its mechanism:",
        "",
        ", ".join(f"`{name}`" for name in unrecorded()) + ".",
    ]
    return "\n".join(lines) + "\n"


def unrecorded() -> list[str]:
    """What the catalogue has and no file beside this one names."""
    text = "".join(file.read_text() for file in pathlib.Path(__file__).parent.glob("*.py"))
    named = set(re.findall(r"\b(?:losses|methods)\.(\w+)", text))
    return [e.name for e in entries() if e.name.rpartition(".")[2] not in named]


def others() -> str:
    """How far each implementation is from the paper's loss."""
    lines = [
        "# Differences from other toolkits",
        "",
        "Published losses as other toolkits compute them, compared on recorded inputs with the loss of the paper in "
        "`mmkd_jax`: their value and gradient norm as multiples of ours, and the cosine between the gradients. Of "
        "several recorded cases, the table shows the one that differs most. A constant factor can be absorbed in the "
        "loss weight, but then a weight copied from the paper has a different effect; a cosine below 1 means that the "
        "losses differ. The implementations are those at the given commits; "
        "`python -m tests.losses.golden.pages` generates this page.",
    ]
    for method, names in METHODS.items():
        worst: dict[tuple[str, str, str], Any] = {}
        for id_, case in cases().items():
            if case["loss"] in names:
                row = row_of(ROWS, id_)
                place = (row.cases, case["repo"], case["symbol"])
                worst[place] = max(worst.get(place, (-1.0,)), (*_departure(case, row), id_, row.why))
        found = []
        for (_, repo, symbol), (_, numbers, id_, why) in worst.items():
            link = f"[{repo.split('/')[-1]}](https://github.com/{repo}) `{cases()[id_]['commit'][:7]}`"
            found.append(f"| {link if '/' in repo else repo} | `{symbol}` | `{id_}` | {numbers} | {why} |")
        if found:
            head = "| toolkit | symbol | recorded case | value × | gradient × | cosine | |"
            lines += ["", f"## {method}", "", head, "| --- | --- | --- | ---: | ---: | ---: | --- |", *found]
    seen = {row_of(ROWS, id_).cases for id_ in cases()}
    unseen = [r for r in ROWS if r.cases not in seen and (r.paper or r.verdict in ("differs", "not offered"))]
    lines += ["", "## Known from the code, not recorded", ""]
    lines += [f"- `{r.cases.removesuffix('.*')}`: {r.why}" for r in unseen]
    lines += [f"- {fact}" for fact in OUTSIDE]
    return "\n".join(lines) + "\n"


def _within(id_, row) -> str:
    if row.ours is None:
        return ""
    if row.verdict == "differs":
        return "{:.1e}, gradient {:.1e}".format(*compare(cases()[id_], row))
    return "1e-9" if cases()[id_]["dtype"] == "float64" and not row.single else "1e-6"


def _departure(case, row) -> tuple[float, str]:
    """How far the two are apart, and the same in figures."""
    function = row.ours if row.verdict == "differs" else row.paper
    if row.verdict == "not offered" or (row.verdict == "differs" and function is None):
        return 0.0, " |  | "
    if function is None:
        return 0.0, "1 | 1 | 1"
    value, gradient, cosine = departure(case, function)
    return abs(np.log(gradient)) + 1 - cosine, f"{value:.3g} | {gradient:.3g} | {cosine:.3f}"


if __name__ == "__main__":
    (DOCS / "golden.md").write_text(golden())
    (DOCS / "what-others-compute.md").write_text(others())
