"""Losses that take their gradient in the forward pass, piece by piece."""
from __future__ import annotations

from typing import Callable

import torch
from torch import Tensor


class OwnGradient(torch.autograd.Function):
    """Base of a loss whose ``forward`` saves the gradient with respect to its first input.

    ``ctx.save_for_backward(grad)``, or None where that input needs none. Twice differentiable it is
    not.
    """

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        grad, = ctx.saved_tensors
        others = len(ctx.needs_input_grad) - 1
        return (grad * grad_output.to(grad.dtype), *[None] * others)


def loss_at_once(loss_of: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``loss_of(x)``, of which nothing is held until the backward pass but its gradient.

    For a small x of which large things are made, such as logits that are brought to the labels'
    size: they are gone when this returns, and are not made twice, as checkpointing would.

    Args:
        loss_of: ``x`` -> scalar; of what else it reads, nothing gets a gradient.
        x: of any shape.

    Returns:
        scalar, connected to ``x``.
    """
    return _AtOnce.apply(x, loss_of)


class _AtOnce(OwnGradient):

    @staticmethod
    def forward(ctx, x, loss_of):
        with torch.set_grad_enabled(ctx.needs_input_grad[0]):
            x = x.detach().requires_grad_(ctx.needs_input_grad[0])
            loss = loss_of(x)
            ctx.save_for_backward(torch.autograd.grad(loss, x)[0] if x.requires_grad else None)
        return loss.detach()
