# The usual tasks, in the environment that scripts/bootstrap.py sets up the first time: .venv in this folder.
PYTHON ?= python3
RUN = $(PYTHON) scripts/bootstrap.py

.PHONY: test fast lint site format type

test: # everything, some ten minutes
	$(RUN) -m pytest

fast: # without what takes seconds or starts a training
	$(RUN) -m pytest -m "not slow"

lint:
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

site: # the documentation, into site/
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

format:
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

type:
	$(RUN) -m mypy
