# Every target does all of its own set-up: a fresh machine needs git, python3 (3.11 or newer) and make.
#   make demo    the main job: a directory tree goes from behind one NAT to behind another
#   make test    the tests         make check   format, lint, types, import arrows, then the tests
#   make matrix  the full matrix of NATs, with pictures
#   make reach   who gets through and how fast, 20 tries a pair; make reach-all does it for all pairs of all: hours
#   make bench   speed, beside a raw copy, TLS, magic-wormhole, rsync, scp and tar in the same run
#   make bench-server  what one meeting point holds and carries, the relay beside socat
#   make soak    an hour of the three below; their short forms are tests
#   make soak-server   half an hour of pairs while nodes are killed and Redis comes back empty
#   make soak-hostile  ten minutes of hostile clients while honest ones are served
#   make soak-transfer  kill -9 and power cuts, by the hundred and the thousand
#   make lock    write requirements/*.txt anew from pyproject.toml (needs uv)
SHELL := /bin/sh
BIN := .venv/bin
STAMPS := .venv/.stamps
# Where this is set, each of the many commands that tests and benchmarks start would compile midair first.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup setup-test system system-test system-bench demo test check lint matrix reach reach-all bench bench-server soak soak-server soak-hostile soak-transfer lock clean
.DEFAULT_GOAL := test

setup: $(STAMPS)/run
setup-test: $(STAMPS)/test

demo: system setup
	@$(BIN)/midair demo

test: system-test setup-test
	$(BIN)/python -m pytest

check: lint test

lint: setup-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# All pairs of all NATs, at two skews, by the plain puncher and by midair: results and pictures in build/matrix.
matrix: system-test setup-test
	$(BIN)/midair lab matrix --full --output build/matrix/plain
	$(BIN)/midair lab matrix --full --contender midair --simulated --skew 0 --output build/matrix/midair

# Midair with 20 tries a pair, simulated and on the wire; how long it takes; and whole populations.
reach: system-test setup-test
	$(BIN)/python benchmarks/matrix.py --output benchmarks/results/matrix.json
	$(BIN)/python benchmarks/reach.py --output benchmarks/results/reach.json
	$(BIN)/midair lab population --pairs 2000 --seed 1 --json > benchmarks/results/population.json

reach-all: system-test setup-test
	mkdir -p build
	$(BIN)/python benchmarks/matrix.py --full --wire all --output build/matrix.json

bench: system-bench setup-test
	$(BIN)/python benchmarks/transfer.py --output benchmarks/results/transfer.json --page docs/reference/speed.md
	$(BIN)/python benchmarks/transfer_links.py --output benchmarks/results/transfer_links.json --page docs/reference/links.md
	$(BIN)/python benchmarks/udp_tools.py --output benchmarks/results/udp_tools.json --page docs/reference/udp-tools.md

bench-server: system-bench setup-test
	$(BIN)/python benchmarks/server.py --output benchmarks/results/server.json
	$(BIN)/python benchmarks/scale.py --page docs/explanation/scale.md

soak: soak-server soak-hostile soak-transfer

soak-server: system-bench setup-test
	$(BIN)/python benchmarks/server_soak.py --minutes 30

soak-hostile: setup-test
	$(BIN)/python tests/server/siege.py --minutes 10

soak-transfer: setup-test
	$(BIN)/python tests/transfer/power_cuts.py --states 6000
	$(BIN)/python tests/transfer/kills.py --kills 200

# The system packages the lab needs, where we may install them; the lab itself says what is missing elsewhere.
system:
	@sh scripts/system-packages.sh

# And what its tests run in it: real programs of others.
system-test:
	@sh scripts/system-packages.sh test

# What speed is compared with.
system-bench:
	@sh scripts/system-packages.sh bench

$(STAMPS)/venv: scripts/make-venv.sh
	@sh scripts/make-venv.sh .venv
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: $(STAMPS)/venv requirements/run.txt pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(STAMPS)/test: $(STAMPS)/run requirements/test.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/test.txt
	@touch $@

lock:
	uv pip compile --universal --generate-hashes --no-header --python-version 3.11 \
	  --group build pyproject.toml -o requirements/run.txt
	uv pip compile --universal --generate-hashes --no-header --python-version 3.11 \
	  --group build --group test pyproject.toml -o requirements/test.txt

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
