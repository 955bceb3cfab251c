"""The teacher as the engine sees it: batches, masks, frozen layers, learning rates."""

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
)

from jobs.text import encoder as encoders
from jobs.text.network import Classifier
from jobs.text.teacher import Teacher
from jobs.text.tokens import tokenize
from tests.unit.text import tiny


def logits(teacher: Teacher, rows: list[int]) -> Tensor:
    batch = teacher.train.batch(np.array(rows))
    with torch.no_grad():
        return teacher.model(batch.ids, batch.mask)


def test_a_batch_gives_each_text_what_it_gets_alone() -> None:
    teacher = Teacher(tiny.dataset(), tiny.encoder())
    teacher.model.eval()
    assert len(set(teacher.train.lengths[:16])) > 5

    together = logits(teacher, list(range(16)))

    alone = torch.cat([logits(teacher, [row]) for row in range(16)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_with_the_features_of_the_frozen_layers_the_loss_is_the_same(training: bool) -> None:
    teacher = Teacher(tiny.dataset(), tiny.encoder(), freeze=2)
    batch = teacher.train.batch(np.arange(16))
    teacher.model.eval()
    features = teacher.features(batch)
    teacher.model.train(training)

    losses = []
    for given in (None, features):
        torch.manual_seed(1)
        losses.append(teacher.loss(teacher.model, type(batch)(batch.ids, batch.lengths, batch.labels, given)))

    assert features.shape == (16, batch.ids.shape[1], 32)
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=0)


def test_only_the_layers_that_are_not_frozen_learn() -> None:
    teacher = Teacher(tiny.dataset(), tiny.encoder(), freeze=2)
    before = {name: tensor.clone() for name, tensor in teacher.model.state_dict().items()}
    optimizer = torch.optim.AdamW(teacher.groups(1e-2), lr=1e-2)

    teacher.loss(teacher.model, teacher.train.batch(np.arange(16))).backward()
    optimizer.step()

    changed = {name.split(".")[0] for name, now in teacher.model.state_dict().items() if not before[name].equal(now)}
    assert changed == {"upper", "head"}
    assert len(teacher.blocks()) == 1


def test_a_cut_encoder_in_one_piece_again_is_the_encoder() -> None:
    original = tiny.encoder().model.eval()
    teacher = Teacher(tiny.dataset(), tiny.encoder(), freeze=1)
    batch = teacher.train.batch(np.arange(8))

    whole = teacher.model.whole().eval()

    assert whole.state_dict().keys() == original.state_dict().keys()
    assert all(tensor.equal(original.state_dict()[name]) for name, tensor in whole.state_dict().items())
    with torch.no_grad():
        made, expected = (net(batch.ids, attention_mask=batch.mask).last_hidden_state for net in (whole, original))
    torch.testing.assert_close(made, expected)


SIZES = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.mark.parametrize(
    "model",
    [
        lambda: RobertaModel(RobertaConfig(**SIZES)),
        lambda: ElectraModel(ElectraConfig(**SIZES, embedding_size=32)),
        lambda: DistilBertModel(DistilBertConfig(vocab_size=50, dim=32, n_layers=3, n_heads=4, hidden_dim=64)),
    ],
)
def test_other_architectures_are_cut_without_a_difference(model: object) -> None:
    torch.manual_seed(0)
    made = encoders.bare(model()).eval()  # type: ignore[operator]
    ids = torch.randint(5, 50, (4, 9))
    mask = (torch.arange(9) < torch.tensor([9, 5, 7, 2])[:, None]).long()
    with torch.no_grad():
        expected = made(ids, attention_mask=mask).last_hidden_state

        cut = Classifier(made, 3, freeze=2).eval()
        features = cut.features(ids, mask)
        got = cut.upper(inputs_embeds=features, attention_mask=mask).last_hidden_state

    real = mask[:, :, None]
    torch.testing.assert_close(got * real, expected * real, atol=1e-5, rtol=0)


def test_freezing_what_cannot_be_frozen_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^encoder 'tiny': freeze=3: BertModel has 3 layers, one must learn: give 2 at most$"
    ):
        Teacher(tiny.dataset(), tiny.encoder(), freeze=3)
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    with pytest.raises(ValueError, match=r"ModernBertModel has final_norm\.weight beside its layers: use freeze=0"):
        Classifier(ModernBertModel(ModernBertConfig(**SIZES, **tokens)), 2, freeze=1)


def test_each_layer_learns_at_a_share_of_the_rate_of_the_layer_above() -> None:
    teacher = Teacher(tiny.dataset(), tiny.encoder(), layer_decay=0.5)

    groups = {group["lr"]: group["params"] for group in teacher.groups(0.8)}

    assert list(groups) == [0.8, 0.4, 0.2, 0.1]
    assert any(each is teacher.model.head.weight for each in groups[0.8])
    assert any(each is teacher.model.upper.embeddings.word_embeddings.weight for each in groups[0.1])
    assert sum(len(found) for found in groups.values()) == len(list(teacher.model.parameters()))


def test_without_decay_there_is_one_group() -> None:
    assert [group["lr"] for group in Teacher(tiny.dataset(), tiny.encoder(), freeze=1).groups(0.8)] == [0.8]


def test_validation_is_the_same_in_any_batches() -> None:
    teacher = Teacher(tiny.dataset(), tiny.encoder())
    teacher.model.eval()

    made = teacher.logits(teacher.model, teacher.train)

    np.testing.assert_allclose(made, logits(teacher, list(range(96))).numpy(), atol=1e-5)
    assert teacher.validate(teacher.model).keys() == {"accuracy", "macro_f1", "ece", "nll"}


def test_validation_runs_the_frozen_layers_over_dev_once(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Teacher(tiny.dataset(), tiny.encoder(), freeze=2)
    teacher.model.eval()
    whole = teacher.logits(teacher.model, teacher.dev)
    first = teacher.validate(teacher.model)

    def again(*_: object) -> Tensor:
        raise AssertionError("the frozen layers ran again")

    monkeypatch.setattr(Classifier, "features", again)

    assert teacher.validate(teacher.model) == first
    np.testing.assert_allclose(teacher.logits(teacher.model, teacher.held), whole, atol=2e-3)


def test_tokens_on_a_device_make_the_same_batches() -> None:
    tokens = Teacher(tiny.dataset(), tiny.encoder()).train
    rows = np.array([5, 3, 90])

    here, moved = tokens.batch(rows), tokens.to(torch.device("cpu")).batch(rows)

    assert here.ids.equal(moved.ids)
    assert here.ids.shape[1] == tokens.lengths[rows].max()
    assert (here.targets, here.tokens) == (3, here.ids.numel())
    assert tokens.nbytes == 4 * int(tokens.lengths.sum()) + 3 * 8 * 96


def test_long_texts_are_cut_and_counted() -> None:
    texts = ["good", "bad " * 300_000, "好" * 1_000_000]

    made = tokenize(tiny.tokenizer(), texts, np.array([0, 1, 0]), 16)

    assert made.lengths.tolist() == [3, 16, 16]
    assert made.cut == 2


def test_a_length_beyond_the_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="max_length=65: tiny reads at most 64 tokens"):
        Teacher(tiny.dataset(), tiny.encoder(), max_length=65)


def test_the_fingerprint_tells_data_and_options_apart() -> None:
    made = {
        Teacher(tiny.dataset(train=count), tiny.encoder(), freeze=freeze, prefix=prefix).fingerprint()
        for count, freeze, prefix in [(96, 0, ""), (96, 0, ""), (95, 0, ""), (96, 1, ""), (96, 0, "query: ")]
    }
    assert len(made) == 4
