"""Embeddings of sentence-transformers: python -m tests.pretrained.sentence_references.

Writes tests/pretrained/sentence_references.json. Needs sentence-transformers; with a folder as an argument, it prints
the embeddings of the model there in place of that.
"""

import importlib
import json
import pathlib
import sys
import tempfile

from tests.pretrained import sentences

FILE = pathlib.Path(__file__).with_name("sentence_references.json")


def embeddings(folder: pathlib.Path) -> list[list[float]]:
    model = importlib.import_module("sentence_transformers").SentenceTransformer(str(folder), device="cpu")
    return [[float(f"{x:.8g}") for x in row] for row in model.encode(sentences.TEXTS).tolist()]


def of_case(case: sentences.Folder) -> list[list[float]]:
    with tempfile.TemporaryDirectory() as folder:
        sentences.write(case, pathlib.Path(folder))
        return embeddings(pathlib.Path(folder))


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps(embeddings(pathlib.Path(sys.argv[1]))))
    else:
        rows = [f"{json.dumps(name)}: {json.dumps(of_case(case))}" for name, case in sentences.CASES.items()]
        FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
