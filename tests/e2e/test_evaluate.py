"""`marquee evaluate` on real ratings: its figures follow from the ranks it exports, by arithmetic of our own."""

import csv
import json
import math
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

MODELS = ("popularity", "ease", "ials")


def split_by_time(ratings: Path, folder: Path) -> tuple[Path, Path]:
    """The first 80 % of each user's ratings in time, and the rest, as files with other column names."""
    by_user = defaultdict(list)
    with ratings.open() as stream:
        for row in csv.DictReader(stream):
            by_user[row["userId"]].append((int(row["timestamp"]), row["movieId"], row["rating"]))
    train, test = folder / "train.csv", folder / "test.tsv"
    with train.open("w") as learned, test.open("w") as foreseen:
        learned.write("user,item,rating,timestamp\n")
        foreseen.write("user\titem\trating\ttimestamp\n")
        for user, rows in by_user.items():
            rows.sort()
            cut = math.ceil(0.8 * len(rows))
            learned.writelines(f"{user},{item},{rating},{time}\n" for time, item, rating in rows[:cut])
            foreseen.writelines(f"{user}\t{item}\t{rating}\t{time}\n" for time, item, rating in rows[cut:])
    return train, test


def ndcg_and_recall(ranks: Path, test: Path) -> tuple[float, float]:
    """NDCG@10 and recall@20, binary, over users with at least one rating of 4 or more in test."""
    wanted = defaultdict(set)
    with test.open() as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            if float(row["rating"]) >= 4.0:
                wanted[row["user"]].add(row["item"])
    lists = defaultdict(dict)
    for row in pq.read_table(ranks).to_pylist():
        lists[row["user_id"]][row["rank"]] = row["item_id"]
    gains, recalls = [], []
    for user, items in wanted.items():
        ranked = [lists[user].get(rank) for rank in range(1, 101)]
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ranked[:10]) if item in items)
        gains.append(gain / sum(1 / math.log2(place + 2) for place in range(min(10, len(items)))))
        recalls.append(len(items & set(ranked[:20])) / len(items))
    return sum(gains) / len(gains), sum(recalls) / len(recalls)


@pytest.mark.slow
def test_an_independent_script_gives_the_same_figures(test_data, tmp_path, marquee):
    train, test = split_by_time(test_data / "ml-latest-small" / "ratings.csv", tmp_path)
    out = tmp_path / "metrics.json"
    done = marquee(
        tmp_path / "home", "evaluate", "--train", str(train), "--test", str(test), "--models", ",".join(MODELS),
        "--titles", str(test_data / "ml-latest-small" / "movies.csv"), "--out", str(out), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads(out.read_text())["models"]
    assert metrics == json.loads(done.stdout)
    assert set(metrics) == set(MODELS)
    for model in MODELS:
        ndcg, recall = ndcg_and_recall(tmp_path / "metrics.ranks" / f"{model}.parquet", test)
        assert metrics[model]["ndcg_at_10"] == pytest.approx(ndcg, abs=1e-6)
        assert metrics[model]["recall_at_20"] == pytest.approx(recall, abs=1e-6)
    assert metrics["ease"]["ndcg_at_10"] > 1.3 * metrics["popularity"]["ndcg_at_10"]
    assert metrics["ials"]["ndcg_at_10"] > 1.3 * metrics["popularity"]["ndcg_at_10"]


def test_an_unknown_model_is_named_with_the_nearest(tmp_path, marquee):
    done = marquee(tmp_path / "home", "evaluate", "--train", "a.csv", "--test", "b.csv", "--models", "eese")
    assert done.returncode == 2
    assert "Did you mean ease?" in done.stderr
    assert done.stderr.count("\n") == 1
