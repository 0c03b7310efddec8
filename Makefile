# make setup       system packages (only missing ones), .venv, build and install ray into it
# make quickstart  setup, then the example
# make test        setup, then the C++ tests (ctest) and the Python tests (pytest)
# make lint        ruff and clang-format, changing nothing;  make format changes
# make bench       C++ benchmarks (bench/cpp), built in build/bench, then all that bench/RESULTS.md shows
# make asan|tsan   C++ tests under the sanitizers, in build/asan and build/tsan
# make soak        long runs: thousands of seeds of the simulation (SOAK_SEEDS), tests/chaos with
#                  figures, 1,000,000 tasks and 10,000 actors without growth (tests/soak; SOAK_ARGS)
# make gpu-check   the accelerator layer alone, built in build/accelerators; needs no setup
# make thread-safety   Clang's thread-safety analysis (installs clang-14 when missing)

PYTHON ?= python3
JOBS ?= $(shell nproc)
PYTEST_ARGS ?=
CTEST_ARGS ?=
SOAK_ARGS ?=
SOAK_SEEDS ?= 5000

VENV_PYTHON := .venv/bin/python
CLANG_FORMAT ?= clang-format-14
RUFF_PATHS := $(wildcard python tests bench examples scripts)
CXX_FILES = $(shell find $(wildcard cpp tests/cpp tests/sim tests/fuzz bench/cpp cmake) -name '*.h' -o -name '*.cc')

export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)

.PHONY: setup quickstart build-tests ctest pytest test soak lint format bench asan tsan gpu-check thread-safety clean

setup:
	@$(PYTHON) scripts/setup_env.py

quickstart: setup
	$(VENV_PYTHON) examples/quickstart.py

build-tests: setup
	cmake --build build/release

ctest: build-tests
	ctest --test-dir build/release --output-on-failure --no-tests=ignore -j $(JOBS) $(CTEST_ARGS)

pytest: setup
	$(VENV_PYTHON) -m pytest $(PYTEST_ARGS)

test: ctest
	$(VENV_PYTHON) -m pytest $(PYTEST_ARGS)

soak: build-tests
	MANTA_SIM_SEEDS=$(SOAK_SEEDS) build/release/tests/sim/test_sim
	MANTA_SIM_SEEDS=$(SOAK_SEEDS) MANTA_SIM_NODES=1000 MANTA_SIM_TASKS=100000 \
	  build/release/tests/sim/test_cluster_sim
	RAY_TEST_SOAK=1 $(VENV_PYTHON) -m pytest tests/chaos -s --timeout=600 $(PYTEST_ARGS)
	$(VENV_PYTHON) tests/soak/soak.py $(SOAK_ARGS)

lint: setup
	.venv/bin/ruff check $(RUFF_PATHS)
	.venv/bin/ruff format --check $(RUFF_PATHS)
	@echo "$(CLANG_FORMAT) --dry-run -Werror ($(words $(CXX_FILES)) files)"
	@$(CLANG_FORMAT) --dry-run -Werror $(CXX_FILES)

format: setup
	.venv/bin/ruff check --fix-only --quiet $(RUFF_PATHS)
	.venv/bin/ruff format $(RUFF_PATHS)
	$(CLANG_FORMAT) -i $(CXX_FILES)

bench: setup
	cmake --preset bench
	cmake --build --preset bench
	@for binary in $$(find build/bench/bench/cpp -maxdepth 1 -type f -name 'bench_*' -perm -u+x); do \
	  echo "== $$binary"; $$binary $(BENCH_ARGS) || exit 1; \
	done
	$(VENV_PYTHON) bench/compare.py --write
	$(VENV_PYTHON) bench/peers.py --write
	$(VENV_PYTHON) bench/tail_latency.py --write
	$(VENV_PYTHON) bench/scale.py --write

asan tsan:
	@$(PYTHON) scripts/system_packages.py
	cmake --preset $@
	cmake --build --preset $@
	ctest --test-dir build/$@ --output-on-failure --no-tests=ignore $(CTEST_ARGS)

gpu-check:
	@$(PYTHON) scripts/gpu_check.py

thread-safety:
	@$(PYTHON) scripts/system_packages.py
	@$(PYTHON) scripts/system_packages.py --group analysis
	cmake --preset $@
	cmake --build --preset $@

clean:
	rm -rf build .venv dist .pytest_cache .ruff_cache
