"""Documents of titles: any language, hostile text, no text, and the same vocabulary for the same catalogue."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys import columns
from recsys.data.text import FIELDS, NO_TEXT, PAD, UNKNOWN, Documents, Vocabulary
from recsys.errors import ArtefactError


def catalogue(*rows: dict[str, object]) -> pa.Table:
    full = [{"genres": [], "cast": [], "directors": [], "tags": [], "regions": [], **row} for row in rows]
    for number, row in enumerate(full):
        row.setdefault("item_id", f"{number}")
    return pa.Table.from_pylist(full, schema=columns.TITLES)


PIANO = {
    "title": "The Piano",
    "year": 1993,
    "genres": ["Drama", "Romance"],
    "directors": ["Jane Campion"],
    "cast": ["Holly Hunter", "Harvey Keitel"],
    "tags": ["new zealand", "sewing machine"],
    "plot": "A mute woman is sent to New Zealand with her daughter and her prized piano.",
}
DOG = {
    "title": "The Power of the Dog",
    "year": 2021,
    "genres": ["Drama"],
    "directors": ["Jane  CAMPION"],
    "cast": ["Kirsten Dunst"],
    "tags": ["new zealand"],
    "plot": "A rancher torments his brother's new wife.",
}


def labels(vocabulary: Vocabulary, documents: Documents, row: int) -> list[str]:
    return [vocabulary.label(token) for token in documents.tokens[row] if token != PAD]


def field_of(documents: Documents, row: int, field: str) -> list[int]:
    return documents.tokens[row][documents.fields[row] == FIELDS.index(field)].tolist()


def test_names_that_occur_twice_are_one_token_and_people_who_do_not_are_unknown() -> None:
    titles = catalogue(PIANO, DOG)
    vocabulary = Vocabulary.train(titles)
    told = labels(vocabulary, vocabulary.encode(titles), 0)
    assert "director:jane campion" in told  # written in two ways: one person
    assert "genre:drama" in told
    assert "tag:new zealand" in told
    assert "[UNKNOWN CAST]" in told
    assert "genre:romance" not in told  # once only: its words instead
    assert any("omance" in piece or "▁romance" in piece for piece in told) or "▁r" in told


def test_years_become_the_year_and_its_decade() -> None:
    titles = catalogue(*({"title": f"t{year}", "year": year} for year in (1993, 1993, 1997, 2001)))
    vocabulary = Vocabulary.train(titles)
    documents = vocabulary.encode(titles)
    assert labels(vocabulary, documents, 0)[:2] == ["decade:1990", "year:1993"]
    assert labels(vocabulary, documents, 2)[0] == "decade:1990"
    assert "year:1997" not in labels(vocabulary, documents, 2)


def test_a_title_of_which_nothing_is_known_has_one_token() -> None:
    titles = catalogue(PIANO, {}, {"title": "", "plot": "   "}, {"title": "?!…"})
    documents = Vocabulary.train(titles).encode(titles)
    for row in (1, 2, 3):
        assert documents.tokens[row, 0] == NO_TEXT
        assert (documents.tokens[row, 1:] == PAD).all()
        assert documents.fields[row, 0] == FIELDS.index("none")


def test_a_catalogue_without_any_text_can_be_encoded() -> None:
    titles = catalogue({}, {}, {})
    documents = Vocabulary.train(titles).encode(titles)
    assert (documents.tokens[:, 0] == NO_TEXT).all()
    empty = catalogue()
    assert len(Vocabulary.train(empty).encode(empty)) == 0


def test_chinese_and_japanese_share_subwords_without_spaces() -> None:
    rows = [{"title": f"{a}{b}物語"} for a in "東京横浜" for b in "春夏秋冬"]
    rows += [{"title": f"我的{a}電影"} for a in "紅黃藍綠"]
    titles = catalogue(*rows)
    vocabulary = Vocabulary.train(titles)
    documents = vocabulary.encode(titles)
    shared = set(field_of(documents, 0, "title")) & set(field_of(documents, 4, "title"))  # 東春物語, 京春物語
    assert any("物語" in vocabulary.label(token) for token in shared)
    assert UNKNOWN not in documents.tokens


def test_forms_of_the_same_text_are_the_same_tokens() -> None:
    titles = catalogue({"title": "Amélie ①"}, {"title": "AME\u0301LIE 1"}, {"title": "ａｍé\u200blie 1"})
    documents = Vocabulary.train(titles).encode(titles)
    assert field_of(documents, 0, "title") == field_of(documents, 1, "title")
    assert len(field_of(documents, 2, "title")) > 0


def test_the_start_of_a_word_is_another_token_than_its_end() -> None:
    titles = catalogue(*({"plot": "man woman"} for _ in range(5)))
    vocabulary = Vocabulary.train(titles)
    man, woman = vocabulary.encode(catalogue({"plot": "man"}, {"plot": "woman"})).tokens
    assert not set(man[man != PAD]) & set(woman[woman != PAD])


def test_symbols_and_emoji_are_read_where_the_catalogue_knows_them() -> None:
    titles = catalogue({"title": "$ 😀"}, {"title": "$"}, {"title": "😀 film"})
    vocabulary = Vocabulary.train(titles)
    documents = vocabulary.encode(titles)
    assert set(field_of(documents, 0, "title")) & set(field_of(documents, 1, "title"))
    assert set(field_of(documents, 0, "title")) & set(field_of(documents, 2, "title"))
    assert UNKNOWN in vocabulary.encode(catalogue({"title": "🚀"})).tokens[0]


def test_new_titles_are_encoded_by_an_old_vocabulary() -> None:
    vocabulary = Vocabulary.train(catalogue(PIANO, DOG))
    new = {"title": "Bright Star", "year": 2009, "directors": ["jane campion"], "cast": ["Ben Whishaw"]}
    documents = vocabulary.encode(catalogue(new))
    assert "director:jane campion" in labels(vocabulary, documents, 0)
    assert documents.tokens.max() < documents.n_tokens == vocabulary.n_tokens


def test_long_documents_lose_their_end_which_is_the_plot() -> None:
    long = {**PIANO, "plot": "piano " * 10_000, "cast": [f"Actor {n}" for n in range(500)]}
    vocabulary = Vocabulary.train(catalogue(long, DOG), max_tokens=32)
    documents = vocabulary.encode(catalogue(long))
    assert documents.tokens.shape == (1, 32)
    assert len(field_of(documents, 0, "cast")) == 8
    assert len(field_of(documents, 0, "title")) > 0
    assert documents.fields[0, -1] == FIELDS.index("plot")


def test_the_vocabulary_keeps_to_its_size() -> None:
    hanzi = [{"plot": "".join(chr(0x4E00 + (31 * n + k) % 3000) for k in range(60))} for n in range(200)]
    vocabulary = Vocabulary.train(catalogue(*hanzi), vocabulary_size=500)
    assert vocabulary.n_tokens - len(vocabulary.names) - 5 <= 500
    assert (vocabulary.encode(catalogue(*hanzi)).tokens > UNKNOWN).any()


def test_the_most_frequent_names_are_kept() -> None:
    rows = [{"tags": ["common", "rare"] if n < 2 else ["common"]} for n in range(4)]
    assert Vocabulary.train(catalogue(*rows), max_names=1).names == ("tag:common",)


def test_saved_and_loaded_it_encodes_the_same(tmp_path: Path) -> None:
    titles = catalogue(PIANO, DOG, {"title": "東京物語"})
    vocabulary = Vocabulary.train(titles)
    vocabulary.save(tmp_path / "vocabulary.json")
    loaded = Vocabulary.load(tmp_path / "vocabulary.json")
    np.testing.assert_array_equal(loaded.encode(titles).tokens, vocabulary.encode(titles).tokens)
    np.testing.assert_array_equal(loaded.encode(titles).fields, vocabulary.encode(titles).fields)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "vocabulary.json").read_bytes()


@pytest.mark.parametrize("spoil", [lambda t: t[: len(t) // 2], lambda _: "{}", lambda t: t.replace('"BPE"', '"no"')])
def test_a_damaged_vocabulary_is_named(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    path = tmp_path / "vocabulary.json"
    Vocabulary.train(catalogue(PIANO, DOG)).save(path)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(ArtefactError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


def many_titles() -> pa.Table:
    """Words and characters enough for ties, in which an order could show."""
    pairs = [(a, b) for a in "abcdefgh" for b in "ijklmnop紅黃"]
    plots = [" ".join(f"{a}{n}x{b}" for n in range(30)) + "東京" + a * 3 for a, b in pairs]
    return catalogue(*({"title": a + b, "plot": plot} for (a, b), plot in zip(pairs, plots, strict=True)))


def test_other_processes_train_the_same_vocabulary(repository: Path) -> None:
    """Rust's hash maps are seeded anew in every process: nothing may hang on their order, nor on threads."""
    code = f"""
import json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_text import many_titles
from recsys.data.text import Vocabulary
print(json.dumps(Vocabulary.train(many_titles(), vocabulary_size=300).to_json()))
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            cwd=repository,
            env={"PATH": "", "TOKENIZERS_PARALLELISM": parallel, "PYTHONPATH": str(repository)},
        ).stdout
        for parallel in ("true", "false", "true")
    }
    assert len(told) == 1
    assert json.loads(told.pop())["subwords"]["model"]["merges"]


texts = st.one_of(st.none(), st.text(max_size=60))
names = st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "title": texts,
                "plot": texts,
                "year": st.one_of(st.none(), st.integers(-1, 3000)),
                "cast": names,
                "directors": names,
                "genres": names,
                "tags": names,
            }
        ),
        max_size=5,
    )
)
def test_any_text_becomes_a_document(rows: list[dict[str, object]]) -> None:
    titles = catalogue(*rows)
    vocabulary = Vocabulary.train(titles, max_tokens=24)
    documents = vocabulary.encode(titles)
    assert documents.tokens.dtype == np.int32
    assert documents.tokens.shape == documents.fields.shape == (len(rows), 24)
    assert (documents.tokens[:, :1] != PAD).all()  # no row is empty
    assert documents.tokens.max(initial=0) < documents.n_tokens
    padding = documents.tokens == PAD
    np.testing.assert_array_equal(padding, documents.fields == FIELDS.index("pad"))
    assert (np.diff(padding.astype(int), axis=1) >= 0).all()  # padding is on the right
    again = Vocabulary.of_json(json.loads(json.dumps(vocabulary.to_json())))
    np.testing.assert_array_equal(again.encode(titles).tokens, documents.tokens)
