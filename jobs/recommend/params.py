"""The parameters of the recommender's jobs."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, JsonValue, model_validator

from broker.errors import InvalidParams
from broker.job import Params
from broker.limits import shown
from broker.params import parse
from jobs.training.files import absolute, is_table
from jobs.training.options import Acceleration

Share = Annotated[float, Field(ge=0, le=1)]
TopK = Annotated[int, Field(ge=1, le=1000)]
RankerName = Literal[
    "popularity",
    "item-knn",
    "bpr",
    "ease",
    "recent-ease",
    "transitions",
    "sasrec",
    "bert4rec",
    "blend",
    "blend-3",
    "blend-bert4rec",
]
AnilistStatus = Literal["completed", "current", "repeating", "paused", "dropped", "planning"]
ItemIds = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=20_000)]
DATA = (
    'Where the interactions are: "ml-100k"; the path of a .csv, .tsv or .parquet file or of a MovieLens folder that '
    'the worker can read; "sql:NAME", a database that the worker knows by that name; or sqlite:///PATH.'
)
ML_100K, DATABASE = "ml-100k", "database"  # names of data that are no paths
NAMED, SQLITE = "sql:", "sqlite:///"
DATABASES = (NAMED, SQLITE)


def _data(value: str) -> str:
    if value in (ML_100K, DATABASE):
        return value
    return SQLITE + absolute(value.removeprefix(SQLITE)) if value.startswith(SQLITE) else absolute(value)


def _table(value: str) -> str:
    return absolute(value) if is_table(value) else value


Data = Annotated[str, AfterValidator(_data)]
TableFile = Annotated[str, AfterValidator(_table)]


class Source(Params):
    """Interactions, and which columns of a file mean what."""

    data: Data = Field(ML_100K, min_length=1, description=DATA)
    user: str = Field("user", description="Column of the user.")
    item: str = Field("item", description="Column of the item.")
    time: str = Field("timestamp", description="Column of the time: numbers or ISO 8601.")
    rating: str | None = Field(None, description="Column of the rating, if there is one.")
    min_rating: float | None = Field(None, description="Leave out interactions rated lower.")
    catalogue: TableFile | None = Field(
        None, description="File or table of items: item, title, and features in further columns."
    )
    table: str | None = Field(None, min_length=1, description="Of a database: the table of interactions.")

    @model_validator(mode="after")
    def _table(self) -> "Source":
        if self.data.startswith(DATABASES):
            if self.table is None:
                raise ValueError(f"data={self.data!r} is a database: name its table of interactions, table=…")
        elif "://" in self.data:  # not quoted: parameters are recorded and shown, so are errors
            raise ValueError("data is a URL: name it on the workers, in GRISTMILL_DATABASES, and give data=sql:NAME")
        elif self.table is not None:
            raise ValueError(f"table={self.table!r} is of a database, data={self.data!r} is none: leave it out")
        return self

    @model_validator(mode="after")
    def _columns(self) -> "Source":
        known = ("user", "item", "time", "rating", "catalogue", *(["min_rating"] if self.data == DATABASE else []))
        for name in known if self.data in (ML_100K, DATABASE) else ():
            if (given := getattr(self, name)) != Source.model_fields[name].default:
                raise ValueError(f"{name}={shown(given)} has no effect on data={self.data!r}: leave it out")
        columns = [each for each in (self.user, self.item, self.time, self.rating) if each is not None]
        if len(set(columns)) < len(columns):
            raise ValueError(f"user, item, time and rating are {', '.join(columns)}: name a column of each")
        named = self.data.startswith(DATABASES) or is_table(self.data)
        if self.min_rating is not None and self.rating is None and named:
            raise ValueError(f"min_rating={self.min_rating:g} needs a rating column: name it, rating=…")
        return self


class ImportData(Source):
    """Take users' histories and the catalogue into the database."""

    @model_validator(mode="after")
    def _from_elsewhere(self) -> "ImportData":
        if self.data == DATABASE:
            raise ValueError(f"data is {DATABASE!r}, which is where imports go: name a file or {ML_100K!r}")
        return self


class ImportAnilist(Params):
    """Take the histories of AniList's users and what it knows of their anime into the database."""

    usernames: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(min_length=1, max_length=1000)
    statuses: list[AnilistStatus] = Field(
        ["completed", "current", "repeating"], min_length=1, description="Entries of these are taken."
    )
    min_score: float | None = Field(None, ge=0, le=100, description="Leave out what is scored lower, of 100.")
    metadata: bool = Field(True, description="Titles, genres, tags, studios, voice actors and years, too.")
    tag_rank: int = Field(60, ge=0, le=100, description="Tags that this share of AniList's voters find fitting.")
    ids: Literal["anilist", "mal"] = Field("anilist", description="Whose ids the catalogue has; mal: MyAnimeList's.")
    mapping: TableFile | None = Field(None, description="File with the columns source (such an id) and item (ours).")
    prefix: str | None = Field(
        None, max_length=64, description="Put before the names, so that they meet none of your users'."
    )
    refresh: bool = Field(False, description="Ask AniList anew even for what is known and has not expired.")


