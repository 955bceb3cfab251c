"""The recommender's jobs; what they do is in the modules that the bodies import."""

from typing import Any

from broker.context import Context
from broker.job import job
from jobs.recommend.params import (
    Adapt,
    Evaluate,
    ImportAnilist,
    ImportData,
    PretrainAll,
    PretrainBatch,
    PretrainUser,
    Rank,
    Refresh,
    ScoreItems,
    Similar,
    Train,
)
from jobs.recommend.submitted import known_user, readable, readable_mapping, stored_user


@job("recommend.import_data", params=ImportData, queue="cpu", time_limit=3600, check=readable)
def import_data(ctx: Context, params: ImportData) -> dict[str, Any]:
    from jobs.recommend.intake import import_data

    return import_data(ctx, params)


# Ten attempts: what AniList has answered is not asked again.
@job(
    "recommend.import_anilist",
    params=ImportAnilist,
    queue="cpu",
    max_attempts=10,
    time_limit=6 * 3600,
    check=readable_mapping,
)
def import_anilist(ctx: Context, params: ImportAnilist) -> dict[str, Any]:
    from jobs.recommend.sources.anilist.intake import import_anilist

    return import_anilist(ctx, params)


# Ten attempts: each goes on from the last one's checkpoint.
@job("recommend.train", params=Train, queue="gpu", max_attempts=10, time_limit=24 * 3600, check=readable)
def train(ctx: Context, params: Train) -> dict[str, Any]:
    from jobs.recommend.train import train

    return train(ctx, params)


# Ten attempts: networks that are trained are kept, and one that was being trained goes on from its checkpoint.
@job("recommend.evaluate", params=Evaluate, queue="gpu", max_attempts=10, time_limit=24 * 3600, check=readable)
def evaluate(ctx: Context, params: Evaluate) -> dict[str, Any]:
    from jobs.recommend.evaluation import evaluate

    return evaluate(ctx, params)


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


@job("recommend.pretrain_all", params=PretrainAll, queue="cpu", key="{force}:{top_k}:{model_version}")
def pretrain_all(ctx: Context, params: PretrainAll) -> dict[str, Any]:
    from jobs.recommend.everyone import pretrain_all

    return pretrain_all(ctx, params)


# Ten attempts: each goes on with what the last one's children have done. No check: beat submits it, and what is wrong
# with its source is to be a row that says so.
@job("recommend.refresh", params=Refresh, queue="cpu", key="weekly", max_attempts=10)
def refresh(ctx: Context, params: Refresh) -> dict[str, Any]:
    from jobs.recommend.weekly import refresh

    return refresh(ctx, params)


# Somebody waits: those who ask at the same time are scored in one pass. A visitor of whom nothing is known is answered.
@job("recommend.rank", params=Rank, queue="gpu", batch=64, priority="interactive", time_limit=600)
def rank(ctx: Context, many: list[Rank]) -> list[Any]:
    from jobs.recommend.rank import rank

    return rank(ctx, many)


@job(
    "recommend.score_items",
    params=ScoreItems,
    queue="gpu",
    priority="interactive",
    time_limit=600,
    check=stored_user,
)
def score_items(ctx: Context, params: ScoreItems) -> dict[str, Any]:
    from jobs.recommend.score_items import score_items

    return score_items(ctx, params)


@job("recommend.similar", params=Similar, queue="gpu", priority="interactive", time_limit=600)
def similar(ctx: Context, params: Similar) -> dict[str, Any]:
    from jobs.recommend.similar import similar

    return similar(ctx, params)


@job("recommend.adapt", params=Adapt, queue="gpu", time_limit=3600, check=readable)
def adapt(ctx: Context, params: Adapt) -> dict[str, Any]:
    from jobs.recommend.adaptation import adapt

    return adapt(ctx, params)
