"""Pruning, on a tiny transformer: what goes is what matters least, and what is left computes the same."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel

from jobs.compress import structured, surgeon, unstructured
from jobs.compress.structured import Cut
from jobs.text.network import Classifier
from jobs.text.tokens import TextBatch
from tests.unit.text import tiny


@pytest.fixture
def model() -> Classifier:
    return Classifier(tiny.encoder().model, 2).eval()


@pytest.fixture(scope="module")
def batches() -> list[TextBatch]:
    torch.manual_seed(3)
    lengths = torch.tensor([9, 5, 7, 3])
    return [TextBatch(torch.randint(4, 16, (4, 9)), lengths, torch.tensor([0, 1, 0, 1])) for _ in range(2)]


def logits(model: nn.Module, batch: TextBatch) -> torch.Tensor:
    with torch.no_grad():
        return model(batch.ids, batch.mask)


def test_a_cut_leaves_as_many_heads_and_neurons_in_each_layer(model: Classifier, batches: list[TextBatch]) -> None:
    left = structured.cut(model, Cut(layers=1 / 3, heads=0.5, ffn=0.25), batches)

    assert left == structured.sizes(model) == {"layers": 2, "heads": 2, "ffn": 48}
    assert (model.upper.config.num_hidden_layers, model.upper.config.intermediate_size) == (2, 48)
    for layer in model.layers:
        assert layer.attention.self.query.weight.shape == (16, 32)
        assert layer.output.dense.weight.shape == (32, 48)
    assert logits(model, batches[0]).shape == (4, 2)


def test_layers_and_neurons_cut_leave_a_form_that_transformers_reads_by_itself(
    model: Classifier, batches: list[TextBatch], tmp_path: Path
) -> None:
    structured.cut(model, Cut(layers=1 / 3, ffn=0.5), batches)
    model.upper.save_pretrained(tmp_path)

    found, said = AutoModel.from_pretrained(tmp_path, output_loading_info=True, add_pooling_layer=False)

    assert (len(found.encoder.layer), found.config.intermediate_size) == (2, 32)
    assert not said["missing_keys"]
    assert not said["mismatched_keys"]


def test_heads_and_neurons_that_do_nothing_are_those_that_go(model: Classifier, batches: list[TextBatch]) -> None:
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.output.dense.weight[:, 8:24] = 0  # the second and third of four heads
            layer.output.dense.weight[:, ::4] = 0
    before = logits(model, batches[0])

    structured.cut(model, Cut(heads=0.5, ffn=0.25), batches)

    torch.testing.assert_close(logits(model, batches[0]), before, atol=1e-5, rtol=1e-5)


def test_the_layer_that_changes_nothing_is_the_one_that_goes(model: Classifier, batches: list[TextBatch]) -> None:
    middle = model.layers[1]
    with torch.no_grad():
        middle.attention.output.dense.weight.zero_()
        middle.output.dense.weight.zero_()

    structured.cut(model, Cut(layers=1 / 3), batches)

    assert len(model.layers) == 2
    assert middle not in list(model.layers)


def test_what_stays_makes_up_for_what_goes_by_least_squares() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 6) @ torch.randn(6, 12) + 0.1 * torch.randn(400, 12)  # 12 inputs that say 6 things
    weight = torch.randn(5, 12)

    moments = x.T @ x

    kept, made = surgeon.remove(weight, moments, 0.5, size=2)

    wanted = x @ weight.T
    damped = moments + 1e-3 * moments.diagonal().mean() * torch.eye(12)
    best = torch.linalg.solve(damped[kept][:, kept], damped[kept] @ weight.T).T
    assert kept.tolist() == sorted(kept.tolist())
    assert (kept % 2).tolist() == [0, 1] * 3  # whole groups
    torch.testing.assert_close(made, best, atol=1e-3, rtol=1e-3)
    left, plain = ((x[:, kept] @ each.T - wanted).square().sum() for each in (made, weight[:, kept]))
    assert left < 0.1 * plain


def test_moments_are_of_real_tokens_only(model: Classifier, batches: list[TextBatch]) -> None:
    second = model.layers[0].output.dense
    seen: list[torch.Tensor] = []
    hook = second.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits(model, batches[0])
    hook.remove()

    found = surgeon.moments(model, [second], batches[:1])[second]

    real = seen[0][batches[0].mask.bool()]
    assert len(real) == 9 + 5 + 7 + 3
    torch.testing.assert_close(found, real.T @ real)


@pytest.mark.parametrize("wanted", [Cut(layers=1.0), Cut(layers=0.99)])
def test_a_network_without_layers_is_refused(model: Classifier, batches: list[TextBatch], wanted: Cut) -> None:
    with pytest.raises(ValueError, match="all 3 layers would go: cut a smaller share"):
        structured.cut(model, wanted, batches)


def test_thirty_percent_of_the_query_weights_become_zero_and_they_are_the_smallest(model: Classifier) -> None:
    before = copy.deepcopy(model)

    unstructured.hold(model, unstructured.QUERY)
    unstructured.set_zeros(model, 0.3)
    unstructured.release(model)

    now = [layer.attention.self.query.weight for layer in model.layers]
    old = [layer.attention.self.query.weight for layer in before.layers]
    assert np.mean([float((each == 0).float().mean()) for each in now]) == pytest.approx(0.3, abs=1e-3)
    gone = torch.cat([was[is_ == 0] for was, is_ in zip(old, now, strict=True)]).abs()
    kept = torch.cat([was[is_ != 0] for was, is_ in zip(old, now, strict=True)]).abs()
    assert gone.max() <= kept.min()
    assert (model.layers[0].attention.self.key.weight == before.layers[0].attention.self.key.weight).all()
    assert model.state_dict().keys() == before.state_dict().keys()
    assert 0 < unstructured.sparsity(model) < 0.05


def test_zeros_stay_while_the_rest_learns_and_grow_by_the_cubic_schedule(
    model: Classifier, batches: list[TextBatch]
) -> None:
    unstructured.hold(model, ".")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    shares, zeros = [unstructured.cubic(epoch, 4, 0.5) for epoch in range(1, 5)], []
    for epoch, share in enumerate(shares, start=1):
        unstructured.set_zeros(model, share, epoch)
        gone = {name: layer.weight == 0 for name, layer in unstructured.layers(model, ".").items()}
        nn.functional.cross_entropy(model(batches[0].ids, batches[0].mask), batches[0].labels).backward()
        optimizer.step()
        zeros.append(unstructured.sparsity(model))
        for name, layer in unstructured.layers(model, ".").items():
            assert (layer.weight[gone[name]] == 0).all()
        masks = copy.deepcopy(model.state_dict())
        unstructured.set_zeros(model, 0.9, epoch)  # as a resume within the epoch does
        assert all((masks[name] == value).all() for name, value in model.state_dict().items())

    assert shares == [pytest.approx(0.5 * (1 - (2 / 3) ** 3)), pytest.approx(0.5 * (1 - (1 / 3) ** 3)), 0.5, 0.5]
    assert zeros == [pytest.approx(share, abs=1e-3) for share in shares]


def test_a_pattern_that_matches_nothing_is_said_with_what_there_is(model: Classifier) -> None:
    with pytest.raises(ValueError, match=r"no linear layer matches 'nothing': their names end in dense, head, key"):
        unstructured.layers(model, "nothing")
