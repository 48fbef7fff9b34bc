"""Distillation of logic rules: the teacher is the student's prediction projected onto the rules."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from mmkd_jax.core.objective import Objective, combine, masks, term
from mmkd_jax.errors import UserError
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.numeric import at_least_float32
from mmkd_jax.typing import NotNegative, Scalar, Share
from mmkd_jax.validation import validated


@validated
def logic_rules(
    rules: Mapping[str, tuple[Callable, float]],
    *,
    imitation: Share | Callable = 0.5,
    strength: NotNegative = 6.0,
    student: str = "student.logits",
    teacher: str | None = None,
    labels: str = "batch.label",
    labelled: str | tuple[str, ...] | None = None,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Logic-rule distillation: learn from labels and from predictions projected onto soft logic rules.

    Formula: (1 − π) CE(p, y) + π KL(q ‖ p), q ∝ p' exp(−C Σ_l λ_l (1 − r_l(x, y))), p' the prediction of the student
        (or of a teacher), without gradient

    A rule is a function of the outputs that returns a truth value in [0, 1] for each row and class (values outside are
    clipped); `mmkd_jax.core.soft_logic` has the connectives. A rule here is evaluated row by row, for which q is the
    exact projection.

    Args:
        rules: name -> (rule, its confidence λ).
        imitation: π, a number or a schedule; the paper's is min(π₀, 1 − αᵗ), which relies on the rules more over time.
        strength: C.
        student: path of the student's logits [b, c].
        teacher: path of the logits to project onto the rules; None is the student's.
        labels: path of the class labels.
        labelled: batch mask(s) of the labeled rows; the rules need no labels.
        where: batch mask(s) of the rows that count at all.

    Returns:
        A parameter-free objective with the terms `data` and `rules`.

    Raises:
        UserError: `rules` is empty, or a rule does not return a truth value for each row and class.

    Topic: structure
    Compares: logits with their projection onto the rules
    Extra: rules as functions of the outputs
    Source: Hu et al., Harnessing Deep Neural Networks with Logic Rules, 2016, https://arxiv.org/abs/1603.06318
    Differs: the paper uses the cross-entropy to q, which has the gradient of the KL; the authors' code adds the last
        rule's penalty twice and clips penalties

    Example:
        >>> from mmkd_jax.core import soft_logic as logic
        >>> loud = lambda outputs: outputs["batch.volume"][:, None]  # 0 … 1
        >>> shouted = jnp.array([[0.0, 1.0, 1.0]])  # of the three classes the last two are shouted
        >>> told = logic_rules({"loud": (lambda outputs: logic.implies(loud(outputs), shouted), 1.0)}, imitation=0.3)
    """
    if not rules:
        raise UserError('logic_rules: rules is empty; give {"name": (function of outputs, confidence)}')
    for name, rule in rules.items():
        if not (isinstance(rule, tuple) and len(rule) == 2 and callable(rule[0])):
            raise UserError(f"logic_rules: rule {name!r} is {rule!r:.60}; give (function of outputs, confidence)")
    source = teacher or student
    rest = (lambda step: 1 - imitation(step)) if callable(imitation) else 1 - imitation

    def follow(
        student: Float[Array, "*n c"], teacher: Float[Array, "*n c"], broken: Float[Array, "*n c"], *, strength: Scalar
    ) -> Float[Array, "*n"]:
        student, teacher, broken = at_least_float32(student, teacher, broken)
        return kl(student, teacher - jnp.asarray(strength, teacher.dtype) * broken)

    objectives = combine(
        data=term(cross_entropy, logits=student, labels=labels, weight=rest, where=masks(where, labelled)),
        rules=term(
            follow,
            student=student,
            teacher=source,
            broken="rules.broken",
            strength=strength,
            weight=imitation,
            where=where,
        ),
    )

    def add_penalty(outputs):
        logits, broken = outputs[source], jnp.zeros((), jnp.float32)
        for name, (rule, confidence) in rules.items():
            truth = stop_gradient(jnp.asarray(rule(outputs)))
            fits = all(n in (1, full) for n, full in zip(truth.shape, logits.shape, strict=False))
            if truth.ndim != logits.ndim or not fits:
                raise UserError(
                    f"logic_rules: rule {name!r} returns {list(truth.shape)}; expected a truth value for each row and "
                    f"class, {list(logits.shape)}"
                )
            broken = broken + jnp.float32(confidence) * (1 - jnp.clip(truth.astype(jnp.float32), 0, 1))
        return outputs.add(rules={"broken": jnp.broadcast_to(broken, logits.shape)})

    return Objective(
        lambda outputs: objectives.init(add_penalty(outputs)),
        lambda params, state, outputs: objectives.apply(params, state, add_penalty(outputs)),
    )
