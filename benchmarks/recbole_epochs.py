"""RecBole's SASRec or BERT4Rec for some epochs, run by a Python of its own; `benchmarks.ranking --recbole` starts it.

    python recbole_epochs.py FOLDER sasrec EPOCHS BATCH SEED

FOLDER holds events/events.inter, whose times are places in the history, so that its split is ours. Writes scores.npy,
(users, items) float32 in the order of the ids, and prints one line of JSON: {"epoch_s": [...], "parameters": …}.
"""

from __future__ import annotations

import json
import sys
import time
from logging import WARNING, basicConfig
from pathlib import Path

import numpy as np
import torch


def main() -> None:
    old = {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}
    for gone, kind in old.items():
        setattr(np, gone, kind)  # of NumPy 1, for which it was written
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.sequential_recommender import BERT4Rec, SASRec
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    folder, name, epochs, batch, seed = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
    basicConfig(level=WARNING)
    network = {"sasrec": SASRec, "bert4rec": BERT4Rec}[name]
    settings = {
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": 50,
        "train_neg_sample_args": None,  # cross entropy over all items
        "loss_type": "CE",
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "metrics": ["NDCG"],
        "valid_metric": "NDCG@10",
        "topk": [10],
        "train_batch_size": batch,
        "eval_batch_size": 1024,
        "epochs": epochs,
        "seed": seed,
        "use_gpu": False,
        "show_progress": False,
        "checkpoint_dir": str(folder / "saved"),
        "state": "WARNING",
    }
    config = Config(model=network.__name__, dataset="events", config_dict=settings)
    init_seed(seed, reproducibility=True)
    dataset = create_dataset(config)
    train, _, test = data_preparation(config, dataset)
    model = network(config, train.dataset)
    trainer = Trainer(config, model)
    seconds = []
    for epoch in range(epochs):
        begin = time.perf_counter()
        trainer._train_epoch(train, epoch)
        seconds.append(round(time.perf_counter() - begin, 1))
    users = dataset.field2id_token["user_id"][1:]  # the first is padding
    items = dataset.field2id_token["item_id"][1:]
    by_user, by_item = {u: n for n, u in enumerate(users)}, {i: n for n, i in enumerate(items)}
    user_order = np.array([by_user[str(n)] for n in range(len(users))])
    item_order = np.array([by_item[str(n)] for n in range(len(items))])
    scores = np.zeros((len(users), len(items)), dtype=np.float32)
    model.eval()
    with torch.no_grad():
        for interaction, *_ in test:
            made = model.full_sort_predict(interaction).view(len(interaction), -1)[:, 1:]
            scores[interaction["user_id"].numpy() - 1] = made.numpy()[:, : len(items)]
    np.save(folder / "scores.npy", scores[user_order][:, item_order])
    print(json.dumps({"epoch_s": seconds, "parameters": sum(p.numel() for p in model.parameters())}))


if __name__ == "__main__":
    main()
