"""Any script as a training: started, watched, and its checkpoints kept; see docs/scripts.md."""
