"""Training with Stable-Baselines3: the algorithm, its environment, and every state an exact resume needs."""
