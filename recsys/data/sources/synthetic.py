"""Source ``synthetic``: a service made up from a seed, in the size that is configured."""

from __future__ import annotations

from pathlib import Path

from recsys import columns as c
from recsys.config import SourceConfig
from recsys.data.sources.base import Located, Place, Provenance, RawFile, RawTable, Tables
from recsys.data.synthetic import VERSION, Service, write_synthetic

LICENCE = "made up by Marquee: no rights are reserved"


def locate(config: SourceConfig, place: Place) -> Located:
    """Nothing to find: the tables are made when they are asked for.

    Raises:
        ConfigError: the numbers of users, titles and ratings do not fit each other.
    """
    service = Service(config.users, config.items, config.interactions, config.seed)
    service.check()

    def tables(scratch: Path) -> Tables:
        place.note(f"making up {service.interactions:,} ratings")
        ratings, titles = write_synthetic(
            scratch / "synthetic",
            users=service.users,
            items=service.items,
            interactions=service.interactions,
            seed=service.seed,
            format="parquet",
            note=place.note,
        )
        return Tables(
            RawTable("ratings", (RawFile(ratings),), "parquet", required=(c.USER_ID, c.ITEM_ID, c.RATING, c.TIMESTAMP)),
            RawTable("titles", (RawFile(titles),), "parquet", required=(c.ITEM_ID, c.TITLE)),
        )

    name = f"synthetic ({service.users:,} users, {service.items:,} titles, seed {service.seed})"
    return Located((), Provenance(name, LICENCE), tables, (0.5, 5.0), VERSION)
