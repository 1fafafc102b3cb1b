"""The NCF network: where it begins, what its parts can say, masks, saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.errors import ArtefactError
from recsys.histories import Floats
from recsys.models.ncf import Ncf, NcfNetwork, NcfSettings, UserDropout, new_network
from recsys.pairs import Pairs, TitleTables

N_USERS, K, N_FEATURES, SIZE, N_ITEMS = 5, 4, 3, 6, 10


def pairs(size: int = SIZE, seed: int = 0) -> tuple[Pairs, TitleTables]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Floats:
        return rng.normal(size=shape).astype(np.float32)

    items = np.stack([rng.permutation(N_ITEMS)[:K] for _ in range(N_USERS)]).astype(np.int32)
    items[1, 2:] = -1
    found = Pairs(normal(N_USERS, K, N_FEATURES), normal(N_USERS, K), items, normal(N_USERS, size))
    return found, TitleTables(normal(N_ITEMS, size), normal(N_ITEMS, size))


def model(*networks: NcfNetwork, share: float = 1.0, size: int = SIZE, temperature: float = 2.0) -> Ncf:
    settings = NcfSettings(networks=len(networks))
    return Ncf(tuple(networks), settings, ("a", "b", "c"), size, temperature, share, {})


def fresh(size: int = SIZE, seed: int = 0) -> NcfNetwork:
    return new_network(NcfSettings(), N_FEATURES, size, seed)


@pytest.mark.parametrize("size", [SIZE, 0])
def test_it_begins_as_the_blend_at_its_temperature(size: int) -> None:
    given, tables = pairs(size)
    logits = model(fresh(size), size=size).logits(given, tables)
    assert np.allclose(logits[given.there], 2 * given.blend[given.there], atol=1e-6)
    assert (logits[~given.there] == -np.inf).all()


def test_gmf_adds_a_weighted_product_of_the_two_vectors() -> None:
    given, tables = pairs()
    network = fresh()
    weights = np.arange(SIZE, dtype=np.float32)
    with torch.no_grad():
        network.gmf.copy_(torch.from_numpy(weights))
    logits = model(network).logits(given, tables)
    for user in range(N_USERS):
        for place, item in enumerate(given.items[user]):
            if item >= 0:
                product = float((weights * given.user_vectors[user] * tables.decoder[item]).sum())
                assert logits[user, place] == pytest.approx(2 * given.blend[user, place] + product, abs=1e-4)


def test_projecting_all_titles_and_only_the_candidates_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    given, tables = pairs()
    network = fresh()
    torch.nn.init.ones_(network.gmf)
    torch.nn.init.normal_(network.mlp[-1].weight)
    whole = model(network).logits(given, tables)
    monkeypatch.setattr("recsys.models.ncf.FEW_TITLES", 0)
    assert np.allclose(whole, model(network).logits(given, tables), atol=1e-5)


@pytest.mark.parametrize("what", ["features", "users", "decoder", "content"])
def test_every_input_reaches_the_score_through_the_mlp(what: str) -> None:
    given, tables = pairs()
    network = fresh()
    torch.nn.init.normal_(network.mlp[-1].weight)
    before = model(network).logits(given, tables)
    if what == "features":
        given = Pairs(given.features + 1, given.blend, given.items, given.user_vectors)
    elif what == "users":
        given = Pairs(given.features, given.blend, given.items, given.user_vectors + 1)
    else:
        tables = TitleTables(tables.decoder + (what == "decoder"), tables.content + (what == "content"))
    after = model(network).logits(given, tables)
    assert not np.allclose(before[given.there], after[given.there], atol=1e-3)


def test_the_share_mixes_networks_with_the_blend() -> None:
    given, tables = pairs()
    networks = [fresh(seed=seed) for seed in range(2)]
    for network in networks:
        torch.nn.init.normal_(network.linear)
    there = given.there
    alone = [model(network).logits(given, tables)[there] for network in networks]
    mixed = model(*networks, share=0.25).logits(given, tables)[there]
    assert np.allclose(mixed, 0.25 * (alone[0] + alone[1]) / 2 + 0.75 * 2 * given.blend[there], atol=1e-5)
    assert np.allclose(model(*networks, share=0).logits(given, tables)[there], 2 * given.blend[there])


def test_a_user_is_ranked_alike_alone_and_in_a_block() -> None:
    given, tables = pairs()
    network = fresh()
    torch.nn.init.normal_(network.mlp[-1].weight)
    together = model(network).logits(given, tables)
    alone = Pairs(given.features[2:3], given.blend[2:3], given.items[2:3], given.user_vectors[2:3])
    assert np.allclose(model(network).logits(alone, tables)[0], together[2], atol=1e-5)


def test_dropout_drops_the_same_units_for_all_candidates_of_a_user() -> None:
    torch.manual_seed(0)
    dropout = UserDropout(0.5)
    kept = dropout(torch.ones(4, 7, 32))
    assert ((kept == 0) | (kept == 2)).all()
    assert (kept == kept[:, :1]).all()
    assert not (kept[0] == kept[1]).all()
    assert (dropout.eval()(torch.ones(4, 7, 32)) == 1).all()


def test_saved_and_loaded_it_ranks_the_same(tmp_path: Path) -> None:
    given, tables = pairs()
    networks = [fresh(seed=seed) for seed in range(2)]
    for network in networks:
        torch.nn.init.normal_(network.mlp[-1].weight)
    before = model(*networks, share=0.7)
    before.save(tmp_path / "ncf")
    after = Ncf.load(tmp_path / "ncf")
    assert np.array_equal(before.logits(given, tables), after.logits(given, tables))
    assert after.feature_names == ("a", "b", "c")
    assert {path.suffix for path in (tmp_path / "ncf").iterdir()} == {".json", ".safetensors"}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    model(fresh()).save(tmp_path / "ncf")
    (tmp_path / "ncf" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArtefactError, match="ncf"):
        Ncf.load(tmp_path / "ncf")
