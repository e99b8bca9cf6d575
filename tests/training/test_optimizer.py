from __future__ import annotations

import math

import pytest
import torch

from minigpt.config import ModelSettings, TrainingSettings
from minigpt.model.gpt import GPT, GPTConfig
from minigpt.training.optimizer import Muon, Optimizer, orthogonalise, rate_factor


@pytest.mark.parametrize("shape", [(32, 16), (16, 32), (24, 24)])
def test_muon_is_torchs_muon(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(tensor) for tensor in torch.randn(shape).repeat(2, 1, 1).unbind(0))
    muon = Muon([(ours, [shape[0]])], momentum=0.95, iterations=5, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, ns_steps=5, weight_decay=0.1, nesterov=True)
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        muon.step(0.02)
        reference.step()
        # Both round to bfloat16 on the way, in another order.
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)


def test_stacked_projections_move_as_if_they_were_apart() -> None:
    torch.manual_seed(1)
    stacked = torch.nn.Parameter(torch.randn(24, 16))
    apart = [torch.nn.Parameter(part.clone()) for part in stacked.detach().split([8, 16])]
    one = Muon([(stacked, [8, 16])], 0.9, 5, 0.1, torch.float32)
    two = Muon([(apart[0], [8]), (apart[1], [16])], 0.9, 5, 0.1, torch.float32)
    for _ in range(3):
        stacked.grad = torch.randn(24, 16)
        for parameter, gradient in zip(apart, stacked.grad.split([8, 16]), strict=True):
            parameter.grad = gradient.clone()
        one.step(0.02)
        two.step(0.02)
    torch.testing.assert_close(stacked.detach(), torch.cat([p.detach() for p in apart]))


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    torch.manual_seed(2)
    singular_values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 20, 30), 5, torch.float32))
    assert singular_values.min() > 0.5
    assert singular_values.max() < 1.3


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_skipped_step_changes_nothing(optimizer: str) -> None:
    torch.manual_seed(3)
    shape = ModelSettings(d_model=32, n_layers=1, n_heads=2, max_seq_len=8)
    model = GPT(GPTConfig.from_settings(shape, 20))
    ours = Optimizer(model, TrainingSettings(optimizer=optimizer), torch.float32)
    tokens = torch.randint(20, (2, 8))
    for skip in (0.0, 1.0):
        model.loss(tokens, tokens).backward()
        if skip:
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter.grad.fill_(math.nan)
        before = [p.detach().clone() for p in model.parameters()], _flat(ours.state_dict())
        ours.step(1.0, skip=torch.tensor(skip))
        unchanged = [torch.equal(a, b) for a, b in zip(before[0], model.parameters(), strict=True)]
        assert all(unchanged) == bool(skip)
    assert all(torch.equal(a, b) for a, b in zip(before[1], _flat(ours.state_dict()), strict=True))


def _flat(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value.clone()]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in _flat(part)]
    return []


def test_adamw_decays_matrices_alone() -> None:
    model = GPT(GPTConfig.from_settings(ModelSettings(family="gpt2", d_model=32, n_layers=1, n_heads=2), 20))
    groups = Optimizer(model, TrainingSettings(optimizer="adamw", weight_decay=0.3)).adam.param_groups
    dimensions = {group["weight_decay"]: {p.dim() for p in group["params"]} for group in groups}
    assert dimensions == {0.3: {2}, 0.0: {1}}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.5, 0.01]),
        ("cosine", [1.0, 0.5, 0.000247]),
        ("wsd", [1.0, 1.0, 0.02]),
    ],
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    settings = TrainingSettings(schedule=schedule, warmup_steps=0, decay_fraction=0.5)
    factors = [rate_factor(settings, step, 100) for step in (0, 50, 99)]
    assert factors == pytest.approx(expected, abs=1e-4)


def test_warmup_climbs_from_above_zero_to_the_full_rate() -> None:
    settings = TrainingSettings(schedule="constant", warmup_steps=4)
    assert [rate_factor(settings, step, 100) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
