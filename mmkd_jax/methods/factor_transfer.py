"""Factor transfer, with its paraphraser and its translator, both stages in one objective."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from mmkd_jax import losses
from mmkd_jax.arguments import held
from mmkd_jax.convolution import Conv
from mmkd_jax.errors import UserError
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.objective import Objective, combine, term


@held
def factor_transfer(
    *,
    student: str,
    teacher: str,
    paraphrase_steps: int,
    rate: Positive = 0.5,
    power: Literal[1, 2] = 1,
    form: Literal["factor", "attention"] = "factor",
    weight: Number = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Factor transfer (FT): an autoencoder paraphrases the teacher's map, a translator brings the student's to that.

    Formula: steps < n: (1 / D) Σ_i (t_i − D(P(t))_i)²; then, with P frozen: ‖T(s) / ‖T(s)‖₂ − P(t) / ‖P(t)‖₂‖_p

    Args:
        student: path of the student's feature map [b, h, w, c].
        teacher: path of the teacher's feature map [b, h, w, d].
        paraphrase_steps: n, the first steps, in which the paraphraser learns and the student hears nothing.
        rate: channels of a factor as a share of the teacher's.
        power: p, 1 or 2.
        form: "factor" as in the paper; "attention" normalises the mean square over the factor's channels.
        weight: of the transfer; the reconstruction has 1.
        where: mask(s) of the batch.

    Returns:
        An objective of the terms `reconstruction` and `factor`, with paraphraser P, its decoder D and translator T as
        parameters: three 3×3 convolutions each, with a leaky ReLU. The P that is frozen is memory: an optimizer with
        momentum or weight decay moves the parameter on, and is not asked.

    Topic: features
    Compares: feature maps of one size
    Extra: trains paraphraser and translator; remembers the frozen paraphraser
    Source: Kim et al., Paraphrasing Complex Network: Network Compression via Factor Transfer, 2018, https://arxiv.org/abs/1802.04977
    Differs: the authors' code reconstructs by mean |·|, the paper by squares; it weights the mean of |·| by 500, which
        is weight=500 / D for a factor of D elements. form="attention" is RepDistiller's

    Example:
        >>> factor = factor_transfer(
        ...     student="student.hidden.image.1", teacher="teacher.hidden.image.1", paraphrase_steps=1_000
        ... )
    """
    terms = combine(
        reconstruction=term(losses.hint, student="ft.reconstructed", teacher=teacher, where=where),
        factor=term(
            losses.factor_transfer, student="ft.student", teacher="ft.teacher", power=power, weight=weight, where=where
        ),
    )

    def nets(views):
        width = views[teacher].shape[-1]
        narrow = max(1, round(rate * width))
        return {
            "paraphraser": _Convs((width, narrow, narrow)),
            "decoder": _Convs((narrow, width, width)),
            "translator": _Convs((views[student].shape[-1], narrow, narrow)),
        }

    def look(params, frozen, views):
        made, t = nets(views), stop_gradient(views[teacher])

        def run(name, params, x):
            return jnp.asarray(made[name].apply({"params": params}, x))

        factors = {
            "student": run("translator", params["translator"], views[student]),
            "teacher": run("paraphraser", frozen, t),
        }
        if form == "attention":
            factors = {k: jnp.mean(x * x, -1) for k, x in factors.items()}
        code = run("paraphraser", params["paraphraser"], t)
        return views.add(ft=factors | {"reconstructed": run("decoder", params["decoder"], code)})

    def init(views):
        for path in (student, teacher):
            if views[path].ndim != 4:
                raise UserError(f"factor_transfer: {path} is {list(views[path].shape)}; expected a map [b, h, w, c]")
        made, t = nets(views), views[teacher]
        inputs = {"paraphraser": t, "decoder": t[..., : made["decoder"].widths[0]], "translator": views[student]}
        params = {n: net.init(views.ctx.at(n).key, inputs[n])["params"] for n, net in made.items()}
        return params, terms.init(views)[1] | {"frozen": params["paraphraser"]}

    def apply(params, memory, views):
        step, inner = views.ctx.step, {k: memory[k] for k in ("reconstruction", "factor")}
        frozen = jax.tree.map(
            lambda new, old: jnp.where(step <= paraphrase_steps, stop_gradient(new), old),
            params["paraphraser"],
            memory["frozen"],
        )
        nothing = {"reconstruction": {}, "factor": {}}
        out, after = terms.apply(nothing, inner, look(params, frozen, views))
        heard = {"reconstruction": step < paraphrase_steps, "factor": step >= paraphrase_steps}
        weights = {n: jnp.where(heard[n], t.weight, jnp.zeros_like(t.weight)) for n, t in out.items()}
        return {n: t._replace(weight=weights[n]) for n, t in out.items()}, after | {"frozen": frozen}

    return Objective(init, apply)


class _Convs(nn.Module):
    """3×3 convolutions, a leaky ReLU after each."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        for width in self.widths:
            x = nn.leaky_relu(Conv(width, (3, 3))(x), 0.1)
        return x
