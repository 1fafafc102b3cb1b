"""Titles in SQL: raw columns → staged titles → the rows of a dataset, joined with links, tags and credits."""

from __future__ import annotations

from recsys import columns as c
from recsys.data.reading import Column, Columns, Projection
from recsys.data.sources.base import RawTable
from recsys.data.staging import Staging

STAGED = "staged_titles"
MOST_TAGS = 20

LISTS = (c.GENRES, c.CAST, c.DIRECTORS, c.TAGS, c.REGIONS)
TEXTS = (c.PLOT, c.IMDB_ID, c.TMDB_ID, c.MATURITY)
TIMES = (c.AVAILABLE_FROM, c.AVAILABLE_UNTIL)

ENGLISH = "The|An|A"
ANY_LANGUAGE = (
    "The|An|A|Le|La|Les|L'|Un|Une|Il|Lo|Gli|I|El|Los|Las|Una|"
    "Der|Die|Das|Den|Det|De|Het|Ein|Eine|En|Et|Ett|O|Os|As|Um|Uma"
)
_YEAR_BEHIND = r"\s*\((\d{4})[-–]?(?:\d{4})?\)\s*(?:\([A-Z]+\)\s*)?$"
"""``Toy Story (1995)``, ``Gordy (1995) (V)``, ``A Series (1995-1999)``."""
_NO_WORD = "('', '\\N', '(no genres listed)', 'unknown')"


def projection(raw: RawTable) -> Projection:
    """How a raw table of titles becomes staged titles."""

    def project(columns: Columns) -> str:
        title, year = _title_and_year(columns, raw)
        parts = [f"{columns[c.ITEM_ID].text} AS item_id", f"{title} AS title", f"{year} AS year"]
        parts += [f'{_words(columns, raw, name)} AS "{name}"' for name in LISTS]
        parts += [f"{_text(columns.get(name))} AS {name}" for name in TEXTS]
        parts += [f"{_instant(columns.get(name))} AS {name}" for name in TIMES]
        return ", ".join(parts)

    return project


def project_links(columns: Columns) -> str:
    """Links: IMDb's number becomes the id as IMDb writes it."""
    imdb = _text(columns.get(c.IMDB_ID))
    return f"""{columns[c.ITEM_ID].text} AS item_id, {_text(columns.get(c.TMDB_ID))} AS tmdb_id,
        CASE WHEN {imdb} = '' THEN NULL WHEN {imdb} LIKE 'tt%' THEN {imdb}
             ELSE 'tt' || lpad({imdb}, CAST(greatest(7, length({imdb})) AS INTEGER), '0') END AS imdb_id"""


def project_tags(columns: Columns) -> str:
    """Tags: in lower case, so that spellings count as one."""
    return f"{columns[c.ITEM_ID].text} AS item_id, lower(trim({columns['tag'].text})) AS tag"


def _text(column: Column | None) -> str:
    return "CAST(NULL AS VARCHAR)" if column is None else f"nullif({column.text}, '\\N')"


def _instant(column: Column | None) -> str:
    return "CAST(NULL AS TIMESTAMPTZ)" if column is None else f"TRY_CAST({column.sql} AS TIMESTAMPTZ)"


def _title_and_year(columns: Columns, raw: RawTable) -> tuple[str, str]:
    title = _text(columns.get(c.TITLE))
    behind = f"TRY_CAST(nullif(regexp_extract({title}, '{_YEAR_BEHIND}', 1), '') AS SMALLINT)"
    bare = f"regexp_replace({title}, '{_YEAR_BEHIND}', '')"
    name = f"CASE WHEN {bare} = '' THEN {title} ELSE {bare} END"
    year = behind
    if c.YEAR in columns:
        said = (
            rf"TRY_CAST(nullif(regexp_extract({columns[c.YEAR].text}, '(?:^|\D)(\d{{4}})(?:\D|$)', 1), '') AS SMALLINT)"
        )
        year = f"coalesce({said}, {behind})"
    return _with_articles_first(name, ANY_LANGUAGE if raw.articles else ENGLISH), year


