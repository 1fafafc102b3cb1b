"""The configuration, validated: every setting with its meaning, unit and default.

Plain data. Where values come from (TOML, environment) is the business of ``flows/settings.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A section of the configuration: frozen, unknown keys refused, docstrings under fields are their help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


SourceKind = Literal["sample", "movielens", "files", "synthetic"]


class SourceConfig(Section):
    """Where ratings and titles come from."""

    kind: SourceKind = "sample"
    """sample: MovieLens 100K with cast and directors; movielens: a published MovieLens release; files: your own;
    synthetic: made up."""
    path: str | None = None
    """movielens: a directory or zip of any published layout."""
    name: str | None = None
    """movielens: a release to download (ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest, ml-latest-small)."""
    ratings: str | None = None
    """files: a CSV, TSV or Parquet file, or a glob of them; .gz and .zst too."""
    titles: str | None = None
    """files: the titles' metadata, optional; list columns are lists or "a|b|c"."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our column name = the source's. Common names (userId, movieId, …) are known without it."""
    rating_min: float | None = None
    """The lowest rating of the scale (unset: known for MovieLens, else read off the data)."""
    rating_max: float | None = None
    """The highest rating of the scale (unset: 5 for MovieLens, else read off the data: 1, 5, 10 or 100)."""
    users: int = Field(default=2_000, ge=1)
    """synthetic: number of users."""
    items: int = Field(default=1_000, ge=1)
    """synthetic: number of titles."""
    interactions: int = Field(default=100_000, ge=1)
    """synthetic: number of ratings."""
    seed: int = 0
    """synthetic: seed of the service that is made up."""


class RatingsConfig(Section):
    """What ratings mean."""

    positive_from: float = 4.0
    """A rating of at least this (on a scale up to 5; other scales are scaled) is positive. Implicit rows always are."""


class ValidationConfig(Section):
    """How much may be wrong before the night stops."""

    failure_budget: float = Field(default=0.001, ge=0, le=1)
    """Share of rows that may be quarantined."""
    max_unknown_titles: float = Field(default=0.05, ge=0, le=1)
    """Share of rated titles that may lack metadata (only where the source has a titles table)."""
    max_row_change: float = Field(default=0.5, ge=0)
    """Relative change of the number of ratings against the last good run that stops the night."""
    allow_row_change: bool = False
    """Let a larger change pass, once you know why."""


SplitStrategy = Literal["per-user-temporal", "global-temporal", "leave-last-out", "random", "strong-generalisation"]


class SplitConfig(Section):
    """How models are compared."""

    strategy: SplitStrategy = "per-user-temporal"
    """per-user-temporal: each user's last ratings are the test window; global-temporal: all ratings from one moment on;
    leave-last-out: each user's last rating; random: ratings drawn by lot; strong-generalisation: users drawn by lot, of
    whom 80 % of the ratings are read and the rest foretold. The last two read no order; the others, without timestamps,
    become random, and the report says so."""
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of each user's ratings (global-temporal: of all; strong-generalisation: of the users) that is the test
    window."""
    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    """Share of what remains that is the validation window."""
    seed: int = 0
    """Seed of the strategies that draw by lot."""


class AutoencoderConfig(Section):
    """The user autoencoder. Fields that are None adapt to the size of the data."""

    hidden_size: int | None = Field(default=None, ge=8)
    """Width of the encoder (None: 256 on small data, 512 on large)."""
    embedding_size: int | None = Field(default=None, ge=4)
    """Width of a user vector (None: 128 on small data, 200 on large)."""
    epochs: int | None = Field(default=None, ge=1)
    """Most passes over the users; early stopping ends sooner (None: adapts)."""
    batch_size: int | None = Field(default=None, ge=1)
    """Users per step (None: 64 on small data, 256 on large)."""
    learning_rate: float | None = Field(default=None, gt=0)
    """AdamW's peak learning rate (None: 3e-3 on small data, 2.5e-3 on large)."""
    kl_weight: float | None = Field(default=None, ge=0)
    """Weight of the KL term once annealed (None: adapts to size and order)."""
    input_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share of the input's titles dropped in training (None: .3 on small data, .2 on large)."""
    patience: int | None = Field(default=None, ge=1)
    """Epochs without a better validation NDCG before stopping (None: a quarter of the epochs)."""
    sequence_channel: bool = True
    """Add one transformer layer over the last 50 titles to the encoder (only where there is order)."""
    title_width: int | None = Field(default=None, ge=0)
    """Width of a title's row in the first layer, one row for all input channels (0: a full row for every channel;
    None: 128 above 10,000 titles, else 0)."""
    sampled_titles: int | None = Field(default=None, ge=0)
    """Titles drawn per step for a sampled softmax with corrected logits (0: softmax over all titles; None: 4,096 above
    10,000 titles, else 0)."""
    companion: bool | None = None
    """Where there is order, train a second one that ignores it: what finds more of the validation window is the user
    autoencoder, the other a tower beside it (None: up to two million positive interactions, from where on it costs
    more time than it brings)."""


