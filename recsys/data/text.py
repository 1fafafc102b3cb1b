"""Titles as documents of tokens: what the content tower, and the text baselines, read of a catalogue.

Years, genres, people and tags are one token each; words of names and plots go through a subword vocabulary (BPE)
trained on the catalogue itself, so that any language works, with or without spaces. Knows nothing of ratings.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from recsys import columns
from recsys.artefacts import write_text
from recsys.errors import ArtefactError
from recsys.histories import Ints

PAD, UNKNOWN, NO_TEXT = 0, 1, 2
"""Token ids with a fixed meaning: padding, a subword outside the alphabet, a title of which nothing is known."""

FIELDS = ("pad", "none", "year", "genre", "director", "tag", "cast", "title", "plot")
"""A token's field number is its place here."""
_FIELD = {name: number for number, name in enumerate(FIELDS)}

_LISTS = {"genre": columns.GENRES, "director": columns.DIRECTORS, "tag": columns.TAGS, "cast": columns.CAST}
_TEXTS = {"title": columns.TITLE, "plot": columns.PLOT}
_MOST = {"genre": 8, "director": 4, "tag": 16, "cast": 8, "title": 16}
"""Entries (title: tokens) read of each field, so that none crowds out the others; the plot gets what is left."""
_PEOPLE = ("director", "cast")
_FIXED = 3 + len(_PEOPLE)  # PAD, UNKNOWN, NO_TEXT, and one unknown person per role
_MAX_CHARACTERS = 4_000  # of one text: more is never read, and hostile text stays cheap
_UNK = "[UNK]"


@dataclass(frozen=True)
class Documents:
    """Titles as rows of tokens, padded on the right."""

    tokens: Ints
    """[n_items, max_tokens] token ids; 0 is padding, and no row is all padding."""
    fields: NDArray[np.int8]
    """[n_items, max_tokens] the field (a place in :data:`FIELDS`) of every token."""
    n_tokens: int
    """Size of the vocabulary: every token id is below it."""

    def __len__(self) -> int:
        return len(self.tokens)

    def select(self, items: NDArray[np.integer]) -> Documents:
        """The documents of some titles, in the order asked for."""
        return Documents(self.tokens[items], self.fields[items], self.n_tokens)


