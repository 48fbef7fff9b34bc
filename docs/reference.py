"""API reference of the site: one page per module of `import mmkd_jax as mmkd`, derived from the surface itself.

`write_pages` writes the pages to docs/api/, which git ignores. The other functions are callbacks of Sphinx: they show
signatures without types, put the types beside the arguments as they are in the source, and turn the docstrings' own
sections (Formula, Topic, Compares, Extra, Source, Differs) into fields.
"""

import ast
import dataclasses
import functools
import inspect
import pathlib
import re
import textwrap
from types import ModuleType
from typing import Any

import mmkd_jax as mmkd

API = pathlib.Path(__file__).parent / "api"
BY_TOPIC = ("losses", "methods")  # the folders of these packages are topics
FIELDS = "Formula|Topic|Compares|Extra|Source|Differs|Outputs"


def members(module: ModuleType) -> list[str]:
    """Return the public names of a module in source order: its definitions and explicit re-exports."""
    names = []
    for node in _tree(module).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.append(name)
            case ast.ImportFrom():
                names += [a.name for a in node.names if a.asname == a.name]
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
    return [n for n in dict.fromkeys(names) if not n.startswith("_")]


def pages() -> dict[str, str]:
    """Return page name -> reStructuredText of the whole reference."""
    modules = {n: getattr(mmkd, n) for n in mmkd.__all__}
    modules = {n: m for n, m in modules.items() if isinstance(m, ModuleType)}
    documented: dict[int, str] = {}
    top = [n for n in _stub() if n not in modules]
    written = {"mmkd": _page("mmkd", [_section("mmkd_jax", top, documented, _home_title)])}
    for name, module in modules.items():
        title = _topic_title if name in BY_TOPIC else None
        nested = [n for n in members(module) if isinstance(getattr(module, n), ModuleType)]
        flat = [n for n in members(module) if n not in nested]
        path = f"mmkd_jax.{name}"
        blocks = [_module(path, module), _section(path, flat, documented, title)]
        for n in nested:
            inner = getattr(module, n)
            blocks += [_heading(f"mmkd.{name}.{n}", "-"), _module(f"{path}.{n}", inner)]
            blocks += [_section(f"{path}.{n}", members(inner), documented)]
        written[name] = _page(f"mmkd.{name}", blocks)
    rows = [(f":doc:`mmkd.{n} <{n}>`", _first_line(m)) for n, m in modules.items()]
    rows = [(":doc:`mmkd <mmkd>`", "Models, objectives, roles and trainings."), *rows]
    toctree = ".. toctree::\n   :hidden:\n\n" + "\n".join(
        "   " + (n if n == "mmkd" else f"mmkd.{n} <{n}>") for n in written
    )
    intro = "Everything below is reached from ``import mmkd_jax as mmkd``."
    written["index"] = _page("API reference", [intro, _table(rows), toctree])
    return written


def write_pages(app: Any = None) -> None:
    """Write the pages that have changed, and remove those of modules that no longer exist."""
    API.mkdir(exist_ok=True)
    written = {API / f"{n}.rst": text for n, text in pages().items()}
    for path in set(API.glob("*.rst")) - set(written):
        path.unlink()
    for path, text in written.items():
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def _page(title: str, blocks: list[str]) -> str:
    return "\n\n".join([_heading(title, "="), *(p for p in blocks if p)]) + "\n"


def _heading(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}"


def _module(path: str, module: ModuleType) -> str:
    return f".. py:module:: {path}\n\n{prepared(inspect.getdoc(module) or '')}"


def _section(path: str, names: list[str], documented: dict[int, str], title: Any = None) -> str:
    """Return a table of the names, and their documentation; under headings if `title` groups them."""
    module = functools.reduce(getattr, path.split(".")[1:], mmkd)
    rows, groups = [], {}
    for name in names:
        value, full = getattr(module, name), f"{path}.{name}"
        constant = not (inspect.isclass(value) or inspect.isfunction(value))
        first = full if constant else documented.setdefault(id(value), full)
        rows.append((f":py:obj:`{name} <{first}>`", "" if constant else _first_line(value)))
        if first == full:
            if constant:
                entry = f".. py:data:: {name}\n   :module: {path}{_value(module, name)}"
            elif inspect.isclass(value):
                entry = f".. autoclass:: {full}\n   :members:"
            else:
                entry = f".. autofunction:: {full}"
            groups.setdefault(title(value) if title else "", []).append(entry)
    blocks = [_table(rows)] if rows else []
    for heading, entries in groups.items():
        blocks += [_heading(heading, "-")] if heading else []
        blocks += entries
    return "\n\n".join(blocks)


