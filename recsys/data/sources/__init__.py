"""Where data come from: one file per kind of source. Importing this imports none of them."""

from __future__ import annotations

from recsys.config import SourceConfig
from recsys.data.sources.base import Located, Place
from recsys.errors import ConfigError


def locate_source(config: SourceConfig, place: Place) -> Located:
    """Find (or bring) the raw files of a configured source.

    Raises:
        ConfigError: what the configuration says does not name a source.
        SourceError: the files are missing or are not what they should be.
        DownloadError: they cannot be brought just now.
    """
    if config.kind == "sample":
        from recsys.data.sources import sample

        return sample.locate(config, place)
    if config.kind == "movielens":
        from recsys.data.sources import movielens

        return movielens.locate(config, place)
    if config.kind == "files":
        from recsys.data.sources import files

        return files.locate(config, place)
    if config.kind == "synthetic":
        from recsys.data.sources import synthetic

        return synthetic.locate(config, place)
    raise ConfigError(f"the source kind {config.kind!r} is not known", where="[source] kind")
