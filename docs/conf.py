"""Sphinx configuration of the documentation site: `sphinx-build -W -b html docs build/site`.

The site needs no network. A link from a page to a file outside docs/ becomes a download of that file, or, once
[project.urls] in pyproject.toml has a `Repository`, a link to the code host; a missing file fails the build either way.
"""

import pathlib
import sys

import mmkd_jax as mmkd

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

import address  # noqa: E402
import reference  # noqa: E402

project = "mmkd_jax"
author = copyright = "The mmkd_jax developers"
version = release = mmkd.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["jupyter_execute"]
html_theme = "sphinx_book_theme"
html_title = f"mmkd_jax {version}"
html_copy_source = False
smartquotes_action = "D"  # dashes; quotes are code here
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": True,
    "use_fullscreen_button": False,
    **address.theme_options(),
}

# pages: Markdown
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings: list[str] = []  # nothing: broken links and missing anchors fail the build

# notebooks are stored without outputs, and every build runs them
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_merge_streams = True

# API reference: `reference` writes the pages and prepares the docstrings for napoleon
add_module_names = False
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 100
autodoc_typehints = "none"  # reference puts them beside the arguments, as they are in the source
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def setup(app):
    app.connect("builder-inited", reference.write_pages)
    app.connect("autodoc-process-signature", reference.signature)
    app.connect("autodoc-process-docstring", reference.docstring, priority=100)  # before napoleon
    app.connect("autodoc-skip-member", reference.skip)
    app.connect("missing-reference", reference.resolve)
    app.connect("viewcode-follow-imported", reference.home)
    app.connect("source-read", address.link_to_host)
