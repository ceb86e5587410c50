"""Losses of the tokenizers."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses import lovasz_softmax

CLASSES = 4
_targets = st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=30)


def _iou_loss(predicted: torch.Tensor, target: torch.Tensor) -> float:
    """1 - IoU averaged over the classes in the target, counted one by one."""
    losses = []
    for name in target.unique().tolist():
        both = ((predicted == name) & (target == name)).sum()
        losses.append(1 - float(both / ((predicted == name) | (target == name)).sum()))
    return sum(losses) / len(losses)


@settings(max_examples=30, deadline=None)
@given(_targets, st.integers(0, 1000))
def test_lovasz_of_sure_predictions_is_one_minus_iou(target: list[int], seed: int) -> None:
    """Where every probability is 0 or 1 the closure meets the set function itself."""
    truth = torch.tensor(target, dtype=torch.uint8)
    predicted = torch.randint(CLASSES, truth.shape, generator=torch.Generator().manual_seed(seed))
    logits = 100.0 * torch.nn.functional.one_hot(predicted, CLASSES)
    assert abs(float(lovasz_softmax(logits, truth)) - _iou_loss(predicted, truth)) < 1e-5


@settings(max_examples=20, deadline=None)
@given(_targets, st.integers(0, 1000))
def test_lovasz_does_not_depend_on_the_order_of_voxels_nor_on_ignored_ones(target: list[int], seed: int) -> None:
    """A permutation of the voxels, and voxels of no class among them, change nothing."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.tensor(target, dtype=torch.uint8)
    logits = torch.randn(len(truth), CLASSES, generator=generator)
    order = torch.randperm(len(truth) + 3, generator=generator)
    mixed = torch.cat((truth, torch.full((3,), 255, dtype=torch.uint8)))[order]
    strange = torch.cat((logits, torch.randn(3, CLASSES, generator=generator)))[order]
    torch.testing.assert_close(lovasz_softmax(strange, mixed), lovasz_softmax(logits, truth))


def test_lovasz_falls_along_its_gradient() -> None:
    """A few steps of gradient descent bring the loss of random logits near zero."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(CLASSES, (64,), generator=generator)
    logits = torch.randn(64, CLASSES, generator=generator, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        lovasz_softmax(logits, truth).backward()
        optimizer.step()
    assert lovasz_softmax(logits, truth).item() < 0.05


def test_lovasz_without_a_known_voxel_is_zero() -> None:
    """Voxels of no class give no loss and a gradient of zeros."""
    logits = torch.randn(5, CLASSES, requires_grad=True)
    loss = lovasz_softmax(logits, torch.full((5,), 200, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
