import pickle

import pytest

from recsys.errors import ArtefactError, ConfigError, LockHeldError, MarqueeError, SourceError


def test_one_paragraph():
    error = SourceError("rating 7.0 is above 5.0", where="ratings.csv line 3", remedy="set [source] rating_max")
    assert str(error) == "ratings.csv line 3: rating 7.0 is above 5.0. Set [source] rating_max."
    assert str(MarqueeError("it broke.")) == "it broke."


@pytest.mark.parametrize(
    ("kind", "code"), [(MarqueeError, 1), (ArtefactError, 1), (ConfigError, 2), (SourceError, 2), (LockHeldError, 4)]
)
def test_exit_codes_survive_a_process_boundary(kind, code):
    error = pickle.loads(pickle.dumps(kind("what", where="here", remedy="do")))
    assert type(error) is kind
    assert (str(error), error.exit_code) == ("here: what. Do.", code)
