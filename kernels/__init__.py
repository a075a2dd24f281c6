"""The trainer under the names of this checkout: `python -m kernels.rl_training.train_dqn`. Not installed."""
