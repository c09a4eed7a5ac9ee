# Everything runs in a virtual environment (.venv) that is created on first use from exact, hashed versions, and created again
# when PYTHON names another version: `make test PYTHON=python3.13`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
STAMP := $(VENV)/.installed-$(VERSION)
SECONDS ?= 600
SEEDS ?= 2000

.DEFAULT_GOAL := help
.PHONY: help setup demo kafka test lint format soak simulate bench bench-kafka lock clean

help:
	@echo "make demo         20 seconds of live and final bars from random ticks, checked at the end"
	@echo "make kafka        a local Apache Kafka at 127.0.0.1:9092 until Ctrl-C; data in kafka-data (needs Java and Maven)"
	@echo "make test         lint, types, import contracts and all tests"
	@echo "make lint         ruff, mypy and import contracts only"
	@echo "make soak         long runs: killed processes, paused workers, dead brokers, endurance"
	@echo "make simulate     histories from seeds in simulated time (SEEDS=2000; SEED=7 replays one)"
	@echo "make format       sort imports and format the code"
	@echo "make bench        ticks per second beside Polars and DuckDB; the log; delays; memory for ten minutes (SECONDS=60: one)"
	@echo "make bench-kafka  Kafka to finals in Kafka beside Flink SQL and Quix Streams; delays (needs Java and Maven)"
	@echo "make lock         update constraints.txt from pyproject.toml"
	@echo "make clean        remove the virtual environment and caches"
	@echo "All take PYTHON=python3.12 to use another Python than python3."

setup: $(STAMP)

$(STAMP): constraints.txt pyproject.toml
	@test -n "$(VERSION)" || { echo "make: '$(PYTHON)' does not run here; name another Python with PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	$(BIN)/kandle demo

kafka: setup
	@$(BIN)/python -m tools.kafka

test: lint
	$(BIN)/pytest --numprocesses 3 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: setup
	$(BIN)/pytest -m soak -s tests/soak tests/kafka tests/brokers

simulate: setup
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

bench: setup
	$(BIN)/python benchmarks/backfill.py
	$(BIN)/python -m benchmarks.log
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.runtime replay
	$(BIN)/python -m benchmarks.runtime replay --keys 10000
	$(BIN)/python -m benchmarks.runtime delay
	$(BIN)/python -m benchmarks.runtime memory --seconds $(SECONDS)

bench-kafka: setup
	$(BIN)/python -m benchmarks.kafka_peers
	$(BIN)/python -m benchmarks.kafka_delay

lock: setup
	$(BIN)/python tools/lock.py

clean:
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
