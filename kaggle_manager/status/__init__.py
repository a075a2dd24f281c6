"""Where runs stand: reads the journal and the training trees, writes neither. Below `orchestrator` and `dashboard`."""
