"""PPO on CartPole in one file, in the style of CleanRL; no checkpoint."""

import random

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

seed, total_timesteps, num_envs, num_steps, epochs, minibatches = 1, 20_000, 4, 64, 4, 4
batch_size = num_envs * num_steps
random.seed(seed)
np.random.seed(seed)
torch.manual_seed(seed)


def make_env():
    return gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"))


class Agent(nn.Module):
    def __init__(self, observations, actions):
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(observations, 64), nn.Tanh(), nn.Linear(64, 1))
        self.actor = nn.Sequential(nn.Linear(observations, 64), nn.Tanh(), nn.Linear(64, actions))

    def act(self, x, action=None):
        choice = Categorical(logits=self.actor(x))
        action = choice.sample() if action is None else action
        return action, choice.log_prob(action), choice.entropy(), self.critic(x).flatten()


envs = gym.vector.SyncVectorEnv([make_env] * num_envs)
agent = Agent(envs.single_observation_space.shape[0], envs.single_action_space.n)
optimizer = torch.optim.Adam(agent.parameters(), lr=2.5e-4, eps=1e-5)
obs = torch.zeros((num_steps, num_envs, *envs.single_observation_space.shape))
actions, logprobs, rewards, dones, values = (torch.zeros((num_steps, num_envs)) for _ in range(5))

next_obs = torch.tensor(envs.reset(seed=seed)[0])
next_done = torch.zeros(num_envs)
for global_step in range(batch_size, total_timesteps + 1, batch_size):
    optimizer.param_groups[0]["lr"] = 2.5e-4 * (1 - (global_step - batch_size) / total_timesteps)
    for t in range(num_steps):
        obs[t], dones[t] = next_obs, next_done
        with torch.no_grad():
            actions[t], logprobs[t], _, values[t] = agent.act(next_obs)
        next_obs, reward, terminated, truncated, infos = envs.step(actions[t].long().numpy())
        next_obs, rewards[t] = torch.tensor(next_obs), torch.tensor(reward)
        next_done = torch.tensor(terminated | truncated).float()
        for gained in infos["episode"]["r"][infos["_episode"]] if "episode" in infos else []:
            print(f"global_step={global_step}, episodic_return={gained}")
    with torch.no_grad():
        next_value, advantages, last = agent.critic(next_obs).flatten(), torch.zeros_like(rewards), 0
        for t in reversed(range(num_steps)):
            alive = 1 - (next_done if t == num_steps - 1 else dones[t + 1])
            delta = rewards[t] + 0.99 * alive * (next_value if t == num_steps - 1 else values[t + 1]) - values[t]
            advantages[t] = last = delta + 0.99 * 0.95 * alive * last
    flat = [each.flatten(0, 1) for each in (obs, actions, logprobs, advantages, advantages + values)]
    indices = np.arange(batch_size)
    for _ in range(epochs):
        np.random.shuffle(indices)
        for chosen in np.split(indices, minibatches):
            b_obs, b_actions, b_logprobs, b_advantages, b_returns = (each[chosen] for each in flat)
            _, logprob, entropy, value = agent.act(b_obs, b_actions)
            ratio = (logprob - b_logprobs).exp()
            b_advantages = (b_advantages - b_advantages.mean()) / (b_advantages.std() + 1e-8)
            policy_loss = torch.max(-b_advantages * ratio, -b_advantages * ratio.clamp(0.8, 1.2)).mean()
            loss = policy_loss - 0.01 * entropy.mean() + 0.25 * ((value - b_returns) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
