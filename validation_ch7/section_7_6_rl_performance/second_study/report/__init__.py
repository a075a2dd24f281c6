"""The report of the second study, made of what is kept in the repository and of nothing else."""
