"""Low-rank layers: the identities that hold at full rank, what is left alone, and what an optimizer keeps."""

import copy
import io

import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from jobs.training import factorised, lowrank
from jobs.training.factorised import LowRankLinear, Schedule


class Network(nn.Module):
    """An embedding, tied to the output layer, around an attention block and a feed-forward one."""

    def __init__(self, words: int = 50, dim: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, dim)
        self.attention = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim, bias=False))
        self.out = nn.Linear(dim, words)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.out(x + self.feed(x))  # type: ignore[no-any-return]


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network()


TOKENS = torch.arange(40).view(4, 10)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten().flip(0)).backward()
    optimizer.step()


def test_at_full_rank_a_model_computes_what_it_did_and_dense_gives_its_weights_back() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    answer = model(TOKENS)

    ranks = factorised.factorise(model, ratio=1, min_size=8, share=10)

    assert ranks == factorised.ranks(model) == {"feed.0": 32, "feed.2": 32}
    torch.testing.assert_close(model(TOKENS), answer, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.feed[0].weight, before["feed.0.weight"], atol=1e-5, rtol=0)
    assert factorised.dense(model) == ["feed.0", "feed.2"]
    assert factorised.ranks(model) == {}
    assert model.state_dict().keys() == before.keys()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], atol=1e-5, rtol=0)


def test_biases_stay_the_same_parameters_and_layers_without_get_none() -> None:
    model = network()
    bias = model.feed[0].bias

    factorised.factorise(model, ratio=0.25, min_size=8)

    assert isinstance(model.feed[0], LowRankLinear)
    assert model.feed[0].bias is bias
    assert model.feed[2].bias is None
    assert set(model.feed[2].state_dict()) == {"U.weight", "S", "V.weight"}


def test_embeddings_tied_frozen_small_and_zero_weights_and_attentions_own_projection_are_left_alone() -> None:
    model = network()
    model.feed[0].weight.requires_grad_(False)
    nn.init.zeros_(model.feed[2].weight)

    assert factorised.factorise(model, ratio=0.25, min_size=8) == {}
    model = network()
    assert factorised.factorise(model, ratio=0.25, min_size=33) == {}
    assert factorised.factorise(model, ratio=0.25, min_size=8).keys() == {"feed.0", "feed.2"}
    assert model.out.weight is model.embedding.weight


def test_only_ranks_that_save_enough_multiplications_are_taken() -> None:
    square = nn.Sequential(nn.Linear(64, 64))  # m n / (m + n) is 32

    assert factorised.factorise(square, ratio=0.25, min_size=8) == {}
    assert factorised.factorise(square, ratio=0.125, min_size=8) == {"0": 8}


def test_with_an_energy_a_flat_layer_stays_dense_and_another_gets_the_rank_that_it_needs() -> None:
    model = nn.Sequential(nn.Linear(128, 128), nn.Linear(128, 128))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(128, 3) @ torch.randn(3, 128))

    assert factorised.factorise(model, ratio=0.125, energy=0.999, min_size=8) == {"1": 3}


def test_a_state_dict_goes_into_an_untrained_model_of_the_same_ranks() -> None:
    model = network()
    factorised.factorise(model, ratio=0.25, min_size=8)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)

    other = network(seed=1)
    rng = torch.get_rng_state()
    factorised.shape_like(other, factorised.ranks(model))

    assert torch.equal(torch.get_rng_state(), rng)
    other.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(other(TOKENS), model(TOKENS))


def test_ranks_of_another_model_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"'feed\.7' is no linear layer"):
        factorised.shape_like(network(), {"feed.7": 3})
    model = network()
    factorised.factorise(model, ratio=0.25, min_size=8)
    with pytest.raises(ValueError, match=r"'feed\.[02]' has low rank and should not"):
        factorised.shape_like(model, {})


def test_gradients_are_those_of_the_product() -> None:
    torch.manual_seed(0)
    layer = LowRankLinear(12, 9, 4).double()
    x = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(layer, (x,))
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def changed_layer(ratio: float | None, optimizer_class: type = torch.optim.AdamW) -> tuple[Tensor, Tensor]:
    """The weight of feed.0 after three dense steps, and how one more step moves it, dense or factorised before it."""
    model = network()
    optimizer = optimizer_class(model.parameters(), lr=1e-3)
    for _ in range(3):
        step(model, optimizer)
    if ratio:
        factorised.factorise(model, ratio=ratio, min_size=8, share=10, optimizer=optimizer)
    before = model.feed[0].weight.detach().clone()
    step(model, optimizer)
    return before, model.feed[0].weight.detach() - before


def test_after_factorising_a_step_of_adamw_moves_the_product_as_far_and_the_same_way_as_a_dense_step() -> None:
    _, dense = changed_layer(None)
    _, thin = changed_layer(1.0)

    cosine = torch.nn.functional.cosine_similarity(dense.flatten(), thin.flatten(), dim=0)
    assert 0.5 < thin.norm() / dense.norm() < 2
    assert cosine > 0.5


