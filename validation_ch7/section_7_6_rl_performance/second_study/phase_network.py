"""A Q-network that values every phase by the same weights: what is learnt of one phase holds for the others.

Weights shared between phases as in FRAP: G. Zheng et al., "Learning phase competition for traffic signal control",
CIKM 2019. A phase's advantage follows from its own block of the observation (layout `phases` of `observation.py`), from
that of the phase shown, and from the whole observation; what the state itself is worth from the whole alone: Z. Wang et
al., "Dueling network architectures for deep reinforcement learning", ICML 2016.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn


class PhaseValues(nn.Module):
    """From observations, shape (batch, phases x block), to values, shape (batch, phases).

    The first number of each block says whether its phase is shown.
    """

    def __init__(self, phases: int, length: int, units: int) -> None:
        super().__init__()
        self._phases = phases
        self.of_phase = nn.Sequential(nn.Linear(length // phases, units), nn.ReLU())
        self.of_whole = nn.Sequential(nn.Linear(length, units), nn.ReLU())
        self.advantage = nn.Sequential(nn.Linear(3 * units, units), nn.ReLU(), nn.Linear(units, 1))
        self.value = nn.Sequential(nn.Linear(units, units), nn.ReLU(), nn.Linear(units, 1))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        blocks = observations.unflatten(-1, (self._phases, -1))  # type: ignore[no-untyped-call]
        each = self.of_phase(blocks)
        shown = (each * blocks[..., :1]).sum(-2, keepdim=True).expand_as(each)
        whole = self.of_whole(observations)
        around = whole.unsqueeze(-2).expand_as(each)
        advantages = self.advantage(torch.cat([each, shown, around], -1)).squeeze(-1)
        values: torch.Tensor = self.value(whole) + advantages - advantages.mean(-1, keepdim=True)
        return values


class PhaseQNetwork(QNetwork):
    """DQN's network with `PhaseValues` of `net_arch[0]` units in the place of its layers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        values = PhaseValues(int(self.action_space.n), self.features_dim, self.net_arch[0])
        self.q_net = values  # type: ignore[assignment]


class PhasePolicy(DQNPolicy):
    """DQN's policy with such a network."""

    def make_q_net(self) -> QNetwork:
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return PhaseQNetwork(**arguments).to(self.device)
