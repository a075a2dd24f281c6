"""Double DQN: H. van Hasselt, A. Guez and D. Silver, "Deep reinforcement learning with double Q-learning", AAAI 2016.

Stable-Baselines3's DQN takes the largest value of the target network for what the next state is worth; here the network
that learns chooses the action and the target network says what it is worth. Everything else is its code.
"""

from __future__ import annotations

import torch
from stable_baselines3 import DQN
from stable_baselines3.dqn.policies import QNetwork


class DoubleDQN(DQN):
    """DQN with the action of the next state chosen by the network that learns; n-step returns as in DQN."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        target = self.q_net_target
        self.q_net_target = _Chosen(target, self.q_net)  # type: ignore[assignment]
        try:
            super().train(gradient_steps, batch_size)
        finally:
            self.q_net_target = target


class _Chosen:
    """Stands for the target network while it is asked: of its values, the one of the action that `chooser` takes."""

    def __init__(self, target: QNetwork, chooser: QNetwork) -> None:
        self._target, self._chooser = target, chooser

    def __call__(self, observations: torch.Tensor) -> torch.Tensor:
        actions = self._chooser(observations).argmax(dim=1, keepdim=True)
        return torch.gather(self._target(observations), 1, actions)
