"""Where data come from: one file per kind of source. Importing this imports none of them."""

from __future__ import annotations

from collections.abc import Callable

from recsys.config import SourceConfig
from recsys.data.sources.base import Located, Place
from recsys.errors import ConfigError

Locate = Callable[[SourceConfig, Place], Located]


def locate_source(config: SourceConfig, place: Place) -> Located:
    """Find (or bring) the raw files of a configured source.

    Raises:
        ConfigError: what the configuration says does not name a source.
        SourceError: the files are missing or are not what they should be.
        DownloadError: they cannot be brought just now.
    """
    locate: Locate
    if config.kind == "sample":
        from recsys.data.sources.sample import locate
    elif config.kind == "movielens":
        from recsys.data.sources.movielens import locate
    elif config.kind == "files":
        from recsys.data.sources.files import locate
    elif config.kind == "synthetic":
        from recsys.data.sources.synthetic import locate
    else:
        raise ConfigError(f"the source kind {config.kind!r} is not known", where="[source] kind")
    return locate(config, place)
