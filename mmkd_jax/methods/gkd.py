"""On-policy distillation of models that write."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from mmkd_jax import rollout
from mmkd_jax.arguments import held
from mmkd_jax.losses.logits.jsd import jsd
from mmkd_jax.losses.logits.kl import kl, reverse_kl
from mmkd_jax.losses.number import Number, Positive, Share
from mmkd_jax.methods.numbered import numbered
from mmkd_jax.objective import Objective, Term, masks, term
from mmkd_jax.views import output_of


@held
def gkd(
    *,
    share: Share = 0.5,
    divergence: Literal["jsd", "kl", "reverse_kl"] = "jsd",
    beta: Share = 0.5,
    temperature: Positive = 1.0,
    sampling: Positive = 1.0,
    student: str = "student",
    teacher: str = "teacher",
    output: str = "logits",
    text: str = "text",
    prompt: str | None = None,
    end: int | None = None,
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Generalised knowledge distillation (GKD): the teacher corrects what the student itself writes.

    Formula: mean_i D(p_i ‖ q_i) over the words of y, D the generalised JSD with β; y is drawn from the student with
        probability λ, else the data's

    No gradient flows through the drawing.

    Args:
        share: λ, the share of rows whose text the student writes after the prompt.
        divergence: D; KL and reverse KL are what JSD is near β = 0 and β = 1, up to that factor.
        beta: β of the JSD; the others have none.
        temperature: T of both distributions in D; KL has the factor T², JSD has not.
        sampling: temperature at which the student writes.
        student: name of the trained model; its logits [b, l, c] foretell the next word.
        teacher: name of the frozen model, with the same vocabulary.
        output: name of the logits.
        text: name of the modality: `TEXT.ids` and `TEXT.mask` [b, l] stand in the batch.
        prompt: name of the mask [b, l] of words that are given; None is the first.
        end: word after which a text ends.
        weight: of the term.
        where: mask(s) of the batch, of rows.

    Returns:
        An objective without parameters. Its values are per text; one without a word that counts does not count.

    Topic: structure
    Compares: logits of the next word, with the student's text
    Extra: l further passes of the student, one of the teacher
    Source: Agarwal et al., On-Policy Distillation of Language Models (GKD), 2024, https://arxiv.org/abs/2306.13649
    Differs: the paper draws once for a batch whether its texts are the student's; TRL takes the mean over all words of
        the batch

    Example:
        >>> on_policy = gkd(share=1.0, divergence="reverse_kl", prompt="text.prompt", end=1)
    """
    loss = {"jsd": jsd, "kl": kl, "reverse_kl": reverse_kl}[divergence]
    own: dict[str, Any] = {"beta": beta} if loss is jsd else {}
    paths = {"student": "words.student", "teacher": "words.teacher"}
    soft = term(loss, **paths, where=masks("words", where), temperature=temperature, weight=weight, **own)
    sides = (("student", student), ("teacher", teacher))

    def look(views, numbers):
        batch, here, ctx = views.batch, {"text": text, "prompt": prompt}, views.ctx
        drawing = {"key": ctx.at("write").key, "temperature": numbers["sampling"]}
        own = rollout.write(views.run[student], batch, output=output, end=end, **here, **drawing)
        key = ctx.at("share").key
        draws = jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(batch["example_id"])
        mine = (draws < numbers["share"])[:, None]
        mixed = {n: jnp.where(mine, own[n], batch[n]) for n in (f"{text}.ids", f"{text}.mask")}
        logits = {side: output_of(views.run[m]({**batch, **mixed}), output, m) for side, m in sides}
        return rollout.foretold(views, "words", {**batch, **mixed}, logits, **here)

    said = numbered(soft, look, share=share, sampling=sampling)

    def apply(params, memory, views):
        made, after = said.apply(params, memory, views)
        return _per_text(made), after

    return Objective(said.init, apply)


def _per_text(words: Term) -> Term:
    """The mean over each text's words that count."""
    n = jnp.sum(words.where, 1)
    values = jnp.sum(jnp.where(words.where, words.values, 0), 1) / jnp.maximum(n, 1).astype(words.values.dtype)
    return Term(values, n > 0, words.weight)