def _table(rows: list[tuple[str, str]]) -> str:
    lines = [".. list-table::", "   :widths: 30 70", ""]
    for name, text in rows:
        lines += [f"   * - {name}", f"     - {text}"]
    return "\n".join(lines)


def _first_line(value: Any) -> str:
    return prepared((inspect.getdoc(value) or "").partition("\n")[0])


def _home_title(value: Any) -> str:
    """Return the heading for objects that are defined in one file: its name."""
    return inspect.unwrap(value).__module__.split(".")[-1].replace("_", " ").capitalize()


def _topic_title(value: Any) -> str:
    return inspect.unwrap(value).__module__.split(".")[2].capitalize()


def _stub() -> list[str]:
    tree = ast.parse(pathlib.Path(mmkd.__file__).with_suffix(".pyi").read_text())
    return [a.name for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names]


def _value(module: ModuleType, name: str) -> str:
    """Return the option that shows a constant as in the source, if that is short."""
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            text = _source(node.value)
            return f"\n   :value: {text}" if len(text) < 100 else ""
    value = getattr(module, name)
    return f"\n   :value: {value!r}" if isinstance(value, int | float | str) else ""


@functools.cache
def _tree(module: ModuleType) -> ast.Module:
    return ast.parse(pathlib.Path(module.__file__ or "").read_text())


# callbacks of Sphinx


def signature(app, what, name, value, options, arguments, returns):
    """Show names and defaults as they are in the source."""
    if arguments is None:  # an exception
        return None
    if isinstance(value, type):
        if getattr(value, "_is_protocol", False):
            return "", ""
        if fields := _fields(value):
            shown = [k if default is None else f"{k}={default}" for k, (_, default) in fields.items()]
            if first := next((i for i, k in enumerate(fields) if _is_keyword(value, k)), None):
                shown.insert(first, "*")
            return f"({', '.join(shown)})", ""
        value = vars(value).get("__init__")
    node = _definition(value)
    if not isinstance(node, ast.FunctionDef):
        return "" if value is None else arguments, ""
    for argument in _every(node):
        argument.annotation = None
    if node.args.args and node.args.args[0].arg in ("self", "cls"):
        del node.args.args[0]
    return f"({_source(node.args)})", ""


def docstring(app, what, name, value, options, lines):
    """Prepare a docstring for napoleon: types beside the arguments, own sections as fields, prose without markup."""
    kinds, returned = _types(what, value)
    lines[:] = prepared("\n".join(lines), kinds, returned).split("\n")


def skip(app, what, name, value, skipped, options):
    """Skip the fields of a NamedTuple, which are described among the parameters, and methods that flax adds."""
    field = type(value).__name__ == "_tuplegetter"
    return True if field or not getattr(value, "__module__", "mmkd_jax").startswith("mmkd_jax") else None


def resolve(app, env, node, contnode):
    """Resolve names of the surface, such as `losses.kl`, from any docstring."""
    name = node["reftarget"].removeprefix("mmkd.")
    if node.get("refdomain") != "py" or isinstance(getattr(mmkd, name, None), ModuleType):
        return None  # `models` in a docstring is an argument
    target = f"mmkd_jax.{name}"
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)


def home(app, module, attribute):
    """Return the file of an object of the surface, for its link to the source."""
    value = functools.reduce(lambda v, n: getattr(v, n, None), f"{module}.{attribute}".split(".")[1:], mmkd)
    return getattr(inspect.unwrap(value) if callable(value) else value, "__module__", None)


# docstrings


def _definition(value: Any) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value)))).body[0]
    except (TypeError, OSError, SyntaxError):
        return None


def _fields(kind: type) -> dict[str, tuple[str, str | None]]:
    """Return name -> (type, default) of the fields of a dataclass, NamedTuple or Flax module, as in the source."""
    if not dataclasses.is_dataclass(kind) and not hasattr(kind, "_fields"):
        return {}
    found: dict[str, tuple[str, str | None]] = {}
    keywords: dict[str, tuple[str, str | None]] = {}  # they follow those of all classes
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith("mmkd_jax"):
            continue
        node = _definition(base)
        for field in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                default = None if field.value is None else _source(field.value)
                if default and (factory := re.search(r"default_factory=(\w+)", default)):
                    default = f"{factory[1]}()"
                if _source(field.annotation) != "dataclasses.KW_ONLY":
                    of = keywords if _is_keyword(kind, field.target.id) else found
                    of[field.target.id] = _source(field.annotation), default
    return found | keywords