class Train(Source, Acceleration):
    """Train a recommender; it comes into use if it ranks no worse on validation than the one in use."""

    data: Data = Field(ML_100K, min_length=1, description=DATA + ' "database": the imported histories.')
    model: Literal["sasrec", "bert4rec", "blend"] = Field(
        "sasrec", description="blend: a SASRec with transition counts and EASE^R, weighted by validation."
    )
    networks: int = Field(1, ge=1, le=8, description="In a blend: SASRecs, each of another seed.")
    second: bool = Field(False, description="In a blend: a BERT4Rec, too; it takes as long again.")
    promote: bool = Field(True, description="Take it into use, if it ranks no worse. false: only store it.")
    preset: Literal["default", "quick"] = Field("default", description="quick: seconds, to try the way.")
    epochs: int | None = Field(None, ge=1, le=1000, description="Default: 20; quick: 2.")
    patience: int | None = Field(
        None, ge=1, description="Epochs without a better validation before stopping. Default: 5, for bert4rec 6."
    )
    dim: int | None = Field(None, ge=4, le=1024, description="Default: 64; quick: 16.")
    blocks: int | None = Field(None, ge=1, le=16, description="Default: 1.")
    length: int | None = Field(
        None, ge=2, le=1000, description="Latest items of a history that the model sees. Default: 50; quick: 20."
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="Default: 0.3.")
    rate: float | None = Field(None, gt=0, lt=1, description="Learning rate. Default: 0.002.")
    batch: int | None = Field(None, ge=1, le=65536, description="Default: 64.")
    loss: Literal["auto", "full", "sampled", "gbce"] | None = Field(
        None,
        description="Softmax over all items, over a sample, or gBCE (gSASRec). Default: auto, full where it fits.",
    )
    negatives: int | None = Field(
        None, ge=1, le=2**20, description="Items drawn each step, for sampled and gbce. Default: 512."
    )
    calibration: float | None = Field(None, ge=0, le=1, description="t of gBCE: 0 is plain BCE. Default: 0.75.")
    smoothing: float | None = Field(None, ge=0, lt=1, description="Label smoothing, of the two softmaxes. Default: 0.")
    ahead: int | None = Field(
        None, ge=1, le=50, description="SASRec: how many next items are (soft) targets. Default: 1."
    )
    fading: float | None = Field(
        None, gt=0, le=1, description="Weight of each of them against the one before. Default: 0.7."
    )
    ties: bool | None = Field(
        None, description="What happened at one time is one target, in a new order each epoch. Default: true."
    )
    crop: Share | None = Field(None, description="Chance that a history is cropped, each epoch (CL4SRec). Default: 0.")
    reorder: Share | None = Field(None, description="Chance that a stretch of a history is shuffled. Default: 0.")
    blank: Share | None = Field(None, description="SASRec: chance that items of a window are masked. Default: 0.")
    curriculum: int | None = Field(
        None, ge=0, le=1000, description="Epochs until the longest histories take part. Default: 0."
    )
    recent: int | None = Field(
        None, ge=0, le=1000, description="BERT4Rec: then so many epochs of last items alone. Default: 0."
    )
    joint: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Then so many epochs with the items' titles and features, kept if they help. Default: 0.",
    )
    seed: int = Field(42, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _of_this_model(self) -> "Train":
        others = {"bert4rec": ("ahead", "fading", "blank"), "sasrec": ("recent",)}.get(self.model, ())
        for name in others:
            if getattr(self, name) is not None:
                raise ValueError(f"{name}={getattr(self, name)} is not for model={self.model}: leave it out")
        if (self.second or self.networks > 1) and self.model != "blend":
            raise ValueError(f"networks and second are for model=blend, not {self.model}: leave them out")
        return self


class Evaluate(Source, Acceleration):
    """Fit recommenders on one split, choose by validation, measure on test once: a table, and who beats whom."""

    data: Data = Field(ML_100K, min_length=1, description=DATA + ' "database": the imported histories.')
    models: list[RankerName] = Field(list(get_args(RankerName)), min_length=1, description="Which to measure.")
    preset: Literal["default", "quick"] = Field("default", description="quick: small networks, two epochs.")
    seed: int = Field(42, ge=0, lt=2**31 - 100, description="The first seed.")
    seeds: int = Field(3, ge=1, le=100, description="How many, of whatever draws numbers.")
    users: int = Field(20_000, ge=2, description="Users at most that are measured, drawn once where there are more.")
    split: TableFile | None = Field(None, description="A frozen split: split.csv of another evaluation's report.")
    in_use: bool = Field(False, description="Measure the registered model in use, too.")


class Adapt(Source):
    """Measure whether a few steps on each user's own history make the network in use rank better; nothing changes."""

    data: Data = Field(ML_100K, min_length=1, description=DATA + ' "database": the imported histories.')
    steps: int = Field(5, ge=1, le=100, description="Steps on the vector of each user.")
    rate: float = Field(0.05, gt=0, le=1, description="Of these steps.")
    pull: float = Field(1.0, ge=0, description="How strongly the vector is held near zero.")


class Policy(Params):
    """What a list shall be besides likely; the defaults only leave out what is marked as adult."""

    diversity: Share = Field(0.0, description="Weight of being unlike what is listed already: 0 none, 1 all (MMR).")
    novelty: Share = Field(0.0, description="Weight of being known to few: 0 none, 1 all.")
    calibration: Share = Field(0.0, description="Weight of having the user's own mix of genres: 0 none, 1 all.")
    genres: list[str] | None = Field(None, max_length=100, description="Only items of one of these.")
    without_genres: list[str] | None = Field(None, max_length=100, description="No items of these.")
    tags: list[str] | None = Field(None, max_length=100, description="Only items with one of these tags.")
    without_tags: list[str] | None = Field(None, max_length=100, description="No items with these tags.")
    year_from: int | None = Field(None, description="No older items.")
    year_to: int | None = Field(None, description="No newer items.")
    adult: bool = Field(False, description="Items that the catalogue marks as adult, too.")

    @model_validator(mode="after")
    def _years(self) -> "Policy":
        if self.year_from is not None and self.year_to is not None and self.year_from > self.year_to:
            raise ValueError(f"year_from={self.year_from} is after year_to={self.year_to}: swap them")
        return self


class Rank(Policy):
    """Rank items for one user now, by the user's own policy, with reasons; nothing is cached."""

    username: str = Field(min_length=1)
    item_ids: ItemIds | None = Field(None, description="A history, oldest first, instead of the stored one.")
    top_k: TopK = 10


class Title(Params):
    """An item to be scored: one of the catalogue by its id, or one that nobody has seen, by what is known of it."""

    item_id: str = Field(min_length=1)
    title: str | None = None
    features: dict[str, JsonValue] | None = Field(None, description="As in the catalogue: genres, year, tags, …")


class ScoreItems(Params):
    """Score given titles for one user, new ones of a coming season too."""

    username: str = Field(min_length=1)
    items: list[Title] = Field(min_length=1, max_length=1000)


class Similar(Policy):
    """The items most like one item."""

    item_id: str = Field(min_length=1)
    top_k: TopK = 10


class PretrainUser(Params):
    """Pre-compute one user's profile and top recommendations."""

    username: str = Field(min_length=1)
    item_ids: ItemIds | None = Field(None, description="The user's history, oldest first, instead of the stored one.")
    external_id: str | None = Field(None, description="The user's id elsewhere, kept with the profile.")
    force: bool = Field(False, description="Compute even if the cached list is fresh.")
    top_k: TopK = 100


class PretrainBatch(Params):
    """Pre-compute profiles and top recommendations of several users in real batches: of named ones, or of a range."""

    usernames: list[str] | None = Field(None, min_length=1, max_length=10_000)
    first: str | None = Field(None, description="Instead of usernames: all users from this one, in the names' order,")
    last: str | None = Field(None, description="to this one, both included.")
    force: bool = Field(False, description="Compute even where the cached list is fresh.")
    top_k: TopK = 100
    model_version: int | None = Field(None, ge=1, description="Another version than the one in use.")

    @model_validator(mode="after")
    def _whom(self) -> "PretrainBatch":
        ranged = self.first is not None and self.last is not None
        if (self.usernames is None) != ranged or (self.first is None) != (self.last is None):
            raise ValueError("whom to compute is not clear: give usernames, or first and last")
        return self


class PretrainAll(Params):
    """Pre-compute all users, in batches over all workers."""

    force: bool = Field(False, description="Compute even where the cached list is fresh.")
    top_k: TopK = 100
    model_version: int | None = Field(None, ge=1, description="Another version than the one in use.")
    chunk: int = Field(512, ge=1, le=10_000, description="Users a batch job.")


_NOT_IN_TRAINING = {
    "model": "give it beside training, as model (--model)",
    "preset": "give it beside training, as preset (--preset)",
    "data": "the loop trains on the histories in the database: give new ones as source",
    "promote": "the loop puts the new model into use if it ranks no worse: leave it out",
}


class Refresh(Params):
    """The weekly loop: import, train, compute everyone's list under the new model, and take it into use if no worse."""

    source: ImportData | None = Field(None, description="New interactions to import first; none: as histories are now.")
    anilist: ImportAnilist | None = Field(None, description="AniList's users to import first; AniList is asked anew.")
    model: Literal["sasrec", "bert4rec", "blend"] = "blend"
    preset: Literal["default", "quick"] = "default"
    training: dict[str, JsonValue] = Field({}, description="Further parameters of recommend.train.")
    top_k: TopK = 100
    chunk: int = Field(512, ge=1, le=10_000, description="Users a batch job.")

    @model_validator(mode="after")
    def _trainable(self) -> "Refresh":
        for name, remedy in _NOT_IN_TRAINING.items():
            if name in self.training:
                raise ValueError(f"training has {name}={shown(self.training[name])}: {remedy}")
        try:
            parse("training", Train, (), self.training)
        except InvalidParams as error:
            raise ValueError(str(error)) from None
        return self
