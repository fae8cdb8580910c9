# `make run` and `make test` do everything, set-up included.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# What `make run` does after the demo; `make run DEMO=` ends after its table.
DEMO ?= --keep
# Of the benches some, by name (BENCH="reads http"); all but the longest when empty.
BENCH ?=
# What `make fuzz` tries, all of it when empty, and for how long.
FUZZ ?=
FUZZ_SECONDS ?= 60
# More arguments for `orchestrator up` and pytest.
UP ?=
PYTEST ?=

BIN := .venv/bin
PY := $(BIN)/python

.PHONY: help setup run up test test-faults soak fuzz histories lint proto bench bench-guard migrate sbom audit

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/synced ## Make .venv from uv.lock and fetch Temporal; the second time takes a second
	@$(PY) -m orchestrator.devstack.fetch

run: setup ## Run everything and the example journey on it, then keep serving (DEMO= to end after the table)
	@exec $(BIN)/orchestrator demo $(DEMO)

up: setup ## Run everything: Postgres, Temporal, server, workers (UP="--workers 4 …")
	@exec $(BIN)/orchestrator up $(UP)

test: setup ## Run the tests but those that kill processes (PYTEST="-k word" for some)
	@$(PY) -m orchestrator.devstack.fetch time-skipping
	$(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not faults" $(PYTEST) || [ $$? = 5 ] # 5: there are none such

test-faults: setup ## Run the tests that kill processes
	@$(PY) -m orchestrator.devstack.fetch time-skipping
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m faults $(PYTEST) || [ $$? = 5 ]

soak: setup ## The same, and what `test-faults` does in part whole
	@$(PY) -m orchestrator.devstack.fetch time-skipping
	ORCHESTRATOR_SOAK=1 $(PY) -m pytest -m faults $(PYTEST) || [ $$? = 5 ]

fuzz: setup ## Give what reads others' texts inputs that coverage leads to (FUZZ_SECONDS=60 each, FUZZ="predicate …")
	@scripts/uv.sh run --quiet --locked --isolated --group fuzz python -m tests.fuzzing.run --seconds $(FUZZ_SECONDS) $(FUZZ)

histories: setup ## Record what workers of this release write into Temporal's histories, for tests/replay
	@$(PY) -m pytest tests/replay -k today --record-histories

lint: .venv/synced ## Check style, types, layers, migrations, and that the generated files are those of the protos
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	mkdir -p build
	$(PY) scripts/generate_protos.py --image build/image.binpb
	$(BIN)/buf lint build/image.binpb
	$(BIN)/buf breaking build/image.binpb --against proto/baseline.binpb
	$(PY) scripts/generate_protos.py --check
	$(PY) scripts/lint_migrations.py

proto: .venv/synced ## Generate the stubs and the OpenAPI document from proto/
	@$(PY) scripts/generate_protos.py

bench: setup ## Measure beside bare alternatives; writes bench/latest.json and docs/performance.md (BENCH="reads http" for some)
	@$(PY) -m bench $(if $(BENCH),--only $(BENCH))

bench-guard: setup ## Measure again, and fail where a ratio has become worse than in bench/latest.json (BENCH=… for some)
	@$(PY) -m bench --guard $(if $(BENCH),--only $(BENCH))

migrate: .venv/synced ## Bring the database at DATABASE_URL to the newest schema
	@$(BIN)/orchestrator migrate

sbom: .venv/synced ## Write every package of uv.lock, and those of the image, as CycloneDX into build/
	@mkdir -p build
	scripts/uv.sh export --quiet --locked --all-groups --all-extras --format cyclonedx1.5 --output-file build/sbom.cdx.json
	scripts/uv.sh export --quiet --locked --no-dev --extra traces --format cyclonedx1.5 --output-file build/sbom-image.cdx.json

audit: .venv/synced ## Ask the package index for known faults of the packages in uv.lock (needs a network)
	@$(PY) scripts/audit.py

.venv/synced: pyproject.toml uv.lock scripts/setup.sh
	@scripts/setup.sh
	touch $@
