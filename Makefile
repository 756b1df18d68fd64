# make demo | demo-docker | digits-wheels | test | test-lowest | check | docs | bench | bench-venv | clean     (PYTHON=python3.12 make … takes another interpreter)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready
LOWEST_VENV := .venv-lowest
LOWEST_READY := $(LOWEST_VENV)/.ready
LOGS := .demo/logs
CORAL_HOME ?= $(CURDIR)/.demo/home
ROOMS := coralord_lightning/spec/*,coralord_lightning/sources/*,coralord_lightning/store/*,coralord_lightning/builder/*

.PHONY: demo demo-docker digits-wheels test test-lowest check docs bench bench-venv clean

demo: $(READY)
	CORAL_HOME="$(CORAL_HOME)" $(BIN)/python examples/digits/train.py --logs $(LOGS)
	@printf '\n== the same once more: nothing is rebuilt ==\n\n'
	CORAL_HOME="$(CORAL_HOME)" $(BIN)/python examples/digits/train.py --logs $(LOGS)

demo-docker: $(READY)
	CORAL_HOME="$(CORAL_HOME)" $(BIN)/python examples/digits/train.py examples/digits/digits-docker.yaml --logs $(LOGS)
	@printf '\n== the same once more: nothing is rebuilt, no container is started ==\n\n'
	CORAL_HOME="$(CORAL_HOME)" $(BIN)/python examples/digits/train.py examples/digits/digits-docker.yaml --logs $(LOGS)

# The wheels of examples/digits/Dockerfile, for containers that reach no package index.
digits-wheels: $(READY)
	$(BIN)/python -m pip download --no-deps --only-binary :all: --python-version 3.11 \
		--platform manylinux_2_28_$$(uname -m | sed s/arm64/aarch64/) \
		-d examples/digits/wheels -r examples/digits/requirements.txt

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=
	$(BIN)/python -m coverage report --include='$(ROOMS)' --fail-under=90

# At the oldest versions that pyproject.toml admits; what runs in a container does not depend on them.
test-lowest: $(LOWEST_READY)
	$(LOWEST_VENV)/bin/python -m pytest -n auto --dist loadfile -m 'not docker'

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, for `site/index.html`; a warning is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build --strict

bench: $(READY) $(BENCH_READY)
	$(BIN)/python benchmarks/hit.py
	$(BIN)/python benchmarks/extract.py
	$(BIN)/python benchmarks/remote.py
	$(BIN)/python benchmarks/incremental.py
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/memory.py
	$(BENCH_VENV)/bin/python benchmarks/stream

# The loader's peers have an environment of their own, beside the same torch and this package.
bench-venv: $(BENCH_READY)

clean:
	rm -rf .demo .coverage .coverage.* htmlcov build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache lightning_logs
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -not -path './$(BENCH_VENV)/*' \
		-not -path './$(LOWEST_VENV)/*' -prune -exec rm -rf {} +

# torch comes first and alone, so that nothing else brings another one.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11, or not there; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(READY)

$(BENCH_READY): pyproject.toml constraints.txt benchmarks/requirements.txt
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet -c constraints.txt torch
	$(BENCH_VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[hf,s3]'
	$(BENCH_VENV)/bin/python -m pip install --quiet --no-deps -r benchmarks/requirements.txt
	touch $(BENCH_READY)

$(LOWEST_READY): pyproject.toml constraints-lowest.txt
	test -x $(LOWEST_VENV)/bin/python || $(PYTHON) -m venv $(LOWEST_VENV)
	$(LOWEST_VENV)/bin/python -m pip install --quiet -c constraints-lowest.txt torch
	$(LOWEST_VENV)/bin/python -m pip install --quiet -c constraints-lowest.txt -e '.[dev]'
	touch $(LOWEST_READY)
