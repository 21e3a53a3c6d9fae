"""Batch normalisation over all processes: with a single one it is PyTorch's. (With several: ``test_process_groups.py``.)"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from attnbn.training.batch_norm import SharedBatchNorm, _combined, share_batch_norms

SETTINGS = [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"eps": 0.1, "momentum": 0.7}]


@pytest.mark.parametrize("how", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 7), (4, 3, 5, 6)])
def test_one_process_is_pytorchs(how: dict[str, float], shape: tuple[int, ...]) -> None:
    plain = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](3, **how).double()
    for parameter in plain.parameters():
        nn.init.normal_(parameter)
    model = nn.Sequential(copy.deepcopy(plain))
    parameters = [id(p) for p in model.parameters()]
    share_batch_norms(model)
    assert isinstance(model[0], SharedBatchNorm) and [id(p) for p in model.parameters()] == parameters
    for _ in range(3):
        items, direction = 100 + 3 * torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
        results = []
        for module in (plain, model):
            given = items.clone().requires_grad_()
            module.zero_grad()
            output = module(given)
            (output * direction).sum().backward()
            results.append([output, given.grad, *(p.grad for p in module.parameters()), *module.buffers()])
        torch.testing.assert_close(results[1], results[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.eval()(items), plain.eval()(items))
    assert [f"0.{name}" for name in plain.state_dict()] == list(model.state_dict())


def test_half_precision_is_normalised_in_float32() -> None:
    items = (100 + torch.randn(64, 2)).half()
    shared = SharedBatchNorm.of(nn.BatchNorm1d(2))
    output = shared(items)
    assert output.dtype == torch.float16 and shared.running_mean is not None
    torch.testing.assert_close(output.float(), nn.BatchNorm1d(2)(items.float()), rtol=0, atol=2e-3)


def test_parts_are_combined_without_cancellation() -> None:
    parts = [1e6 + torch.randn(n, 2, dtype=torch.float64) for n in (3, 8, 1)]
    whole = torch.cat(parts)
    count, mean, variance = together(parts)
    assert float(count) == 12
    torch.testing.assert_close(mean, whole.mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(variance, whole.var(0, correction=0), rtol=1e-8, atol=0)


def together(parts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """As several processes would, each with one part."""
    rows = [(torch.tensor([float(len(p))]).double(), p.mean(0), (p - p.mean(0)).square().sum(0)) for p in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.distributed.is_initialized", lambda: True)
        patch.setattr("torch.distributed.get_world_size", lambda: len(parts))

        def all_gather(into: list[Tensor], own: Tensor) -> None:
            for place, row in zip(into, rows, strict=True):
                place.copy_(torch.cat(row))

        patch.setattr("torch.distributed.all_gather", all_gather)
        return _combined(*rows[0])


def test_a_second_derivative_is_refused_not_wrong() -> None:
    items = torch.randn(4, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(SharedBatchNorm(3)(items).square().sum(), items, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_items_without_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected items of shape B×C×…, got \(4,\)"):
        SharedBatchNorm(4)(torch.rand(4))
