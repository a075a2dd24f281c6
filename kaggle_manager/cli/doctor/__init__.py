"""`doctor`: everything a run depends on, looked at before it is needed."""