def _is_keyword(kind: type, name: str) -> bool:
    """Return whether a field of a dataclass is a keyword only."""
    known = getattr(kind, "__dataclass_fields__", {})
    return name in known and known[name].kw_only


def _types(what: str, value: Any) -> tuple[dict[str, str], str]:
    """Return argument or field -> type, and the type that is returned, as in the source."""
    if isinstance(value, type):
        fields = {k: t for k, (t, _) in _fields(value).items()}
        initializer = _definition(vars(value).get("__init__"))
        return fields or (_arguments(initializer) if isinstance(initializer, ast.FunctionDef) else {}), ""
    node = _definition(value)
    if not isinstance(node, ast.FunctionDef):
        return {}, ""
    return _arguments(node), "" if node.returns is None else _source(node.returns)


def _arguments(node: ast.FunctionDef) -> dict[str, str]:
    return {a.arg: _source(a.annotation) for a in _every(node) if a.annotation is not None}


def _every(node: ast.FunctionDef) -> list[ast.arg]:
    a = node.args
    return [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]


def _source(node: ast.AST) -> str:
    """Return source with the quotes of our formatter."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')


def prepared(text: str, kinds: dict[str, str] | None = None, returned: str = "") -> str:
    """Convert one of our docstrings to reStructuredText with Google sections."""
    blocks, section = [], ""
    for block in re.split(r"\n{2,}", text.strip("\n")):
        lines = block.split("\n")
        if lines[0] in ("Args:", "Returns:", "Raises:", "Attributes:", "Example:"):
            section = lines[0]
        elif not lines[0].startswith(" "):
            section = ""
        if section == "Example:" or ">>>" in block:
            blocks.append(block)
        elif re.match(rf"({FIELDS}): ", lines[0]):
            blocks.append(_own_sections(lines))
        elif section:
            blocks.append(_google(lines, section, kinds or {}, returned))
        else:
            blocks.append(markup(block))
    return "\n\n".join(blocks)


def _own_sections(lines: list[str]) -> str:
    """Return `Formula: …` and the like as fields; a formula is set as code."""
    entries: list[list[str]] = []
    for line in lines:
        if match := re.match(rf"({FIELDS}): (.*)", line):
            entries.append([match[1], match[2]])
        else:
            entries[-1][1] += " " + line.strip()
    return "\n".join(
        f":{name}: ``{text}``" if name == "Formula" and "`" not in text else f":{name}: {markup(text)}"
        for name, text in entries
    )


def _google(lines: list[str], section: str, kinds: dict[str, str], returned: str) -> str:
    """Return an Args, Attributes, Returns or Raises section with types."""
    body = markup("\n".join(lines)).split("\n")
    if body[0] == "Attributes:" and kinds:
        body[0] = "Args:"  # the fields are the constructor's arguments
    if section == "Returns:" and returned and body[0] == section:
        body[1] = f"    ``{returned}``: {body[1].strip()}"
    if section in ("Args:", "Attributes:"):
        for i, line in enumerate(body):
            match = re.match(r"    (?=\S)((?:\\\*)*)(\w+): ", line)
            if match and match[2] in kinds:
                body[i] = f"    {match[1]}{match[2]} (``{kinds[match[2]]}``): {line[match.end() :]}"
    return "\n".join(body)


def markup(text: str) -> str:
    """Escape prose for reStructuredText; `name` becomes a link to the reference, other code in backticks stays code."""

    def one(match):
        code, url, prose = match["code"], match["url"], match["prose"]
        if url:
            return url
        if code is None:
            return re.sub(r"[\\*|]|(?<=\w)_(?!\w)", r"\\\g<0>", prose)
        code = " ".join(code.strip("`").split())
        link = f":py:obj:`{code}`" if re.fullmatch(r"[A-Za-z_][\w.]*", code) else f"``{code}``"
        before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        joined = "" if re.match(r"""[\s"'(\[{<\-/:]?$""", before) else r"\ "
        return joined + link + ("" if re.match(r"""[\s"')\]}>\-/:.,;!?]?$""", after) else r"\ ")

    return re.sub(r"(?P<code>``.+?``|`[^`]+`)|(?P<url>https?://\S+)|(?P<prose>(?:(?!https?://)[^`])+)", one, text)
