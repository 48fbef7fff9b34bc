"""Serve a trained student over HTTP.

    pip install fastapi uvicorn python-multipart
    python examples/serve.py runs/own_files distilled
    curl http://127.0.0.1:8000                                         # its inputs and classes
    curl -F sound=@one.wav -F sound=@two.wav http://127.0.0.1:8000/predict

Files and texts are sent under the names of the student's inputs; a name that occurs n times has n rows.
"""

import argparse
import pathlib
import tempfile
from typing import Any

import fastapi
import uvicorn
from fastapi.concurrency import run_in_threadpool

import mmkd_jax as mmkd

MOST_FILES, MOST_BYTES = 64, 2**25


def create_app(student: mmkd.deploy.Student) -> fastapi.FastAPI:
    """Return the application.

    Args:
        student: the student, from `mmkd.load`.
    """
    app = fastapi.FastAPI(title="A trained student")
    of_text = (mmkd.data.preprocess.Tokenize, mmkd.data.preprocess.Characters)
    texts = {chain.input for chain in student.preprocess if isinstance(chain.steps[0], of_text)}

    @app.get("/")
    def describe() -> dict[str, Any]:
        return {"inputs": student.required, "classes": student.classes, "task": student.task["name"]}

    @app.post("/predict")
    async def predict(request: fastapi.Request) -> list[dict[str, Any]]:
        if int(request.headers.get("content-length", MOST_BYTES + 1)) > MOST_BYTES:
            raise fastapi.HTTPException(413, f"expected a Content-Length of at most {MOST_BYTES:,} bytes")
        inputs: dict[str, list[Any]] = {}
        with tempfile.TemporaryDirectory() as folder:
            async with request.form(max_files=MOST_FILES, max_fields=MOST_FILES) as form:
                for i, (name, value) in enumerate(form.multi_items()):
                    if name not in student.required:
                        known = ", ".join(student.required)
                        raise fastapi.HTTPException(422, f"{name} is unknown: this student reads {known}")
                    if isinstance(value, str) != (name in texts):  # a text elsewhere would be a path of this machine
                        expected = "a text" if name in texts else "a file"
                        raise fastapi.HTTPException(422, f"{name}: expected {expected}")
                    if not isinstance(value, str):  # the suffix of its name tells the format
                        path = pathlib.Path(folder) / f"{i}{pathlib.PurePath(value.filename or '').suffix}"
                        path.write_bytes(await value.read())
                        value = path
                    inputs.setdefault(name, []).append(value)
            try:
                found = await run_in_threadpool(student.predict, inputs)
            except mmkd.UserError as error:
                raise fastapi.HTTPException(422, str(error).replace(f"{folder}/", "")) from None
        rows = [{"prediction": x} for x in found.prediction.tolist()]
        if found.probabilities is not None:
            names = student.classes or range(found.probabilities.shape[1])
            for row, p in zip(rows, found.probabilities.tolist(), strict=True):
                row["probabilities"] = dict(zip(names, p, strict=True))
        return rows

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8_000)
    options = parser.parse_args()
    served = mmkd.load(options.run, options.training, options.seed)
    uvicorn.run(create_app(served), host=options.host, port=options.port)
