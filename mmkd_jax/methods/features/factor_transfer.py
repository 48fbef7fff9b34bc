"""Factor transfer (FT): paraphraser and translator training in one objective."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from mmkd_jax import losses
from mmkd_jax.core.objective import Objective, combine, filled, term
from mmkd_jax.errors import UserError
from mmkd_jax.nn.conv import Conv
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated


@validated
def factor_transfer(
    *,
    student: str,
    teacher: str,
    paraphrase_steps: int,
    rate: Positive = 0.5,
    power: Literal[1, 2] = 1,
    form: Literal["factor", "attention"] = "factor",
    weight: Scalar = 1.0,
    where: str | tuple[str, ...] | None = None,
) -> Objective:
    """Factor transfer (FT): match the student's translated feature map to the teacher's, paraphrased by an autoencoder.

    Formula: steps < n: (1 / D) Σ_i (t_i − D(P(t))_i)²; then, with P frozen: ‖T(s) / ‖T(s)‖₂ − P(t) / ‖P(t)‖₂‖_p

    Args:
        student: path of the student's feature map [b, h, w, c].
        teacher: path of the teacher's feature map [b, h, w, d].
        paraphrase_steps: n, the number of initial steps that train the paraphraser and not the student.
        rate: channels of a factor relative to the teacher's channels.
        power: p, 1 or 2.
        form: "factor" as in the paper; "attention" normalizes the mean square over the factor's channels.
        weight: weight of the transfer term; the reconstruction has weight 1.
        where: batch mask(s) of the rows that count.

    Returns:
        An objective with the terms `reconstruction` and `factor`, and paraphraser P, its decoder D and translator T as
        parameters: three 3×3 convolutions each, with leaky ReLU. The frozen P is part of the state, so an optimizer
        with momentum or weight decay, which keeps changing the parameter, does not affect it.

    Topic: features
    Compares: feature maps of the same size
    Extra: trains paraphraser and translator; keeps the frozen paraphraser
    Source: Kim et al., Paraphrasing Complex Network: Network Compression via Factor Transfer, 2018,
        https://arxiv.org/abs/1802.04977
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

    def nets(outputs):
        width = outputs[teacher].shape[-1]
        narrow = max(1, round(rate * width))
        return {
            "paraphraser": _Convs((width, narrow, narrow)),
            "decoder": _Convs((narrow, width, width)),
            "translator": _Convs((outputs[student].shape[-1], narrow, narrow)),
        }

    def add_factors(params, frozen, outputs):
        networks, t = nets(outputs), stop_gradient(filled(outputs, teacher, where))

        def run(name, params, x):
            return jnp.asarray(networks[name].apply({"params": params}, x))

        factors = {
            "student": run("translator", params["translator"], filled(outputs, student, where)),
            "teacher": run("paraphraser", frozen, t),
        }
        if form == "attention":
            factors = {k: jnp.mean(x * x, -1) for k, x in factors.items()}
        code = run("paraphraser", params["paraphraser"], t)
        return outputs.add(ft=factors | {"reconstructed": run("decoder", params["decoder"], code)})

    def init(outputs):
        for path in (student, teacher):
            if outputs[path].ndim != 4:
                raise UserError(f"factor_transfer: {path} is {list(outputs[path].shape)}; expected [b, h, w, c]")
        networks, t = nets(outputs), outputs[teacher]
        inputs = {"paraphraser": t, "decoder": t[..., : networks["decoder"].widths[0]], "translator": outputs[student]}
        params = {n: net.init(outputs.ctx.at(n).key, inputs[n])["params"] for n, net in networks.items()}
        return params, terms.init(outputs)[1] | {"frozen": params["paraphraser"]}

    def apply(params, state, outputs):
        step, inner = outputs.ctx.step, {k: state[k] for k in ("reconstruction", "factor")}
        frozen = jax.tree.map(
            lambda new, old: jnp.where(step <= paraphrase_steps, stop_gradient(new), old),
            params["paraphraser"],
            state["frozen"],
        )
        no_params = {"reconstruction": {}, "factor": {}}
        out, new_state = terms.apply(no_params, inner, add_factors(params, frozen, outputs))
        active = {"reconstruction": step < paraphrase_steps, "factor": step >= paraphrase_steps}
        weights = {n: jnp.where(active[n], t.weight, jnp.zeros_like(t.weight)) for n, t in out.items()}
        return {n: t._replace(weight=weights[n]) for n, t in out.items()}, new_state | {"frozen": frozen}

    return Objective(init, apply)


class _Convs(nn.Module):
    """3×3 convolutions, each followed by a leaky ReLU."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        for width in self.widths:
            x = nn.leaky_relu(Conv(width, (3, 3))(x), 0.1)
        return x
