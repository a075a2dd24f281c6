"""Sessions as jobs of a Slurm cluster: commands here or through ssh, and folders on the cluster's disk."""
