"""The README's code runs as it stands there."""

import pathlib
import re

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_own_training_loop():
    code = next(b for b in BLOCKS if b.startswith("import jax"))
    first = code.replace("range(20)", "range(1)")
    losses = []
    for text in (first, code):
        names: dict = {}
        exec(text, names)  # our own README
        losses.append(float(names["value"]))
    assert losses[1] < 0.5 * losses[0]


def test_swapped_terms_bind():
    code = next(b for b in BLOCKS if b.startswith("soft"))
    exec("from mmkd_jax import losses, methods\nfrom mmkd_jax.objective import term\n" + code, {})
