"""Catalogue of losses, methods, recipes, gradient aggregators and attacks, from their docstrings: `mmkd losses`."""

import dataclasses
import difflib
import inspect
import json
import re
from collections.abc import Callable

from mmkd_jax import gradients, losses, methods, recipes
from mmkd_jax.adversarial import attacks
from mmkd_jax.errors import UserError

_TOPICS = ("logits", "features", "attention", "relational", "regression", "contrastive", "ranking")
_TOPICS += ("alignment", "adversarial", "structure", "gradients")
_FIELDS = ("Topic", "Formula", "Compares", "Extra", "Source", "Differs")


@dataclasses.dataclass(frozen=True)
class Entry:
    """Catalogue entry of a loss, method, recipe, attack or gradient aggregator.

    Attributes:
        name: name in `mmkd_jax.losses`; other kinds have a prefix, such as `methods.NAME`.
        topic: folder of a loss; field `Topic` of other kinds.
        line: first line of the docstring.
        formula: formula of the paper.
        compares: model outputs that it compares.
        extra: additional parameters, objective state and forward passes.
        paper: authors and title of the paper.
        year: year of the paper.
        link: URL of the paper.
        differs: differences from other implementations.
        doc: full docstring.
        signature: name and arguments with defaults.
    """

    name: str
    topic: str
    line: str
    formula: str
    compares: str
    extra: str
    paper: str
    year: int
    link: str
    differs: str
    doc: str
    signature: str

    @property
    def source(self) -> str:
        return f"{self.paper}, {self.year}, {self.link}"


def entries() -> list[Entry]:
    """Return all entries, sorted by topic and name.

    Example:
        >>> [e.source for e in entries() if e.name == "kl"]
        ['Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531']
    """
    functions = {n: f for n, f in vars(losses).items() if inspect.isfunction(f)}
    del functions["topk"]  # makes a cache record; not a loss
    found = [_entry(n, f) for n, f in functions.items()]
    found += [_entry(f"methods.{n}", f) for n, f in vars(methods).items() if inspect.isfunction(f)]
    # the plain sum has no paper
    of_paper = {n: f for n, f in vars(gradients).items() if inspect.isfunction(f) and n != "total"}
    found += [_entry(f"recipes.{n}", f) for n, f in vars(recipes).items() if inspect.isfunction(f)]
    found += [_entry(f"gradients.{n}", f) for n, f in of_paper.items()]
    found += [_entry(f"adversarial.{f.__name__}", f) for f in (attacks.fgsm, attacks.pgd)]
    if strange := [e.name for e in found if e.topic not in _TOPICS]:
        raise ValueError(f"the topic of {', '.join(strange)} is not one of {', '.join(_TOPICS)}")
    return sorted(found, key=lambda e: (_TOPICS.index(e.topic), "." in e.name, e.name))


def text() -> str:
    """Format all entries as text."""
    blocks = []
    for e in entries():
        blocks.append(
            f"{e.name} · {e.topic}\n    {e.line}\n    {e.formula}\n"
            f"    compares: {e.compares}; extra: {e.extra}\n    {e.source}"
        )
    return "\n".join(blocks)


def describe(name: str) -> str:
    """Return the signature and docstring of an entry.

    Args:
        name: name of the entry, case-insensitive; the prefix may be omitted if the name is unique.

    Raises:
        UserError: the name is unknown; the message lists similar names.
    """
    known = {e.name: (f"{e.signature}\n\n{e.doc}", e.line) for e in entries()}
    total = inspect.getdoc(gradients.total) or ""
    known["gradients.total"] = (f"gradients.total{_call(gradients.total)}\n\n{total}", total.split("\n", 1)[0])
    word = name.lower().removeprefix("losses.")
    alike = [n for n in known if n == word] or [n for n in known if n.rpartition(".")[2].lower() == word]
    if len(alike) == 1:
        return known[alike[0]][0]
    whole = [n for n, (_, line) in known.items() if re.search(rf"\b{re.escape(word)}\b", f"{n} {line}".lower())]
    training = [n for n in known if word in n]
    near = difflib.get_close_matches(word, known, 4, 0.5)
    close = list(dict.fromkeys(sorted(whole, key=len) + training + near))[:8] if word else []
    hint = f"close to it: {', '.join(close)}; " if close else ""
    raise UserError(f"no loss {name!r}; {hint}`mmkd losses` lists all")


def as_json() -> str:
    """Format all entries as JSON, one object per entry."""
    keys = ("name", "topic", "formula", "source", "year", "compares", "extra")
    return json.dumps([{k: getattr(e, k) for k in keys} for e in entries()], indent=1, ensure_ascii=False)


def markdown() -> str:
    """Format all entries as the Markdown page docs/losses.md."""
    lines = [
        "# Losses",
        "",
        "Generated from the docstrings by `mmkd losses --markdown`. Formulas are per example unless "
        "stated otherwise; `mmkd losses NAME` prints arguments and shapes. Use a loss in `term(losses.NAME, …)`; "
        "a method is a complete objective; a recipe returns the trainings of an experiment.",
    ]
    topic = None
    for e in entries():
        if e.topic != topic:
            topic = e.topic
            lines += ["", f"## {topic.capitalize()}", ""]
        lines.append(listed(e))
    return "\n".join(lines) + "\n"


def listed(e: Entry) -> str:
    """Format an entry as a Markdown list item with summary, paper, formula and requirements."""
    needs = f"  Compares {e.compares}. Extra: {e.extra}." + (f" Differs: {e.differs}." if e.differs else "")
    return f"- **`{e.name}`** {e.line} [{e.paper}, {e.year}]({e.link})  \n  `{e.formula}`  \n{needs}"


def _entry(name: str, function: Callable) -> Entry:
    doc = inspect.getdoc(function) or ""
    fields = _fields(doc)
    if missing := [k for k in ("Formula", "Compares", "Extra", "Source") if k not in fields]:
        raise ValueError(f"the docstring of {name} lacks {', '.join(missing)}")
    source = re.fullmatch(r"(.*), ((?:19|20)\d\d), (https?://\S+)", fields["Source"])
    if source is None:
        raise ValueError(f"the docstring of {name}: Source must be 'authors, title, year, link': {fields['Source']!r}")
    return Entry(
        name,
        fields.get("Topic") or function.__module__.split(".")[2],
        doc.split("\n", 1)[0],
        fields["Formula"],
        fields["Compares"],
        fields["Extra"],
        source[1],
        int(source[2]),
        source[3],
        fields.get("Differs", ""),
        doc,
        f"{name}{_call(function)}",
    )


def _fields(doc: str) -> dict[str, str]:
    """Parse unindented `Name: value` fields; a value ends at the next field or blank line."""
    found: dict[str, str] = {}
    at = None
    for line in doc.splitlines():
        head = re.match(rf"({'|'.join(_FIELDS)}): ?(.*)", line)
        if head:
            at = head[1]
            found[at] = head[2].strip()
        elif not line.strip():
            at = None
        elif at:
            found[at] = f"{found[at]} {line.strip()}".strip()
    return {k: v.rstrip(".") for k, v in found.items()}


def _call(function: Callable) -> str:
    """Format arguments and defaults, without annotations; the docstring documents types and shapes."""
    parameters = inspect.signature(function).parameters.values()
    bare = [p.replace(annotation=p.empty) for p in parameters]
    return str(inspect.Signature(bare))
