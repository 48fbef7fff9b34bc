"""Every loss, method, recipe, scheme and attack, as its docstring describes it: `mmkd losses`, and its page."""

import dataclasses
import difflib
import inspect
import json
import re
from collections.abc import Callable

from mmkd_jax import attacks, losses, methods, recipes, schemes
from mmkd_jax.errors import UserError

_TOPICS = ("logits", "features", "attention", "relational", "regression", "contrastive", "alignment")
_TOPICS += ("adversarial", "structure", "gradients")
_FIELDS = ("Topic", "Formula", "Compares", "Extra", "Source", "Differs")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A loss, a method, a recipe, an attack or a gradient scheme.

    Attributes:
        name: under which `mmkd_jax.losses` has it; methods are `methods.NAME`, and so on.
        topic: the folder of a loss, the field `Topic` of a method or a recipe.
        line: what it is.
        formula: as in the paper.
        compares: what it takes of the models.
        extra: what it needs besides: parameters, memory, passes.
        paper: authors and title.
        year: of the paper.
        link: to the paper.
        differs: in which point others compute something else.
        doc: the whole docstring.
        signature: the call.
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
    """All of them, by topic and name.

    Example:
        >>> [e.source for e in entries() if e.name == "kl"]
        ['Hinton et al., Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531']
    """
    functions = {n: f for n, f in vars(losses).items() if inspect.isfunction(f)}
    del functions["topk"]  # it makes a record, and compares nothing
    found = [_entry(n, f) for n, f in functions.items()]
    found += [_entry(f"methods.{n}", f) for n, f in vars(methods).items() if inspect.isfunction(f)]
    of_paper = {n: f for n, f in vars(schemes).items() if inspect.isfunction(f) and n != "total"}  # a sum has no source
    found += [_entry(f"recipes.{n}", f) for n, f in vars(recipes).items() if inspect.isfunction(f)]
    found += [_entry(f"schemes.{n}", f) for n, f in of_paper.items()]
    found += [_entry(f"attacks.{f.__name__}", f) for f in (attacks.fgsm, attacks.pgd)]
    if strange := [e.name for e in found if e.topic not in _TOPICS]:
        raise ValueError(f"the topic of {', '.join(strange)} is not one of {', '.join(_TOPICS)}")
    return sorted(found, key=lambda e: (_TOPICS.index(e.topic), "." in e.name, e.name))


def text() -> str:
    """All entries, for a person."""
    blocks = []
    for e in entries():
        blocks.append(
            f"{e.name} · {e.topic}\n    {e.line}\n    {e.formula}\n"
            f"    compares: {e.compares}; extra: {e.extra}\n    {e.source}"
        )
    return "\n".join(blocks)


def describe(name: str) -> str:
    """One entry's call and docstring, by its name in any case; the prefix may be left out where one is clear.

    Raises:
        UserError: no such loss; the message names those that are close.
    """
    known = {e.name: (f"{e.signature}\n\n{e.doc}", e.line) for e in entries()}
    total = inspect.getdoc(schemes.total) or ""
    known["schemes.total"] = (f"schemes.total{_call(schemes.total)}\n\n{total}", total.split("\n", 1)[0])
    word = name.lower().removeprefix("losses.")
    alike = [n for n in known if n == word] or [n for n in known if n.rpartition(".")[2].lower() == word]
    if len(alike) == 1:
        return known[alike[0]][0]
    whole = [n for n, (_, line) in known.items() if re.search(rf"\b{re.escape(word)}\b", f"{n} {line}".lower())]
    part = [n for n in known if word in n]
    near = difflib.get_close_matches(word, known, 4, 0.5)
    close = list(dict.fromkeys(sorted(whole, key=len) + part + near))[:8] if word else []
    hint = f"close to it: {', '.join(close)}; " if close else ""
    raise UserError(f"no loss {name!r}; {hint}all of them: mmkd losses")


def as_json() -> str:
    """One row an entry."""
    keys = ("name", "topic", "formula", "source", "year", "compares", "extra")
    return json.dumps([{k: getattr(e, k) for k in keys} for e in entries()], indent=1, ensure_ascii=False)


def markdown() -> str:
    """The page of the docs."""
    lines = [
        "# Losses",
        "",
        "Generated from the docstrings by `mmkd losses --markdown`. A formula is that of one value, per example unless "
        "it says otherwise; `mmkd losses NAME` prints arguments and shapes. A loss goes into `term(losses.NAME, …)`, "
        "a method is an objective by itself, a recipe gives the parts of an experiment.",
    ]
    topic = None
    for e in entries():
        if e.topic != topic:
            topic = e.topic
            lines += ["", f"## {topic.capitalize()}", ""]
        lines.append(listed(e))
    return "\n".join(lines) + "\n"


def listed(e: Entry) -> str:
    """An entry as an item of a Markdown list: what it is, its paper, its formula, what it needs."""
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
    """`Name: value` at the margin; a value goes on to the next such line or blank one."""
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
    """The arguments and their defaults; types and shapes stand in the docstring."""
    parameters = inspect.signature(function).parameters.values()
    bare = [p.replace(annotation=p.empty) for p in parameters]
    return str(inspect.Signature(bare))
