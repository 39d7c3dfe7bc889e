"""The update rules of the recipes, trained as the memory account counts them.

With `accumulate: 1` every parameter is updated inside the backward pass, as soon as its gradient is there, and the
gradient is dropped: autograd computes an operator's input gradient and weight gradient from the old weight first, which
is the order that the account assumes. With more, gradients stay until the update.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from repnet_search.spec.design import Optimizer, Recipe

_MOMENTUM = 0.9
_BETAS = (0.9, 0.999)
_EPS = 1e-8  # keeps the normalising rules at rest while gradients are exactly 0, as they are in front of a γ of 0


class ParameterRule:
    """Updates one parameter from its gradient by an optimizer's rule, and keeps the state that the rule needs."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._state: dict[Tensor, tuple[Tensor, ...]] = {}
        self._steps: dict[Tensor, int] = {}
        self._apply = _RULES[optimizer]

    @torch.no_grad()
    def update(self, parameter: Tensor, gradient: Tensor, *, lr: float) -> None:
        """Changes `parameter` in place; what is in `gradient` afterwards is of no use."""
        self._apply(self, parameter, gradient, lr)

    def state_bytes(self) -> int:
        """Returns the bytes of state held for all parameters that were updated."""
        return sum(tensor.nbytes for state in self._state.values() for tensor in state)

    def _sgd(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        parameter.add_(gradient, alpha=-lr)

    def _sign_sgd(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        parameter.add_(gradient.sign_(), alpha=-lr)

    def _normalised_sgd(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        rms = torch.linalg.vector_norm(gradient) / math.sqrt(gradient.numel())
        parameter.addcdiv_(gradient, rms + _EPS, value=-lr)

    def _momentum(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        (velocity,) = self._state.setdefault(parameter, (torch.zeros_like(parameter),))
        parameter.add_(velocity.mul_(_MOMENTUM).add_(gradient), alpha=-lr)

    def _adam(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        first, second = self._state.setdefault(parameter, (torch.zeros_like(parameter), torch.zeros_like(parameter)))
        step = self._steps[parameter] = self._steps.get(parameter, 0) + 1
        first.lerp_(gradient, 1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        root = second.sqrt().div_(math.sqrt(1 - _BETAS[1] ** step)).add_(_EPS)
        parameter.addcdiv_(first, root, value=-lr / (1 - _BETAS[0] ** step))


_RULES: dict[Optimizer, Callable[[ParameterRule, Tensor, Tensor, float], None]] = {
    Optimizer.SGD: ParameterRule._sgd,
    Optimizer.SIGN_SGD: ParameterRule._sign_sgd,
    Optimizer.NORMALISED_SGD: ParameterRule._normalised_sgd,
    Optimizer.MOMENTUM: ParameterRule._momentum,
    Optimizer.ADAM: ParameterRule._adam,
}


class UpdateRule:
    """Applies a recipe to parameters; `scale` is the schedule's factor on the learning rate."""

    def __init__(self, model: nn.Module, recipe: Recipe, *, head: list[nn.Parameter]) -> None:
        """Collects what trains and, for a fused recipe, hooks the update into the backward pass.

        Args:
            model: its parameters that require a gradient are trained.
            recipe: optimizer, accumulation and learning rates.
            head: the parameters that `head_lr_ratio` applies to.
        """
        self.scale = 1.0
        heads = {id(parameter) for parameter in head}
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._lr: dict[Tensor, float] = {
            parameter: recipe.lr * (recipe.head_lr_ratio if id(parameter) in heads else 1.0)
            for parameter in self.parameters
        }
        self._rule = ParameterRule(recipe.optimizer)
        self.fused = recipe.accumulate == 1
        if self.fused:
            for parameter in self.parameters:
                parameter.register_post_accumulate_grad_hook(self._update)

    def step(self) -> None:
        """Updates all parameters from their accumulated gradients; a fused rule has done so already."""
        if not self.fused:
            for parameter in self.parameters:
                self._update(parameter)

    def optimizer_state_bytes(self) -> int:
        """Returns the bytes of state that the rule really holds."""
        return self._rule.state_bytes()

    def _update(self, parameter: Tensor) -> None:
        gradient = parameter.grad
        if gradient is None:
            return
        parameter.grad = None
        self._rule.update(parameter, gradient, lr=self._lr[parameter] * self.scale)
