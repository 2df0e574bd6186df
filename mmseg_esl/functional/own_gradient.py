"""Losses that take their gradient in the forward pass, piece by piece."""
from __future__ import annotations

import torch


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
