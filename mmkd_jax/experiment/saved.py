"""Results and checkpoints in a run folder: verified, compared with the experiment, never mixed."""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax

from mmkd_jax import files, variables_file
from mmkd_jax.core.state import variables
from mmkd_jax.errors import UserError, choices
from mmkd_jax.experiment.source_files import changed_files
from mmkd_jax.training.identity import ASPECTS, Identity, differences, refused, remedy
from mmkd_jax.training.init_from import PretrainedVariables
from mmkd_jax.training.training import Training

Result = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What results of a run folder are made with, recorded in each of them.

    Attributes:
        config: fields of the experiment's config, without the number of seeds.
        hyperparams: hyperparameters that override the file's.
        code: digest of the source files, a key of `code.json`.
    """

    config: Mapping[str, Any]
    hyperparams: Mapping[str, float]
    code: str


def directory_of(folder: pathlib.Path, name: str, seed: int) -> pathlib.Path:
    """Return the folder of one training and seed."""
    return folder / "trainings" / name / str(seed)


def load_variables(folder: str | pathlib.Path, training: Training, name: str, seed: int = 0) -> dict[str, Any]:
    """Load the variables of a finished training, those of the step that it selected (`Training.select`).

    Args:
        folder: the run folder.
        training: the training, as in the experiment.
        name: its name in the experiment.
        seed: which of its seeds.

    Returns:
        Trained and averaged model -> variables; those of a partly trained model are those of the whole, of
        `training.merged`.

    Raises:
        UserError: the training has not finished with this seed, its file is damaged, or its variables have other names
            or shapes.
    """
    directory = directory_of(pathlib.Path(folder), name, seed)
    try:
        sha256 = files.read_json(directory / "result.json")["variables"]
    except FileNotFoundError:
        found = [p.name for p in directory.parent.parent.glob("*") if p.is_dir()]
        if found and name not in found:
            raise UserError(f"{folder} has no training {name!r}; its trainings are: {choices(found)}") from None
        raise UserError(f"{directory} has no result: training {name!r} has not finished with seed {seed}") from None
    state, frozen = training.abstract()
    like = jax.eval_shape(training.result, variables(state, {}), frozen)
    return variables_file.read_variables(directory / "variables.safetensors", like, sha256)


def verify(directory: pathlib.Path, log: files.Log) -> Result | None:
    """Return a finished result; one that is damaged, or whose variables are, is set aside to be made again."""
    result = files.recover_json(directory / "result.json", log)
    if result is None:
        return None
    path = directory / "variables.safetensors"
    try:
        with files.reported(path, "reading"):
            found = files.sha256(path)
    except UserError:
        if path.is_file():
            raise
        found = "missing"
    if found == result["variables"]:
        return result
    what = f"damaged (kept as {files.set_aside(path).name})" if path.exists() else "missing"
    files.set_aside(directory / "result.json")
    log(f"{path} is {what}: the training is finished again from its last checkpoint")
    return None


def source_identities(
    training: Training, results: Mapping[str, Result | None], expected: Mapping[str, str]
) -> dict[str, Any]:
    """Return the identity of each source of a training's variables.

    Args:
        training: the training.
        results: name of an earlier training -> its finished result with the same seed, or None.
        expected: name of an earlier training -> digest of the identity that it will have.
    """
    found: dict[str, Any] = {}
    for path, source in training.init_from.items():
        if isinstance(source, PretrainedVariables):
            found[path] = {"variables": source.fingerprint}
            continue
        of = source.partition(".")[0]
        result = results[of]
        found[path] = {"from": source, "training": trained_as(result) if result else expected[of]}
        found[path] |= {"variables": result["variables"] if result else None}
    return found


def trained_as(result: Result) -> str:
    """Return the digest of what a result was trained as, including changes during training."""
    return digest_of(result["identity"], result["earlier"])


def digest_of(identity: Identity, earlier: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the digest of an identity, without the hashes of its sources' variables, which need training."""
    sources = {
        k: {n: x for n, x in v.items() if "from" not in v or n != "variables"} for k, v in identity["sources"].items()
    }
    return files.digest([identity | {"sources": sources}, [*earlier]])[:16]


def accepted(folder: pathlib.Path) -> dict[str, str]:
    """Return TRAINING/SEED -> digest of the identity for which its result was kept with `--allow-changed-…`."""
    try:
        return files.read_json(folder / "accepted.json")
    except (FileNotFoundError, files.Damaged):
        return {}


def lengthened(result: Result, now: Identity, allowed: frozenset[str]) -> bool:
    """Return whether a finished training is to be lengthened."""
    return "extend" in allowed and result["identity"]["settings"]["steps"] < now["settings"]["steps"]


def put_back(directory: pathlib.Path, steps: int) -> None:
    """Rename the result of a finished training, so that it resumes from its last checkpoint."""
    for file in ("result.json", "variables.safetensors"):
        (directory / file).rename(files.unused(directory / f"{file}.{steps}_steps"))


