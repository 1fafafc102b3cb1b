"""The ring's steps: rivals and models of ours fitted on one split, measured on its test window, and compared.

The result says of every model how good it is and how sure that is, where its recall comes from, and what it cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recsys.artefacts import ArtefactRef, read_manifest, write_text
from recsys.data.split import Split
from recsys.errors import UsageError
from recsys.evaluation import Evaluation
from recsys.plugins import NamedFamily, resolve
from recsys.ring import METRICS, OURS, Ring, compare_on
from recsys.ring_runs import FIT
from recsys.rivals import families_to_run
from tasks.autoencoder import train_autoencoder
from tasks.baselines import baselines_of, fit_rival
from tasks.content import train_content_cnn
from tasks.measure import measure
from tasks.ncf import train_ncf
from tasks.run import Run, stage

KIND = "ring"
RING_FILE = "ring.json"
RESAMPLES = 2_000
CONFIDENCE = 0.95
AUTOENCODER, CONTENT, BLEND, NCF = OURS
_COPIES = {AUTOENCODER: "fit", CONTENT: "final", BLEND: "measured", NCF: "measured"}


@dataclass(frozen=True)
class Entry:
    """A model in the ring: where it lies, and what it is made from."""

    spec: str
    model: ArtefactRef
    copy: str
    parts: Mapping[str, tuple[ArtefactRef, ...]] = field(default_factory=dict)
    """Models of ours: the parts that had to be made for it, by name."""


def named(models: tuple[str, ...]) -> dict[str, NamedFamily | None]:
    """The models that names and specifications mean, by the name that results show; None for a model of ours.

    Raises:
        UsageError: none was named, one is unknown or cannot be imported, or two have the same name.
    """
    found: dict[str, NamedFamily | None] = {}
    for spec in dict.fromkeys(models):
        rival = None if spec in OURS else resolve(spec, also=OURS)
        name = spec if rival is None else rival.name
        if name in found:
            raise UsageError(f"two models would be shown as {name}", where="--models", remedy="rename a module")
        found[name] = rival
    if not found:
        raise UsageError("no model was named", where="--models", remedy="name some, such as popularity,ease,ncf")
    return found


def without_order(models: Mapping[str, NamedFamily | None]) -> list[str]:
    """Models that have nothing to read where the split has no order of time."""
    return [name for name, rival in models.items() if rival is not None and rival.family.needs_order]


def fit_all(
    run: Run, split: ArtefactRef, models: Mapping[str, NamedFamily | None], budget: int | None
) -> dict[str, Entry]:
    """Fit every model on a split, each rival in a process of its own, with what ours are made from.

    Args:
        run: the run.
        split: to tune and fit on; its test window is not read.
        models: from :func:`named`.
        budget: most settings tried per rival.
    """
    wanted = [rival for rival in models.values() if rival is not None]
    towers: list[NamedFamily] = []
    if {BLEND, NCF} & set(models):
        ordered = Split.load(Path(split.path)).interactions.ordered
        towers = [resolve(name) for name in families_to_run(run.config.baselines, ordered=ordered)]
    needed = {rival.name: rival for rival in (*towers, *wanted)}
    rivals = {name: fit_rival(run, split, rival, budget) for name, rival in needed.items()}
    entries = {rival.name: Entry(rival.spec, rivals[rival.name], FIT) for rival in wanted}
    ours = dict(_ours(run, split, set(models) & set(OURS), {t.name: rivals[t.name] for t in towers}, budget))
    return {name: (ours | entries)[name] for name in models}


def _ours(
    run: Run, split: ArtefactRef, names: set[str], towers: Mapping[str, ArtefactRef], budget: int | None
) -> Iterator[tuple[str, Entry]]:
    """Train those of our models that are wanted."""
    parts: dict[str, ArtefactRef] = {}
    if names - {CONTENT}:
        parts[AUTOENCODER] = train_autoencoder.fn(run, split)
        yield AUTOENCODER, _entry(AUTOENCODER, parts[AUTOENCODER], {AUTOENCODER: (parts[AUTOENCODER],)})
    if names - {AUTOENCODER}:
        parts[CONTENT] = train_content_cnn.fn(run, split)
        yield CONTENT, _entry(CONTENT, parts[CONTENT], {CONTENT: (parts[CONTENT],)})
    if names & {BLEND, NCF}:
        baselines = baselines_of(run, split, towers, budget)
        ncf = train_ncf.fn(run, split, parts[AUTOENCODER], parts[CONTENT], baselines)
        made = {**{name: (ref,) for name, ref in parts.items()}, "baselines": tuple(towers.values()), NCF: (ncf,)}
        yield BLEND, _entry(BLEND, ncf, made)
        yield NCF, _entry(NCF, ncf, made)


def _entry(name: str, model: ArtefactRef, parts: Mapping[str, tuple[ArtefactRef, ...]]) -> Entry:
    return Entry(name, model, _COPIES[name], parts)


def measure_all(run: Run, split: ArtefactRef, entries: Mapping[str, Entry]) -> dict[str, ArtefactRef]:
    """Measure every model once on the test window: evaluations by name."""
    return {name: measure(run, split, entry.model, name, entry.spec, entry.copy) for name, entry in entries.items()}


def hold(run: Run, split: ArtefactRef, evaluations: Mapping[str, ArtefactRef]) -> ArtefactRef:
    """Hold the models against each other: the artefact holds ``ring.json``, a :class:`recsys.ring.Ring`."""
    with stage(run, KIND) as record:
        parents = {"split": split.digest} | {f"evaluation {name}": ref.digest for name, ref in evaluations.items()}
        configuration = {
            "models": list(evaluations),
            "metrics": list(METRICS),
            "resamples": RESAMPLES,
            "confidence": CONFIDENCE,
            "seed": run.config.seed,
        }
        found = run.store.find(KIND, parents, configuration)
        record.reused = found is not None
        if found is None:
            measured = {name: Evaluation.load(Path(ref.path)) for name, ref in evaluations.items()}
            ring = compare_on(
                Split.load(Path(split.path)),
                measured,
                resamples=RESAMPLES,
                confidence=CONFIDENCE,
                seed=run.config.seed,
            )
            with run.store.create(KIND, parents, configuration, seed=run.config.seed) as (draft, found):
                write_text(draft.path / RING_FILE, ring.model_dump_json(indent=1) + "\n")
                draft.rows["users"] = ring.users
        record.artefact, record.rows = found, read_manifest(found).rows["users"]
        return found


def read_ring(ref: ArtefactRef) -> Ring:
    """The ring that :func:`hold` wrote."""
    return Ring.model_validate_json(ref.file(RING_FILE).read_bytes())
