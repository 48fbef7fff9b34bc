"""The list of losses says of each what its docstring says, and holds the whole inventory."""

import json
import pathlib
import re

import pytest

from mmkd_jax import cli
from mmkd_jax.cli import catalogue
from mmkd_jax.errors import UserError

DOCS = pathlib.Path(__file__).parents[2] / "docs"
ENTRIES = {e.name: e for e in catalogue.entries()}
# an entry of the inventory, and where it is; what stands in brackets in the papers is a keyword here
INVENTORY = {
    "logits": {
        "cross-entropy: hard, soft, smoothed": ["cross_entropy"],
        "class-weighted": ["weighted_cross_entropy", "weighted_kl"],
        "KD": ["kl"],
        "reverse KL": ["reverse_kl"],
        "generalized JSD": ["jsd"],
        "MSE of logits": ["logit_mse"],
        "MSE of probabilities": ["probability_mse"],
        "multi-label": ["binary_kl", "binary_cross_entropy"],
        "ordinal": ["ordinal_coral", "ordinal_corn"],
        "DKD": ["dkd"],
        "NKD": ["nkd"],
        "DIST": ["dist"],
        "logit standardization": ["standardize"],
        "WSLD": ["wsld"],
        "MLKD": ["mlkd_batch", "mlkd_class"],
        "top-k KL": ["topk_kl"],
        "MFT": ["mft"],
        "the non-target classes of C2KD": ["non_target_kl"],
        "large vocabularies": ["chunked_kl"],
    },
    "regression": {
        "between Gaussians": ["gaussian_kl"],
        "teacher-bounded": ["bounded_regression"],
        "plain": ["mse", "l1", "huber"],
    },
    "features": {
        "FitNets": ["hint"],
        "cosine": ["cosine"],
        "PKD": ["normalized_l2", "pearson"],
        "AT": ["attention_transfer"],
        "FSP": ["fsp"],
        "NST": ["nst"],
        "VID": ["vid", "methods.vid"],
        "AB": ["activation_boundary"],
        "OFD": ["ofd", "methods.ofd"],
        "FT": ["factor_transfer", "methods.factor_transfer"],
        "CWD": ["cwd"],
        "ICKD": ["ickd"],
        "affinity": ["affinity"],
        "PAD": ["pad_l2", "methods.pad"],
        "SRRL": ["srrl", "methods.srrl"],
        "SimKD": ["simkd"],
        "ReviewKD": ["hcl", "methods.reviewkd"],
        "SemCKD": ["semckd", "methods.semckd"],
        "MGD": ["mgd", "methods.mgd"],
        "CKA": ["cka"],
    },
    "attention": {
        "TinyBERT": ["attention_mse", "attention_kl"],
        "MiniLM": ["minilm_relations"],
        "hidden states": ["hidden_mse"],
        "CLS-patient": ["patient"],
        "Gram over layers": ["token_fsp", "token_nst"],
    },
    "relational": {
        "SP": ["sp"],
        "CC": ["cc"],
        "PKT": ["pkt"],
        "RKD": ["rkd_distance", "rkd_angle"],
        "DarkRank": ["dark_rank"],
        "MMANet": ["mmanet"],
        "Switch Transformers": ["load_balancing"],
    },
    "contrastive": {
        "InfoNCE": ["info_nce"],
        "SigLIP": ["siglip"],
        "CLIP": ["methods.contrast"],
        "CRD": ["methods.crd"],
        "CompRess": ["compress", "methods.compress"],
        "SEED": ["seed", "methods.seed"],
        "CLIP-KD: FD": ["clip_fd"],
        "CLIP-KD: MFD": ["methods.clip_mfd"],
        "CLIP-KD: CRD": ["clip_crd"],
        "CLIP-KD: ICL": ["clip_icl"],
        "CLIP-KD: GD": ["clip_gd"],
        "CLIP-KD: AFD": ["methods.clip_afd"],
        "CLIP-KD": ["methods.clip_kd"],
        "TinyCLIP": ["tinyclip"],
        "MobileCLIP": ["mobileclip"],
        "DIME-FM": ["dime_vl", "dime_pseudo_vl", "dime_unimodal"],
        "UMT": ["methods.umt"],
        "MKE": ["methods.mke"],
        "C2KD": ["methods.c2kd"],
        "DMD": ["methods.dmd"],
        "CCL": ["ccl", "methods.ccl"],
    },
    "ranking": {
        "in-batch negatives": ["in_batch_nll"],
        "TAS-B": ["in_batch_kl", "margin_mse"],
        "listwise": ["listwise_kl"],
        "ColBERT": ["max_sim"],
    },
    "alignment": {
        "of features": ["methods.feature_alignment"],
        "of subspaces": ["methods.subspace_alignment"],
        "of labels": ["agreement_jsd", "agreement_kl", "methods.label_alignment"],
        "CCA and Deep CCA": ["cca"],
        "CORAL": ["coral"],
        "CMD": ["cmd"],
        "MMD": ["mmd"],
        "principal angles": ["grassmann"],
        "entropic optimal transport": ["sinkhorn"],
    },
    "adversarial": {
        "ARD": ["methods.ard"],
        "RSLAD": ["methods.rslad"],
        "IAD": ["methods.iad"],
        "AdaAD": ["methods.adaad"],
        "TRADES": ["methods.trades"],
        "discriminator": ["methods.discriminator"],
        "FGSM": ["adversarial.fgsm"],
        "PGD": ["adversarial.pgd"],
    },
    "gradients": {
        "uncertainty weighting": ["gradients.uncertainty"],
        "GradNorm": ["gradients.gradnorm"],
        "PCGrad": ["gradients.pcgrad"],
        "CAGrad": ["gradients.cagrad"],
    },
    "structure": {
        "token-level KL under masks": ["methods.token_kd"],
        "word- and sequence-level KD": ["methods.word_kd", "methods.sequence_kd"],
        "on-policy distillation": ["methods.gkd"],
        "unlike vocabularies": ["uld"],
        "conditional random fields": ["crf_nll", "crf_marginal_kl"],
        "DIITO": ["methods.interchange"],
        "logic rules": ["methods.logic_rules"],
        "mutual learning": ["methods.dml"],
        "EMA teacher": ["methods.mean_teacher"],
        "several teachers": ["methods.multi_teacher"],
        "multimodal distillation": ["recipes.md"],
        "a student whose modalities may be missing": ["recipes.missing_modalities"],
        "cross-modal transfer": ["recipes.cross_modal_transfer"],
        "modality hallucination": ["recipes.hallucination"],
        "born-again networks": ["recipes.born_again"],
        "an unlabelled transfer set": ["recipes.label_free"],
        "teacher assistants": ["recipes.teacher_assistant"],
        "staged hints": ["recipes.staged_hints"],
    },
}


