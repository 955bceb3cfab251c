"""The recommender's jobs and their parameters; what they do is in the modules that the bodies import."""

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy.orm import Session

from broker.context import Context
from broker.errors import InvalidParams
from broker.job import Params, job
from db.recommend import UserProfile
from jobs.recommend.cache import unknown
from jobs.training.options import Acceleration

TopK = Annotated[int, Field(ge=1, le=1000)]
ItemIds = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=20_000)]
DATA = 'Where the interactions are: "ml-100k", or the path of a .csv, .tsv or .parquet file that the worker can read.'


class Source(Params):
    """Interactions, and which columns of a file mean what."""

    data: str = Field("ml-100k", min_length=1, description=DATA)
    user: str = Field("user", description="Column of the user.")
    item: str = Field("item", description="Column of the item.")
    time: str = Field("timestamp", description="Column of the time: numbers or ISO 8601.")
    rating: str | None = Field(None, description="Column of the rating, if there is one.")
    min_rating: float | None = Field(None, description="Leave out interactions rated lower.")
    catalogue: str | None = Field(None, description="File of items: item, title, and features in further columns.")


class ImportData(Source):
    """Take users' histories and the catalogue into the database."""


class Train(Source, Acceleration):
    """Train a recommender; it comes into use if it ranks no worse on validation than the one in use."""

    data: str = Field("ml-100k", min_length=1, description=DATA + ' "database": the imported histories.')
    model: Literal["sasrec", "bert4rec"] = "sasrec"
    preset: Literal["default", "quick"] = Field("default", description="quick: seconds, to try the way.")
    epochs: int | None = Field(None, ge=1, le=1000)
    patience: int | None = Field(None, ge=1, description="Epochs without a better validation before stopping.")
    dim: int | None = Field(None, ge=4, le=1024)
    blocks: int | None = Field(None, ge=1, le=16)
    length: int | None = Field(None, ge=2, le=1000, description="Latest items of a history that the model sees.")
    dropout: float | None = Field(None, ge=0, lt=1)
    rate: float | None = Field(None, gt=0, lt=1, description="Learning rate.")
    batch: int | None = Field(None, ge=1, le=65536)
    seed: int = Field(42, ge=0, lt=2**31)


class PretrainUser(Params):
    """Pre-compute one user's profile and top recommendations."""

    username: str = Field(min_length=1)
    item_ids: ItemIds | None = Field(None, description="The user's history, oldest first, instead of the stored one.")
    external_id: str | None = Field(None, description="The user's id elsewhere, kept with the profile.")
    force: bool = Field(False, description="Compute even if the cached list is fresh.")
    top_k: TopK = 100


class PretrainBatch(Params):
    """Pre-compute profiles and top recommendations of several users in real batches."""

    usernames: list[str] = Field(min_length=1, max_length=10_000)
    force: bool = Field(False, description="Compute even where the cached list is fresh.")
    top_k: TopK = 100


class PretrainAll(Params):
    """Pre-compute all users, in batches over all workers."""

    force: bool = Field(False, description="Compute even where the cached list is fresh.")
    top_k: TopK = 100
    chunk: int = Field(512, ge=1, le=10_000, description="Users a batch job.")


class Refresh(Params):
    """Train on the histories as they are now, then pre-compute all users anew."""

    model: Literal["sasrec", "bert4rec"] = "sasrec"
    preset: Literal["default", "quick"] = "default"
    top_k: TopK = 100
    chunk: int = Field(512, ge=1, le=10_000)


def known_user(params: PretrainUser, session: Session) -> None:
    """Refuses a user of whom there is no history, stored or given."""
    if params.item_ids is None and session.get(UserProfile, params.username) is None:
        raise InvalidParams(unknown(params.username))


@job("recommend.import_data", params=ImportData, queue="cpu", time_limit=3600)
def import_data(ctx: Context, params: ImportData) -> dict[str, Any]:
    from jobs.recommend.intake import import_data

    return import_data(ctx, params)


# Ten attempts: each goes on from the last one's checkpoint.
@job("recommend.train", params=Train, queue="gpu", max_attempts=10, time_limit=24 * 3600)
def train(ctx: Context, params: Train) -> dict[str, Any]:
    from jobs.recommend.train import train

    return train(ctx, params)


# Two submissions for one user are one job only if they ask for the same of the same history.
@job(
    "recommend.pretrain_user",
    params=PretrainUser,
    queue="gpu",
    key="{username}:{force}:{top_k}:{item_ids}",
    priority="interactive",
    time_limit=600,
    check=known_user,
)
def pretrain_user(ctx: Context, params: PretrainUser) -> dict[str, Any]:
    from jobs.recommend.pretrain import pretrain_user

    return pretrain_user(ctx, params)


@job("recommend.pretrain_batch", params=PretrainBatch, queue="gpu", time_limit=3600)
def pretrain_batch(ctx: Context, params: PretrainBatch) -> dict[str, Any]:
    from jobs.recommend.pretrain import pretrain_batch

    return pretrain_batch(ctx, params)


@job("recommend.pretrain_all", params=PretrainAll, queue="cpu", key="{force}:{top_k}")
def pretrain_all(ctx: Context, params: PretrainAll) -> dict[str, Any]:
    from jobs.recommend.everyone import pretrain_all

    return pretrain_all(ctx, params)


@job("recommend.refresh", params=Refresh, queue="cpu", key="weekly")
def refresh(ctx: Context, params: Refresh) -> dict[str, Any]:
    from jobs.recommend.everyone import refresh

    return refresh(ctx, params)