class ContentConfig(Section):
    """The content CNN over a title's text."""

    output_size: int = Field(default=128, ge=8)
    """Width of a title's vector."""
    embedding_size: int = Field(default=64, ge=4)
    """Width of a token's embedding."""
    channels: int = Field(default=48, ge=4)
    """Channels per convolution width (1, 3, 5)."""
    vocabulary_size: int = Field(default=8_000, ge=300)
    """Most entries of the subword vocabulary trained on the catalogue."""
    max_tokens: int = Field(default=96, ge=8)
    """Tokens read of a title's text."""
    epochs: int | None = Field(default=None, ge=1)
    """Most epochs, of about three passes over the titles each (None: 8)."""
    batch_size: int = Field(default=128, ge=1)
    """Users per step."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """AdamW's peak learning rate."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Before the last layer: titles are few, and text says a lot about each."""
    token_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of a title's tokens hidden in training."""
    cold_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of titles held out whole, to measure the tower on titles it has never seen."""
    patience: int = Field(default=5, ge=1)
    """Epochs without a better validation figure before stopping."""


class NcfConfig(Section):
    """Neural collaborative filtering: the second stage."""

    candidates: int | None = Field(default=None, ge=20)
    """Titles per user that the towers retrieve for it to rank (None: 200 with order, 100 without)."""
    hidden_size: int | None = Field(default=None, ge=4)
    """Width of the MLP's first layer (None: 32 on small data, 64 on large)."""
    epochs: int | None = Field(default=None, ge=1)
    """Passes over the users (None: 20, and from 8,000 users on fewer)."""
    batch_size: int = Field(default=128, ge=1)
    """Users per step."""
    learning_rate: float | None = Field(default=None, gt=0)
    """One-cycle peak (None: 2e-3 with order, 1e-3 without)."""
    weight_decay: float | None = Field(default=None, ge=0)
    """None: 1e-3 with order, .05 without."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """None: .4 on small data; on large .1 with order, .2 without."""
    seeds: int = Field(default=2, ge=1)
    """Networks averaged (on small data at least 5)."""
    loss: Literal["softmax", "bce"] = "softmax"
    """softmax over a user's candidates; bce takes each candidate for itself, to compare with."""
    without: tuple[Literal["vectors", "mlp"], ...] = ()
    """Parts of the network to leave out, to see what each brings."""


class BaselinesConfig(Section):
    """The closed-form rivals. Each is tuned on the validation window."""

    models: tuple[str, ...] = (
        "popularity",
        "recent_popularity",
        "item_knn",
        "ease",
        "ease_recency",
        "ials",
        "ials_recency",
        "order_ridge",
    )
    """Which to run. Those that need timestamps are left out without them; popularity, ease and order_ridge always run
    (the first is the floor, the others are towers of the second stage)."""
    max_items: int = Field(default=8_000, ge=1)
    """EASE and the ridge model the most popular titles up to this number (a dense matrix of its square: 256 MB at
    8,000), and no more than the data pay for: 4,000, or 60 for every cube root of the liked interactions."""


