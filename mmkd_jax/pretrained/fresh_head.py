"""Untrained heads on pretrained encoders, to fine-tune a teacher."""

from collections.abc import Sequence

from mmkd_jax.errors import UserError, choices
from mmkd_jax.pretrained import heads
from mmkd_jax.pretrained.attributes import attributes
from mmkd_jax.pretrained.head_tensors import HEADS
from mmkd_jax.pretrained.loading import Pretrained

_PROJECTION = 256
"""Default width of the hidden layer of speech classifiers, `classifier_proj_size`."""


def with_head(
    loaded: Pretrained,
    labels: Sequence[str],
    architecture: str = "",
    problem: str = "single_label_classification",
) -> Pretrained:
    """Return a pretrained encoder with a new head, whose variables are random in each training.

    `Trained(with_head(…))` fine-tunes it, and `save` writes a folder that transformers reads as this architecture.

    Args:
        loaded: pretrained encoder; its own head is replaced.
        labels: names of the classes, in the order of the labels.
        architecture: architecture of transformers; the default is that of the family's classifier.
        problem: "single_label_classification", "multi_label_classification" or "regression".

    Raises:
        UserError: the family has no architecture of this name with names of classes, its head reads a pooler that the
            encoder lacks, or it has no other problem than classification.

    Example:
        >>> from mmkd_jax.models import Bert, Encoders, TransformerConfig
        >>> from mmkd_jax.pretrained import initial
        >>> config = TransformerConfig(embed_dim=8, num_layers=1, num_heads=2, mlp_dim=16)
        >>> module = Encoders({"text": Bert(9, config, length=6, pooler=True)})
        >>> loaded = Pretrained(module, initial(module), lambda texts: {}, "bert")
        >>> with_head(loaded, ("no", "yes")).module.heads["logits"].classes
        2
    """
    if len(loaded.module.encoders) != 1:
        raise UserError(f"with_head: {choices(loaded.module.encoders)}; a head is for a single encoder: load one alone")
    architectures = HEADS.get(loaded.kind, {}).items()
    known = {name: specs for name, specs in architectures if [*specs] == ["logits"] and specs["logits"].labels}
    name = architecture or next(iter(known), "")
    if name not in known:
        raise UserError(f"architecture {name!r}: kind {loaded.kind!r} has: {choices(known)}")
    spec, names = known[name]["logits"], tuple(labels) if isinstance(labels, list | tuple) else ()
    if not names or not all(isinstance(x, str) and x for x in names) or len(set(names)) < len(names):
        raise UserError(f"labels={labels!r}; expected the names of the classes, each once")
    if problem != heads.PROBLEMS[0] and not spec.problem:
        raise UserError(f"problem={problem!r}: {name} has one problem, {heads.PROBLEMS[0]!r}")
    (encoder,) = loaded.module.encoders.values()
    if spec.read == "pooled" and not encoder.pooler:
        raise UserError(f"the head of {name} reads the pooler, which this encoder lacks: choose another architecture")
    width = _PROJECTION if spec.averaged else attributes(encoder)["embed_dim"]
    config = {"model_type": loaded.kind, "problem_type": problem}
    head = heads.build(loaded.module, spec, config, len(names), width if spec.hidden else None)
    kept = {
        collection: {scope: tree for scope, tree in scopes.items() if not scope.startswith("heads_")}
        for collection, scopes in loaded.variables.items()
    }
    return loaded._replace(module=loaded.module.clone(heads={"logits": head}), variables=kept, labels=names)
