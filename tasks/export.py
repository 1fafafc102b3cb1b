"""The lists: written with the model that serves, audited, published."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from recsys import columns, lock
from recsys.artefacts import ArtefactRef, Draft, read_manifest, read_table, verified_file, write_table
from recsys.bundle import Bundle, load_bundle
from recsys.catalogue import eligible
from recsys.data.split import align_titles, id_maps, read_histories
from recsys.data.validated import ValidatedDataset
from recsys.families import load_scorer
from recsys.histories import Bools
from recsys.listing import Listing
from recsys.look import TITLES_FILE, write_names
from recsys.publish.audit import audit
from recsys.publish.files import FileSink, Pointer
from recsys.publish.remote import publish
from recsys.recommend import write_similar
from recsys.storage import Remote
from tasks.engines import write_lists
from tasks.events import RowsDone, emit
from tasks.refit import SPACE_FILE
from tasks.run import Run, stage
from tasks.validate import validate_recommendations

KIND = "recommendations"


@task(name="recommend")
def recommend(run: Run, validated: ArtefactRef, model: ArtefactRef, version: str) -> ArtefactRef:
    """Write every user's list and every title's similar titles with a model.

    Args:
        run: the night.
        validated: tonight's data.
        model: the bundle that serves.
        version: its version in the registry, as it is written beside each line.

    Raises:
        PublicationError: the model gave scores that are not finite.
        ArtefactError: the model or the data are damaged.
    """
    with stage(run, "recommend") as record:
        parents = {"validated": validated.digest, "model": model.digest}
        configuration = _configuration(run, version)
        found = run.store.find(KIND, parents, configuration)
        record.reused = found is not None
        if found is None:
            bundle = load_bundle(Path(model.path), load_scorer=load_scorer)
            data = ValidatedDataset.load(validated)
            with run.store.create(KIND, parents, configuration) as (draft, found):
                _write(run, data, bundle, version, draft)
        manifest = read_manifest(found)
        record.artefact, record.rows, record.details = found, manifest.rows["recommendations"], manifest.summary
        return found


@task(name="publish")
def audit_and_publish(run: Run, validated: ArtefactRef, lists: ArtefactRef) -> Pointer:
    """Audit a generation of lists, and swap the pointer to it.

    Raises:
        PublicationError: the audit refused it, or this run no longer holds the lock. What was served is untouched.
        StorageError: the object storage cannot be reached. What was served is untouched, there and here.
    """
    with stage(run, "publish") as record:
        manifest = read_manifest(lists)
        sink = FileSink(run.home)
        n = run.config.export.n
        listable = read_table(verified_file(lists, "listable.parquet"))[columns.ITEM_ID].combine_chunks()
        ratings = ValidatedDataset.load(validated).ratings
        report = audit(lists.file("recommendations"), ratings, listable, n=n, spill=run.folder / "spill")
        parts = [lists.file(name) for name in sorted(manifest.files) if name.startswith("recommendations/part-")]
        validate_recommendations(run, parts, n=n, rows=manifest.rows["recommendations"], users=report.users)
        pointer, record.reused = publish(
            sink,
            Remote.of(run.config.storage),
            lists,
            run_date=run.run_date,
            users=report.users,
            model_version=str(manifest.configuration["model_version"]),
            run_id=run.run_id,
            keep=run.config.export.generations,
            fence=partial(lock.fence, run.home, run.run_id),
        )
        record.rows, record.details = report.rows, asdict(report)
        return pointer


def _configuration(run: Run, version: str) -> dict[str, Any]:
    export = run.config.export
    shown = export.model_dump(include={"n", "similar", "min_history", "new_titles", "blocked", "region"})
    return {
        **shown,
        "positive_from": run.config.ratings.positive_from,
        "run_date": run.run_date.isoformat(),
        "model_version": version,
        **({"engine": "ray"} if run.config.compute.engine == "ray" else {}),  # its parts are cut elsewhere
    }


def _write(run: Run, data: ValidatedDataset, bundle: Bundle, version: str, draft: Draft) -> None:
    export = run.config.export
    users, catalogue = id_maps(data.ratings, data.titles())
    items = bundle.items
    titles = align_titles(data.titles(), items)
    histories = read_histories(
        data.ratings, users, items, positive_from=data.positive_from(run.config.ratings.positive_from)
    )
    listable = eligible(titles, run.run_date, blocked=export.blocked, region=export.region)
    listable &= _members(catalogue.ids, items.ids)
    space = np.load(bundle.folder / SPACE_FILE, allow_pickle=False)
    written = write_lists(
        run.config.compute,
        Listing(bundle, users, histories, titles, listable, space, export, version, run.run_date),
        draft.path / "recommendations",
        lambda done: emit(RowsDone("recommend", done, len(users), "users")),
    )
    similar = write_similar(draft.path / "similar_titles", space, items, listable, n=export.similar)
    write_names(draft.path / "recommendations" / TITLES_FILE, titles)
    write_table(draft.file("listable.parquet"), pa.table({columns.ITEM_ID: items.ids.filter(pa.array(listable))}))
    draft.rows.update(recommendations=written.rows, similar_titles=similar, users=written.users)
    draft.summary.update(
        asdict(written),
        listable=int(listable.sum()),
        catalogue=len(catalogue),
        new_to_model=len(catalogue) - len(items),
    )


def _members(catalogue: pa.Array, ids: pa.Array) -> Bools:
    return np.asarray(pc.is_in(ids, value_set=catalogue).to_numpy(zero_copy_only=False), np.bool_)