class GateConfig(Section):
    """When a challenger becomes the champion. Why these limits: docs/decisions/0008-gate.md."""

    metric: str = "ndcg_at_10"
    """The per-user metric of the paired bootstrap."""
    tolerance: float = Field(default=0.002, ge=0)
    """A challenger may be this much worse (absolute, lower end of the interval) and still be promoted; a refresh of
    the champion's own recipe by its mean."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Of the interval."""
    resamples: int = Field(default=2_000, ge=100)
    """Bootstrap resamples."""
    users: int = Field(default=20_000, ge=100)
    """Most users whose test window is foretold, evenly spaced: at so many an interval of NDCG@10 is about ±.003."""
    refresh: bool = True
    """Whether the champion's own recipe, fitted on newer data, replaces it unless it is worse. False: it is held to
    the same proof as any challenger, so that a champion may serve, and age, for many nights."""
    max_same_list: float = Field(default=0.5, gt=0, le=1)
    """Most users (share) that may get one and the same list."""
    min_coverage: float = Field(default=0.01, ge=0, le=1)
    """Least share of the catalogue that the users' top 10 together show."""
    min_coverage_ratio: float = Field(default=0.4, ge=0)
    """The same as a share of what the champion shows (on a first night: the best closed-form model); 0: any."""
    max_gini: float = Field(default=1.0, gt=0, le=1)
    """Most unequal exposure of titles in the users' top 10 (Gini coefficient). It grows with the catalogue (honest
    models: .85 of 1,700 titles, .99 of 9,700), so only the relative limit bites by default; 1: any."""
    min_evenness_ratio: float = Field(default=0.33, ge=0)
    """Least evenness of exposure, 1 - Gini, as a share of the champion's (first night: the best closed-form model's);
    0: any."""
    min_cold_share: float = Field(default=0.0, ge=0, le=1)
    """Least share of the users' top 10 that goes to titles nobody has watched yet (0: any; many catalogues have
    none)."""
    min_cold_ratio: float = Field(default=0.25, ge=0)
    """The same as a share of the champion's, where that is above chance; 0: any. A closed-form model, which shows no
    such titles, is excused where it is better beyond doubt."""
    max_group_loss: float = Field(default=0.1, ge=0)
    """Most relative loss of the metric against the champion in any activity group of users (where the loss is more
    than noise)."""
    max_title_loss: float = Field(default=0.65, ge=0)
    """Most relative loss of recall@20 against the champion on the less-watched half: titles beyond the most popular
    ones that together have half of all interactions (where the loss is more than noise)."""
    max_gain: float = Field(default=0.4, gt=0)
    """A candidate this much better (relative) than the champion and every closed-form model is refused for a look: it
    smells of a leak of the test window."""


class ExportConfig(Section):
    """The published lists."""

    n: int = Field(default=20, ge=1, le=1000)
    """Length of a user's list."""
    similar: int = Field(default=20, ge=0, le=1000)
    """Length of a title's list of similar titles."""
    min_history: int = Field(default=5, ge=0)
    """Users with fewer positive ratings get lists that lean on popularity, the more the fewer there are."""
    new_titles: float = Field(default=0.05, ge=0, le=1)
    """Least share of a list's places (rounded down: 1 of 20) that goes to the most fitting titles that nobody has
    watched yet, where the serving model reads their text (0: only on merit)."""
    blocked: tuple[str, ...] = ()
    """item_ids that are never shown."""
    region: str | None = None
    """Show only titles available in this region (titles without regions are available everywhere)."""
    block_size: int = Field(default=512, ge=1)
    """Users scored at a time, at most: fewer where titles are many, so that a block's scores stay within 24 MB."""
    generations: int = Field(default=3, ge=1)
    """Published generations that are kept."""


class ComputeConfig(Section):
    """What to run on."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """auto: one CUDA device per trainer where there are two, in turn on one, else the CPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on CUDA, float32 on the CPU."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads in all (None: the machine's), split between trainers that run at the same time."""
    engine: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: a cluster (docs/ray.md; needs the extra marquee[ray])."""
    ray_address: str | None = None
    """ray: the cluster to join, such as head:6379, or auto for this machine's; home must lie on storage that all its
    machines share (None: a cluster of this machine's, started for the run and ended with it)."""
    workers: int = Field(default=2, ge=1, le=1024)
    """ray: ranks of the distributed trainer (one GPU each where there are any), processes that score and that read."""


class TrackingConfig(Section):
    """MLflow."""

    uri: str | None = None
    """Tracking and registry URI (None: SQLite under home)."""
    experiment: str = "marquee"
    """Experiment of the nights."""
    model_name: str = "marquee"
    """Registered model."""


class StorageConfig(Section):
    """Object storage that keeps artefacts and published lists (docs/storage.md). Credentials: the environment's."""

    url: str | None = Field(default=None, pattern=r"^[a-z0-9]+://[^@]+$")
    """Where: s3://bucket/folder, or file:///mnt/folder (None: home is all there is)."""
    endpoint: str | None = Field(default=None, pattern=r"^https?://[^@]+$")
    """s3: address of an S3-compatible server (None: AWS, or what AWS_ENDPOINT_URL names)."""
    workers: int = Field(default=4, ge=1, le=64)
    """Files on their way at the same time; each takes about 30 MB of memory."""


class Config(Section):
    """A night's configuration."""

    home: Path = Path(".marquee")
    """Everything that a run writes lies under it."""
    seed: int = 0
    """Seed of training."""
    source: SourceConfig = SourceConfig()
    ratings: RatingsConfig = RatingsConfig()
    validation: ValidationConfig = ValidationConfig()
    split: SplitConfig = SplitConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    content: ContentConfig = ContentConfig()
    ncf: NcfConfig = NcfConfig()
    baselines: BaselinesConfig = BaselinesConfig()
    gate: GateConfig = GateConfig()
    export: ExportConfig = ExportConfig()
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: StorageConfig = StorageConfig()
