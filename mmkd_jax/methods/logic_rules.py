"""Distillation of logic rules: the teacher is the student's own answer, moved to where the rules hold."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jax.lax import stop_gradient

from mmkd_jax.arguments import held
from mmkd_jax.errors import UserError
from mmkd_jax.losses.logits.cross_entropy import cross_entropy
from mmkd_jax.losses.logits.kl import kl
from mmkd_jax.losses.number import NotNegative, Number, Share
from mmkd_jax.losses.numeric import at_least_float32
from mmkd_jax.objective import Objective, combine, masks, term


@held
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
    """Learn from labels, and from the own answer as rules would have it.

    Formula: (1 − π) CE(p, y) + π KL(q ‖ p), q ∝ p' exp(−C Σ_l λ_l (1 − r_l(x, y))), p' the student's answer (or a
        teacher's), without gradient

    A rule is a function of the views that gives, for each row and class, how true it is there, from 0 to 1 (what lies
    outside counts as the nearer of both); the connectives are in `mmkd_jax.logic`. Rules here look at one row at a
    time, for which q is the exact projection.

    Args:
        rules: name -> (rule, its confidence λ).
        imitation: π, a number or a schedule; the paper's is min(π₀, 1 − αᵗ), which trusts rules later.
        strength: C.
        student: path of the student's logits [b, c].
        teacher: path of other logits that the rules move, instead of the student's own.
        labels: path of the labels.
        labelled: mask(s) of the rows that have a label; rules need none.
        where: mask(s) of the rows that count at all.

    Returns:
        An objective without parameters, with the terms `data` and `rules`.

    Raises:
        UserError: no rule, or one that does not give a truth value for each row and class.

    Topic: structure
    Compares: logits with what rules make of them
    Extra: rules as functions of the views
    Source: Hu et al., Harnessing Deep Neural Networks with Logic Rules, 2016, https://arxiv.org/abs/1603.06318
    Differs: the paper writes the cross-entropy to q, whose gradient is the KL's; the authors' code adds the last rule's
        penalty twice and clips penalties

    Example:
        >>> from mmkd_jax import logic
        >>> loud = lambda views: views["batch.volume"][:, None]  # 0 … 1
        >>> shouted = jnp.array([[0.0, 1.0, 1.0]])  # of the three classes the last two are shouted
        >>> told = logic_rules({"loud": (lambda views: logic.implies(loud(views), shouted), 1.0)}, imitation=0.3)
    """
    if not rules:
        raise UserError('logic_rules: there is no rule; give {"name": (function of views, confidence)}')
    for name, rule in rules.items():
        if not (isinstance(rule, tuple) and len(rule) == 2 and callable(rule[0])):
            raise UserError(f"logic_rules: rule {name!r} is {rule!r:.60}; give (function of views, confidence)")
    source = teacher or student
    rest = (lambda step: 1 - imitation(step)) if callable(imitation) else 1 - imitation

    def follow(student, teacher, broken, *, strength: Number):
        student, teacher, broken = at_least_float32(student, teacher, broken)
        return kl(student, teacher - jnp.asarray(strength, teacher.dtype) * broken)

    parts = combine(
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

    def look(views):
        logits, broken = views[source], jnp.zeros((), jnp.float32)
        for name, (rule, confidence) in rules.items():
            truth = stop_gradient(jnp.asarray(rule(views)))
            fits = all(mine in (1, all_) for mine, all_ in zip(truth.shape, logits.shape, strict=False))
            if truth.ndim != logits.ndim or not fits:
                raise UserError(
                    f"logic_rules: rule {name!r} gives {list(truth.shape)}; expected a truth value for each row and "
                    f"class, {list(logits.shape)}"
                )
            broken = broken + jnp.float32(confidence) * (1 - jnp.clip(truth.astype(jnp.float32), 0, 1))
        return views.add(rules={"broken": jnp.broadcast_to(broken, logits.shape)})

    return Objective(
        lambda views: parts.init(look(views)),
        lambda params, memory, views: parts.apply(params, memory, look(views)),
    )