def compare(
    folder: pathlib.Path,
    identities: Mapping[str, Identity],
    trainings: Mapping[str, Training],
    found: Mapping[tuple[str, int], tuple[Result | None, dict[str, Any] | None]],
    configuration: Configuration,
    allowed: frozenset[str],
    log: files.Log,
) -> None:
    """Raise, before anything is trained, if something in a run folder was trained as something else.

    Args:
        folder: the run folder.
        identities: name -> identity of the training, without its sources.
        trainings: name -> Training.
        found: (name, seed) -> finished result, and metadata of the newest checkpoint.
        configuration: what new results are made with.
        allowed: aspects that may differ, see `identity.refused`; what is kept is accepted from now on.
        log: called with messages for the user.
    """
    known = files.recover_json(folder / "accepted.json", log) or {}
    kept: dict[str, str] = {}
    wrong: dict[str, dict[str, list[str]]] = {}
    places: dict[str, list[str]] = {}
    seen: list[tuple[Identity, Identity]] = []
    for seed in sorted({seed for _, seed in found}):
        expected: dict[str, str] = {}
        changed: set[str] = set()  # trained on, after a change
        for name, training in trainings.items():
            result, meta = found[name, seed]
            results = {n: found[n, seed][0] if n in expected and n not in changed else None for n in trainings}
            now = identities[name] | {"sources": source_identities(training, results, expected)}
            before = (result or meta or {}).get("identity")
            if before is not None:
                for path, source in now["sources"].items():  # unknown until it has been trained
                    if "variables" in source and source["variables"] is None:
                        source["variables"] = before["sources"].get(path, {}).get("variables")
                place = f"{name}/{seed}"
                if known.get(place) == digest_of(now):
                    kept[place] = known[place]
                elif lines := refused(before, now, allowed):
                    wrong.setdefault(name, {}).update(lines)
                    places.setdefault(name, []).append(str(seed))
                    seen.append((before, now))
                elif differences(before, now) and result and not lengthened(result, now, allowed):
                    kept[place] = digest_of(now)
            expected[name] = digest_of(now, (meta or {}).get("earlier", []))
            if before is not None and differences(before, now) and (not result or lengthened(result, now, allowed)):
                expected[name] += " changed"
                changed.add(name)
    if not wrong:
        if kept != known:
            files.write_json(folder / "accepted.json", kept)
        return
    items = [
        f"{name!r} (seed {', '.join(places[name])}): {'; '.join(x for lines in aspects.values() for x in lines)}"
        for name, aspects in list(wrong.items())[:4]
    ]
    more = f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""
    aspects = {a for each in wrong.values() for a in each}
    first = next(r or m for (n, s), (r, m) in found.items() if n in wrong and str(s) in places[n])
    cause = _cause(folder, first or {}, configuration)
    what = remedy([a for a in ASPECTS if a in aspects], *seen[0])
    raise UserError(
        f"{folder} has other trainings under these names: {'; '.join(items)}{more}{cause}. {what}; a folder of "
        f"{folder / 'trainings'} that you remove is trained again"
    )


def _cause(folder: pathlib.Path, saved: Mapping[str, Any], now: Configuration) -> str:
    """Return which fields of the configuration and which files differ, as a hint."""
    if "made_with" not in saved:
        return ""
    made = Configuration(**saved["made_with"])
    fields = files.changes({"config": made.config}, {"config": dict(now.config)})
    names = changed_files(folder, made.code, now.code)
    shown = f"edited: {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}" if names else ""
    hints = [*fields[:3], *[shown] * bool(shown)]
    return f" ({'; '.join(hints)})" if hints else ""


def notes(
    identities: Mapping[tuple[str, int], Identity], trained: Collection[str], results: Mapping[str, Sequence[Result]]
) -> list[str]:
    """Return what a reader of a table must know: unequal steps, and rows of other code, settings, data or sources.

    Args:
        identities: (training, seed) -> its identity now.
        trained: trainings that train a model, and do not evaluate alone.
        results: training -> one result per seed.
    """
    lines = []
    steps = {n: identities[n, 0]["settings"]["steps"] for n in results if n in trained}
    if len(set(steps.values())) > 1:
        lines.append(f"steps: {', '.join(f'{n} {s:,}' for n, s in steps.items())}")
    for name, seeds in results.items():
        groups: dict[str, list[int]] = {}
        for result in seeds:
            changed = differences(result["identity"], identities[name, result["seed"]])
            text = [f"made before a change of {a} ({'; '.join(changed[a])})" for a in changed]
            text += [
                f"its first {e['until']:,} steps were made before a change "
                f"({'; '.join(x for lines in differences(e['identity'], result['identity']).values() for x in lines)})"
                for e in result["earlier"]
            ]
            if text:
                groups.setdefault("; ".join(text), []).append(result["seed"])
        for text, which in groups.items():
            lines.append(f"{name}, seed {', '.join(map(str, which))}: {text}")
    return lines


def record(
    folder: pathlib.Path, experiment: str, configuration: Configuration, command: str, finished: Sequence[Result]
) -> None:
    """Write `config.json`: the configuration, and those that earlier results were made with, each with its results."""
    groups = {files.digest(dataclasses.asdict(configuration)): {**dataclasses.asdict(configuration), "results": []}}
    for result in finished:
        made = result["made_with"]
        group = groups.setdefault(files.digest(made), {**made, "results": []})
        group["results"].append(f"{result['training']}/{result['seed']}")
    value = {"experiment": experiment, "command": command, "folder": str(folder.absolute())}
    value |= {"configurations": list(groups.values())}
    files.write_json(folder / "config.json", value)