@pytest.mark.parametrize("topic", INVENTORY)
def test_the_inventory_is_there(topic):
    for entry, names in INVENTORY[topic].items():
        for name in names:
            assert name in ENTRIES, f"{entry}: {name}"
            assert ENTRIES[name].topic == topic


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES.keys())
def test_each_field_says_something(entry):
    for field in ("line", "formula", "compares", "extra", "paper", "doc"):
        assert getattr(entry, field).strip(), field
    assert 1900 < entry.year < 2100
    assert not re.search(r"\d{4}", entry.link.partition("//")[0])
    assert "Example:" in entry.doc and "Args:" in entry.doc


def test_json_has_a_row_for_each(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["losses", "--json"])
    assert end.value.code == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in rows] == list(ENTRIES)
    assert all(set(r) == {"name", "topic", "formula", "source", "year", "compares", "extra"} for r in rows)


def test_one_loss_and_all(capsys):
    for words, said in ((["dkd"], "Decoupled"), ([], "kl · logits"), (["methods.crd"], "negatives")):
        with pytest.raises(SystemExit) as end:
            cli.main(["losses", *words])
        assert end.value.code == 0
        assert said in capsys.readouterr().out


def test_an_unknown_loss_is_answered_with_those_that_are_close(capsys):
    with pytest.raises(UserError, match="close to it: .*wsld"):
        catalogue.describe("wsd")
    with pytest.raises(SystemExit) as end:
        cli.main(["losses", "wsd"])
    assert end.value.code == 2
    assert "no loss 'wsd'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "first"),
    [
        ("losses.kl", "kl("),
        ("crd", "methods.crd("),
        ("mtsd", "recipes.mtsd("),
        ("GKD", "methods.gkd("),
        ("Methods.CRD", "methods.crd("),
        ("ccl", "ccl("),
        ("pgd", "adversarial.pgd("),
        ("gradients.total", "gradients.total("),
    ],
)
def test_a_name_may_lack_its_prefix_or_have_another_case(word, first):
    assert catalogue.describe(word).startswith(first)


def test_the_page_of_the_docs_is_up_to_date():
    assert (DOCS / "losses.md").read_text() == catalogue.markdown(), "mmkd losses --markdown > docs/losses.md"


def test_the_page_of_checks_knows_every_loss():
    page = (DOCS / "checks.md").read_text()
    missing = [n for n in ENTRIES if "." not in n and f"| `{n}` |" not in page]
    assert missing == [], "python -m tests.losses.checks"
