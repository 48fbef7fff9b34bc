"""What depends on the project's address, which has one place: `Repository` in [project.urls] of pyproject.toml.

python docs/address.py rewrites the install cell of the notebooks; run it after the address has changed.
"""

import json
import os.path
import pathlib
import re
import tomllib

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
NOTEBOOKS = sorted((HERE / "tutorials").glob("*.ipynb"))
BRANCH = "main"


def repository() -> str | None:
    """Return the address of the repository; None while the project has none."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {})
    return urls["Repository"].rstrip("/") if "Repository" in urls else None


def theme_options() -> dict:
    """Return the theme's options: buttons to the repository and to Colab."""
    url = repository()
    if url is None:
        return {}
    return {
        "repository_url": url,
        "repository_branch": BRANCH,
        "path_to_docs": "docs",
        "use_repository_button": True,
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    }


def badge(notebook: pathlib.Path) -> str:
    """Return the Markdown of a notebook's Colab badge; empty without an address."""
    url = repository()
    if url is None or "github.com/" not in url:  # Colab opens notebooks of this host only
        return ""
    colab = "https://colab.research.google.com"
    path = notebook.relative_to(ROOT).as_posix()
    target = f"{colab}/github/{url.partition('github.com/')[2]}/blob/{BRANCH}/{path}"
    return f"[![Open in Colab]({colab}/assets/colab-badge.svg)]({target})"


def install_cell() -> str:
    """Return the first code cell of a notebook, which installs the library where it is missing."""
    url = repository()
    if url is None:
        remedy = 'raise ModuleNotFoundError("install mmkd_jax from a clone of its repository: pip install .")'
    else:
        remedy = f'%pip install -q "mmkd_jax @ git+{url}"'
    return f'import importlib.util\n\nif importlib.util.find_spec("mmkd_jax") is None:\n    {remedy}'


def link_to_host(app, docname, source) -> None:
    """Point links to files outside docs/ to the code host, if the project has an address."""
    url = repository()
    if url is None:
        return
    folder = (HERE / docname).parent

    def host(match):
        path = pathlib.Path(os.path.normpath(folder / match[1]))
        if path.is_relative_to(HERE) or not path.exists():  # a missing file stays, and fails the build
            return match[0]
        return f"]({url}/blob/{BRANCH}/{path.relative_to(ROOT).as_posix()})"

    source[0] = re.sub(r"\]\((\.\./[^)#\s]+)\)", host, source[0])


def main() -> None:
    for path in NOTEBOOKS:
        notebook = json.loads(path.read_text())
        title = notebook["cells"][0]
        text = "".join(title["source"])
        heading, _, rest = re.sub(r"\n\n\[!\[Open in Colab.*", "", text).partition("\n")
        added = badge(path)
        title["source"] = (heading + (f"\n\n{added}" if added else "") + "\n" + rest).splitlines(keepends=True)
        first = next(c for c in notebook["cells"] if c["cell_type"] == "code")
        first["source"] = install_cell().splitlines(keepends=True)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
