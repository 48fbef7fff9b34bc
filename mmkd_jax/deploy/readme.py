"""The README of an exported student: what it is, and the lines that load it. The check of the export runs those."""

import re
from collections.abc import Mapping
from typing import Any

STABLEHLO = """import json
import jax
import numpy as np
from jax import export
about = json.load(open("signature.json"))["variables"]["names"]
raw = open("variables.safetensors", "rb").read()
start = 8 + int.from_bytes(raw[:8], "little")
places = {k: x["data_offsets"] for k, x in json.loads(raw[8:start]).items() if k in about}
parts = {k: raw[start + first : start + last] for k, (first, last) in places.items()}
variables = {k: np.frombuffer(parts[k], x["dtype"]).reshape(x["shape"]) for k, x in about.items()}
program = export.deserialize(bytearray(open("program.stablehlo", "rb").read()))
student = lambda columns: jax.jit(program.call)(variables, columns)
"""
ONNX = """import onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
names = [x.name for x in session.get_outputs()]
student = lambda columns: dict(zip(names, session.run(names, columns)))
"""
SAFETENSORS = """from safetensors.numpy import load_file
variables = load_file("variables.safetensors")
"""
EXAMPLE = """import numpy as np
rows = np.load("example.npz")
print(student({k[7:]: rows[k] for k in rows if k.startswith("inputs.")}))
"""


def written(signature: Mapping[str, Any], code: str, packages: str, example: bool = True) -> str:
    """Return the README of an exported student.

    Args:
        signature: the content of its `signature.json`.
        code: the lines that load it; they define `student`, a function from columns to outputs.
        packages: packages that the lines need.
        example: whether `example.npz` is there.
    """

    def table(entries):
        return "\n".join(f"- `{k}`: {x['dtype']} {x['shape']}" for k, x in entries.items())

    batch = signature["batch"]
    count = f"Each call takes exactly {batch} rows." if batch else "`b` is any number of rows."
    classes = signature["classes"]
    named = f"\nClasses, by `prediction`: {', '.join(classes)}.\n" if classes else ""
    shown = f"\nEight rows and their outputs:\n\n```python\n{EXAMPLE}```\n" if example else ""
    return (
        f"# {signature['training']}, {signature['model']}, seed {signature['seed']}\n\n"
        f"Task: {signature['task']['name']}. Exported by mmkd_jax {signature['versions']['mmkd_jax']} from the "
        f"experiment {signature['experiment']}.\n\nNeeds `pip install {packages}`; run it in this folder:\n\n"
        f"```python\n{code}```\n{shown}\nInputs:\n\n{table(signature['inputs'])}\n\nOutputs:\n\n"
        f"{table(signature['outputs'])}\n\n{count} `preprocess.json` has the steps from raw inputs to columns.\n{named}"
    )


def code_of(text: str) -> str:
    r"""Return the first block of Python in a README.

    Example:
        >>> code_of("# Student\n```python\nx = 1\n```\n")
        'x = 1\n'
    """
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]
