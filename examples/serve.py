"""Serve a trained student over HTTP.

    pip install fastapi uvicorn python-multipart
    python examples/serve.py runs/own_files distilled
    curl http://127.0.0.1:8000                                         # its inputs and classes
    curl -F sound=@one.wav -F sound=@two.wav http://127.0.0.1:8000/predict

Files, texts and numbers are sent under the names of the student's inputs; a name that occurs n times has n rows. An
empty value is a missing one, and an input that is left out is missing in all rows.
"""

import argparse
import json
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

    async def read(name: str, value: Any, path: pathlib.Path) -> Any:
        """Return the raw value of a field; a file is written to a path."""
        if value == "" or not (isinstance(value, str) or value.filename or value.size):
            return None
        kind = {"path": "a file", "text": "a text"}.get(student.kinds[name], "a number, or a list of them")
        try:
            if isinstance(value, str) == (kind == "a file"):  # a text would be a path of this machine
                raise ValueError
            if isinstance(value, str):
                return value if kind == "a text" else json.loads(value)
        except ValueError:
            raise fastapi.HTTPException(422, f"{name}: expected {kind}") from None
        path = path.with_suffix(pathlib.PurePath(value.filename).suffix)  # which tells the format
        path.write_bytes(await value.read())
        return path

    @app.get("/")
    def describe() -> dict[str, Any]:
        return {"inputs": student.required, "classes": student.classes, "task": student.task["name"]}

    @app.post("/predict")
    async def predict(request: fastapi.Request) -> list[dict[str, Any]]:
        if int(request.headers.get("content-length", MOST_BYTES + 1)) > MOST_BYTES:
            raise fastapi.HTTPException(413, f"expected a Content-Length of at most {MOST_BYTES:,} bytes")
        inputs: dict[str, list[Any] | None] = dict.fromkeys(student.required)
        with tempfile.TemporaryDirectory() as folder:
            async with request.form(max_files=MOST_FILES, max_fields=MOST_FILES) as form:
                for i, (name, value) in enumerate(form.multi_items()):
                    if name not in inputs:
                        known = ", ".join(student.required)
                        raise fastapi.HTTPException(422, f"{name} is unknown: this student reads {known}")
                    inputs[name] = [*(inputs[name] or []), await read(name, value, pathlib.Path(folder) / str(i))]
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
