"""Train a Stable-Baselines3 agent to N timesteps over any number of Kaggle sessions, with nothing lost."""

__version__ = "0.1.0"