def _with_articles_first(sql: str, articles: str) -> str:
    """``Seventh Seal, The (Sjunde inseglet, Det)`` → ``The Seventh Seal (Det Sjunde inseglet)``."""
    words = articles.replace("'", "''")
    pattern = rf"(^|\()([^()]+), ({words})( ?\(|\)|$)"
    once = rf"regexp_replace({sql}, '{pattern}', '\1\3 \2\4')"
    twice = rf"regexp_replace({once}, '{pattern}', '\1\3 \2\4')"
    return rf"regexp_replace({twice}, '(^|\()L'' ', '\1L''')"


def _words(columns: Columns, raw: RawTable, name: str) -> str:
    """A list column: a list already, JSON, words between separators, or flags."""
    if name in raw.flags:
        marked = ", ".join(
            f"CASE WHEN {columns[f'flag:{word}'].sql} = '1' THEN '{word.replace(chr(39), chr(39) * 2)}' END"
            for word in raw.flags[name]
        )
        return f"list_filter([{marked}], lambda x: x IS NOT NULL)"
    column = columns.get(name)
    if column is None:
        return "CAST([] AS VARCHAR[])"
    if column.type.endswith("]"):
        listed = f"CAST({column.sql} AS VARCHAR[])"
    else:
        separator = raw.separators.get(name) or (" " if column.name.endswith(":token_seq") else None)
        split = (
            f"string_split({column.text}, '{separator}')"
            if separator
            else f"string_split({column.text}, CASE WHEN contains({column.text}, '|') THEN '|' ELSE {_comma(name)} END)"
        )
        json = f"{column.text} LIKE '[%' AND json_valid({column.text})"
        listed = (
            f"CASE WHEN {json} THEN coalesce(nullif(json_extract_string({column.text}, '$[*].name'), []), "
            f"json_extract_string({column.text}, '$[*]')) ELSE {split} END"
        )
    kept = f"x IS NOT NULL AND x NOT IN {_NO_WORD}"
    trimmed = f"list_transform(coalesce({listed}, []), lambda x: trim(x))"
    return f"list_filter({trimmed}, lambda x: {kept})"


def _comma(name: str) -> str:
    """People and genres are also listed with commas; tags and regions may hold them."""
    return "', '" if name in (c.GENRES, c.CAST, c.DIRECTORS) else "'|'"


def settle(stage: Staging, *, links: bool, tags: bool, credits: bool) -> str:
    """Move titles without an id to the rejects; a query for the rest, joined, in the order of the dataset."""
    stage.con.execute(f"""
        INSERT INTO rejects SELECT 'titles', f.name, NULL, '{c.ITEM_ID}', left(title, 300), 'the id is empty'
        FROM {STAGED} JOIN file_names f USING (file) WHERE coalesce(item_id, '') = ''""")
    names = {name: f's."{name}"' for name in c.TITLES.names}
    joins = ""
    if links:
        joins += """ LEFT JOIN (SELECT item_id, min(imdb_id) AS imdb_id, min(tmdb_id) AS tmdb_id
                                FROM staged_links GROUP BY item_id) l USING (item_id)"""
        names[c.IMDB_ID] = "coalesce(s.imdb_id, l.imdb_id)"
        names[c.TMDB_ID] = "coalesce(s.tmdb_id, nullif(l.tmdb_id, ''))"
    if tags:
        joins += f" LEFT JOIN ({_top_tags()}) g USING (item_id)"
        names[c.TAGS] = "coalesce(g.tags, s.tags)"
    if credits:
        joins += " LEFT JOIN staged_credits k USING (item_id)"
        for name in (c.CAST, c.DIRECTORS):
            names[name] = f'coalesce(k."{name}", s."{name}")'
        names[c.GENRES] = "s.genres || list_filter(coalesce(k.genres, []), lambda x: NOT list_contains(s.genres, x))"
        names[c.IMDB_ID] = "coalesce(s.imdb_id, k.imdb_id)"
    selected = ", ".join(f'{sql} AS "{name}"' for name, sql in names.items())
    return f"SELECT {selected} FROM {STAGED} s{joins} WHERE coalesce(s.item_id, '') <> '' ORDER BY ALL"


def _top_tags() -> str:
    """The most used tags of a title. Only their text is kept: how often they were given would tell of later days."""
    return f"""
        SELECT item_id, list(tag ORDER BY uses DESC, tag)[1:{MOST_TAGS}] AS tags FROM (
            SELECT item_id, tag, count(*) AS uses FROM staged_tags WHERE coalesce(tag, '') <> '' GROUP BY ALL)
        GROUP BY item_id"""