class Vocabulary:
    """What a catalogue's text is made of: the known names and the subwords.

    Token ids: the fixed ones, then names, then subwords. The same catalogue gives the same vocabulary.
    """

    def __init__(self, names: tuple[str, ...], subwords: Tokenizer, max_tokens: int) -> None:
        self.names = names
        """Such as "director:jane campion"; their token ids follow the fixed ones, in this order."""
        self.max_tokens = max_tokens
        self._subwords = subwords
        self._numbers = {name: _FIXED + place for place, name in enumerate(names)}
        self._offset = _FIXED + len(names)

    @property
    def n_tokens(self) -> int:
        """Number of token ids."""
        return self._offset + int(self._subwords.get_vocab_size()) - 1  # its own [UNK], piece 0, is ours

    @classmethod
    def train(
        cls,
        titles: pa.Table,
        *,
        vocabulary_size: int = 8_000,
        max_tokens: int = 96,
        min_titles: int = 2,
        max_names: int = 50_000,
    ) -> Self:
        """Learn the vocabulary of a catalogue.

        Args:
            titles: table in the schema ``columns.TITLES``.
            vocabulary_size: most subwords, single characters included.
            max_tokens: tokens kept of a title's document.
            min_titles: titles in which a name must occur to get a token of its own.
            max_names: most names (the most frequent are kept).
        """
        counts = Counter(name for row in _rows(titles) for name in set(_names(row)))
        frequent = [name for name, count in counts.items() if count >= min_titles]
        kept = sorted(frequent, key=lambda name: (-counts[name], name))[:max_names]
        return cls(tuple(sorted(kept)), _train_subwords(_all_words(titles), vocabulary_size), max_tokens)

    def encode(self, titles: pa.Table) -> Documents:
        """The documents of titles: of this catalogue or of any other, new titles included."""
        rows = list(_rows(titles))
        words = self._pieces([text for row in rows for text in row.words])
        tokens = np.zeros((len(rows), self.max_tokens), np.int32)
        fields = np.zeros((len(rows), self.max_tokens), np.int8)
        for number, row in enumerate(rows):
            document = list(self._document(row, words))[: self.max_tokens]
            tokens[number, : len(document)] = [token for _, token in document]
            fields[number, : len(document)] = [_FIELD[field] for field, _ in document]
        return Documents(tokens, fields, self.n_tokens)

    def _pieces(self, texts: list[str]) -> Mapping[str, list[int]]:
        distinct = list(dict.fromkeys(texts))
        return {
            text: [self._offset + piece - 1 if piece else UNKNOWN for piece in encoding.ids]
            for text, encoding in zip(distinct, self._subwords.encode_batch(distinct), strict=True)
        }

    def _document(self, row: _Row, words: Mapping[str, list[int]]) -> Iterator[tuple[str, int]]:
        """(field, token) of a title, the tellingest fields first: the end is what gets cut."""
        found = False
        for field, token in self._structured(row, words):
            found = True
            yield field, token
        for field, text in row.texts.items():
            for token in words[text][: _MOST.get(field)]:
                found = True
                yield field, token
        if not found:
            yield "none", NO_TEXT

    def _structured(self, row: _Row, words: Mapping[str, list[int]]) -> Iterator[tuple[str, int]]:
        for name in row.years:
            if name in self._numbers:
                yield "year", self._numbers[name]
        for field, entries in row.lists.items():
            for entry in entries:
                token = self._numbers.get(f"{field}:{entry}")
                if token is not None:
                    yield field, token
                elif field in _PEOPLE:
                    yield field, 3 + _PEOPLE.index(field)
                else:  # a rare tag still says something through its words
                    yield from ((field, piece) for piece in words[entry])

    def label(self, token: int) -> str:
        """What a token stands for, to be read by people."""
        if token < _FIXED:
            return ("[PAD]", _UNK, "[NO TEXT]", *(f"[UNKNOWN {role.upper()}]" for role in _PEOPLE))[token]
        if token < self._offset:
            return self.names[token - _FIXED]
        return str(self._subwords.id_to_token(token - self._offset + 1))

    def to_json(self) -> dict[str, Any]:
        """Plain data from which :meth:`of_json` makes the same vocabulary."""
        return {
            "max_tokens": self.max_tokens,
            "names": list(self.names),
            "subwords": json.loads(self._subwords.to_str()),
        }

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Self:
        """The vocabulary that :meth:`to_json` told of."""
        return cls(tuple(value["names"]), Tokenizer.from_str(json.dumps(value["subwords"])), int(value["max_tokens"]))

    def save(self, path: Path) -> None:
        """Write as one JSON file."""
        write_text(path, json.dumps(self.to_json(), ensure_ascii=True, separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ArtefactError: the file is missing or damaged.
        """
        try:
            return cls.of_json(json.loads(path.read_text(encoding="utf-8")))
        except Exception as error:  # `tokenizers` raises bare Exception on a damaged model
            raise ArtefactError(
                f"the vocabulary cannot be read ({type(error).__name__}: {error})",
                where=str(path),
                remedy="remove that artefact's directory and run again: it is made anew",
            ) from error


@dataclass(frozen=True)
class _Row:
    """A title's text, normalised."""

    years: tuple[str, ...]
    lists: dict[str, list[str]]
    texts: dict[str, str]

    @property
    def words(self) -> Iterator[str]:
        """Every text that may go through the subwords."""
        yield from self.texts.values()
        for field, entries in self.lists.items():
            if field not in _PEOPLE:
                yield from entries


def _rows(titles: pa.Table) -> Iterator[_Row]:
    names = [columns.YEAR, *_LISTS.values(), *_TEXTS.values()]
    for values in zip(*(titles[name].to_pylist() for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        year = row[columns.YEAR]
        yield _Row(
            years=() if year is None else (f"decade:{year // 10 * 10}", f"year:{year}"),
            lists={
                field: [t for t in dict.fromkeys(map(_plain, row[name] or ())) if t][: _MOST[field]]
                for field, name in _LISTS.items()
            },
            texts={field: (row[name] or "")[:_MAX_CHARACTERS] for field, name in _TEXTS.items()},
        )


def _plain(text: str | None) -> str:
    """A name as it is compared: NFKC, lower case, single spaces."""
    return " ".join(_NFKC_LOWER.normalize_str((text or "")[:200]).split())


def _names(row: _Row) -> Iterator[str]:
    yield from row.years
    for field, entries in row.lists.items():
        yield from (f"{field}:{entry}" for entry in entries)


def _all_words(titles: pa.Table) -> list[str]:
    return [text for row in _rows(titles) for text in row.words if text]


_NFKC_LOWER = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])


def _train_subwords(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """A BPE vocabulary (Sennrich et al., 2016), the same for the same texts.

    The alphabet is counted here, because the trainer breaks ties between rare characters by hash order. (Its
    Unigram and WordPiece trainers give other vocabularies from one process to the next: they are no choice.)
    """
    tokenizer = Tokenizer(models.BPE(unk_token=_UNK))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[\p{P}\p{Z}\p{C}]+"), " "),  # symbols stay: "$", emoji
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # a word's start is marked, so "man" is not the end of "woman"
    texts = [text for text in map(tokenizer.normalizer.normalize_str, texts) if text]
    counts = Counter(character for text in texts for character in text.replace(" ", "▁"))
    counts["▁"] += len(texts)
    most = max(1, vocabulary_size // 2)  # in Chinese the alphabet would fill the vocabulary
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:most])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,  # a piece that occurs once tells nothing of another title
        special_tokens=[_UNK],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