def test_the_first_moments_of_the_factors_are_those_that_they_would_have_had() -> None:
    model = network()
    weight = model.feed[0].weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.0, 0.9))  # the first moment is the gradient
    step(model, optimizer)
    with torch.no_grad():
        gradient = optimizer.state[weight]["exp_avg"].clone()
    factorised.factorise(model, ratio=0.5, min_size=8, share=10, optimizer=optimizer)

    thin = model.feed[0]
    (thin.weight * gradient).sum().backward()  # d/dW is the gradient

    for factor in (thin.U.weight, thin.S, thin.V.weight):
        torch.testing.assert_close(optimizer.state[factor]["exp_avg"], factor.grad, atol=1e-6, rtol=1e-4)
        assert optimizer.state[factor]["step"] == 1
        assert (optimizer.state[factor]["exp_avg_sq"] >= 0).all()
    assert weight not in optimizer.state
    assert all(parameter is not weight for group in optimizer.param_groups for parameter in group["params"])
    step(model, optimizer)


def test_an_optimizer_with_other_states_begins_anew_with_the_factors() -> None:
    model = network()
    optimizer = torch.optim.Rprop(model.parameters(), lr=1e-3)
    step(model, optimizer)

    factorised.factorise(model, ratio=0.25, min_size=8, optimizer=optimizer)

    assert model.feed[0].S not in optimizer.state
    step(model, optimizer)
    assert optimizer.state[model.feed[0].S]["step"] == 1


def at_epochs(mode: str, epochs: int = 6, ratio: float = 0.25, *, flat: bool = True) -> list[dict[str, int]]:
    """The ranks of the model in each epoch, with a step between them; its spectra are flat, or end at rank 4."""
    model = network()
    if not flat:
        for layer in (model.feed[0], model.feed[2]):
            layer.weight.data = lowrank.approximate(layer.weight.data, 4).product()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = Schedule(mode, ratio, epochs, min_size=8)  # type: ignore[arg-type]
    found = []
    for epoch in range(1, epochs + 1):
        schedule.at_epoch(model, optimizer, epoch)
        assert schedule.at_epoch(model, optimizer, epoch) is None  # a resume calls it again
        step(model, optimizer)
        found.append(factorised.ranks(model))
    return found


def test_schedules_change_the_model_when_they_say() -> None:
    eight, sixteen, wider = ({"feed.0": rank, "feed.2": rank} for rank in (8, 16, 24))

    assert at_epochs("off") == [{}] * 6
    assert at_epochs("full") == [eight] * 6
    assert at_epochs("selective") == [eight] * 6
    assert at_epochs("selective", ratio=0.5) == [{}] * 6
    assert at_epochs("progressive") == [{}] * 6
    assert [max(each.values(), default=0) for each in at_epochs("progressive", flat=False)] == [0] * 2 + [4] * 4
    assert at_epochs("dynamic", ratio=0.5) == [{}] * 2 + [wider] * 2 + [sixteen] * 2  # twice the half saves nothing


def test_a_smaller_rank_keeps_the_components_that_matter_with_their_moments() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    schedule = Schedule("dynamic", 0.25, 3, min_size=8)
    schedule.at_epoch(model, optimizer, 1)
    step(model, optimizer)
    wide = copy.deepcopy(model.feed[0])
    moment = optimizer.state[model.feed[0].V.weight]["exp_avg"].clone()

    assert schedule.at_epoch(model, optimizer, 3) == {"feed.0": 8, "feed.2": 8}

    thin = model.feed[0]
    assert (thin.V.out_features, thin.U.in_features, thin.rank) == (8, 8, 8)
    torch.testing.assert_close(thin.V.weight, wide.V.weight[:8])  # it began with the largest in front
    torch.testing.assert_close(optimizer.state[thin.V.weight]["exp_avg"], moment[:8])
    step(model, optimizer)


def test_a_schedule_gives_the_same_factors_from_the_same_weights() -> None:
    models = [network(), network()]
    for number, model in enumerate(models):
        torch.manual_seed(number)
        Schedule("full", 0.25, 3, min_size=8).at_epoch(model, None, 1)

    assert torch.equal(models[0](TOKENS), models[1](TOKENS))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch says: until it has another one
def test_dynamic_int8_of_the_thin_layers_stays_close() -> None:
    from torch.ao.quantization import quantize_dynamic

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)).eval()
    factorised.factorise(model, ratio=0.25, min_size=8)
    x = torch.randn(20, 64)
    answer = model(x)

    small = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)

    assert "DynamicQuantizedLinear" in str(small[0].U)
    assert "DynamicQuantizedLinear" in str(small[0].V)
    assert (small(x) - answer).norm() < 0.05 * answer.norm()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_thin_model_is_traced_and_exported_to_onnx() -> None:
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)).eval()
    factorised.factorise(model, ratio=0.25, min_size=8)
    x = torch.randn(5, 64)

    torch.testing.assert_close(torch.jit.trace(model, (x,))(x), model(x))
    file = io.BytesIO()
    torch.onnx.export(model, (x,), file, dynamo=False)
    exported = onnx.load_from_string(file.getvalue())
    (answer,) = ReferenceEvaluator(exported).run(None, {exported.graph.input[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), model(x), atol=1e-5, rtol=1e-5)


def test_code_that_asks_for_a_weight_gets_the_product() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True, dropout=0.0).eval()
    x = torch.randn(2, 5, 32)
    answer = layer(x)  # on its fast path, which takes linear1.weight

    factorised.factorise(layer, ratio=1, min_size=8, share=10)

    assert factorised.ranks(layer) == {"linear1": 32, "linear2": 32}
    with torch.no_grad():
        torch.testing.assert_close(layer(x), answer, atol=1e-4, rtol=1e-4)
