# Every target does its own set-up in .venv, prints a line per step, and is quick the second time.
PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# cython-lint calls pycodestyle by name.
export PATH := $(BIN):$(PATH)

CYTHON := $(wildcard fastpath/*.p[yx][xd] fastpath/*/*.p[yx][xd] xds/*.p[yx][xd])
STUBBED := $(subst /,.,$(patsubst %.pyi,eastgate/%,$(wildcard fastpath/*.pyi fastpath/*/*.pyi xds/*.pyi)))
INSTALLED := $(VENV)/.installed
BUILT := $(VENV)/.built
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -P -m pytest -q
# What runs native code; the debug and sanitizer builds repeat these. A sanitizer cannot be loaded into Envoy.
NATIVE_TESTS := $(wildcard tests/fastpath tests/fuzz tests/xds tests/integration)
WITHOUT_ENVOY := --ignore=tests/integration/test_compare_envoy.py --ignore=tests/integration/test_explain_vs_envoy.py
OURS := not [envoy
MEMORY_TEST := through_a_slow_reader
# Looks at resident memory too, closer than a sanitizer that keeps what was freed allows.
RESIDENT_TEST := leave_no_tables_behind
# CPython leaks on purpose when it ends; its own allocator would hide what is written past an object.
SANITIZED := LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" PYTHONMALLOC=malloc UBSAN_OPTIONS=print_stacktrace=1 \
	ASAN_OPTIONS=detect_leaks=0
# What runs worker threads. Not chaos: its children are forked beside them, which ThreadSanitizer does not follow.
THREADED_TESTS := $(wildcard $(foreach test,engine journey closing workers splice connect_attempts outlier_workers endpoint_limit handshake_queue review soak,\
	tests/fastpath/loop/test_$(test).py))
THREAD_SANITIZED := LD_PRELOAD="$$($(CC) -print-file-name=libtsan.so)" TSAN_OPTIONS="exitcode=66 log_path=$(CURDIR)/build/tsan/report"

# $(call logged,name,command): output goes to build/name.log, and is shown when the command fails.
logged = @mkdir -p build; ( $(2) ) > build/$(1).log 2>&1 || { cat build/$(1).log; exit 1; }

# What a failed step has made of its target goes with it: venv without Debian's python3-venv leaves a Python without pip,
# which the next try would take for done.
.DELETE_ON_ERROR:

.PHONY: help dev demo test test-long test-envoy-long soak chaos fuzz fuzz-prepare fuzz-configurations nightly nightly-list \
	ci-asan check lint types stubs test-debug test-asan test-tsan build-debug build-asan build-tsan bench \
	bench-build bench-quick bench-peers bench-parts bench-table bench-faults bench-admin bench-answers bench-predict bench-pickers bench-sidecars bench-syscalls callgrind callgrind-renew wheel image clean lab-build lab-up lab-down lab-status lab-shell lab-test lab-test-long lab-matrix lab-churn lab-scale lab-cost kind-up kind-down kind-test \
	deploy-test docker-image wheel-test browser prometheus page-picture

help:
	@echo "make dev         environment in .venv, native modules built in place"
	@echo "make demo        two meshed clusters on loopback, failing over and back (DEMO_FLAGS=--stay keeps them up)"
	@echo "make test        check, then all tests, TESTS_AT_ONCE=3"
	@echo "make test-envoy-long random configurations beside Envoy, ENVOY_RUNS=10 times 200 with 2000 connections each"
	@echo "make test-long   what those tests do of which CI has few: 20,000 handshakes, 500 listeners of random chains and all recorded sidecars beside Envoy"
	@echo "make browser     Debian's chromium, for the tests of the page (root)"
	@echo "make prometheus  Debian's prometheus in build/, for the tests of dashboards and alerts"
	@echo "make check       the static part: ruff, cython-lint, mypy, stubtest"
	@echo "make test-debug  native tests against a build with bounds checks and assertions"
	@echo "make test-asan   the same with AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make test-tsan   tests with worker threads under ThreadSanitizer"
	@echo "make fuzz        coverage-guided fuzzing of what reads foreign bytes, FUZZ_S=30 seconds each target (FUZZ='TARGET...')"
	@echo "make fuzz-configurations what no control plane should send, beside a route that must serve; part of make fuzz"
	@echo "make soak        ten minutes of everything at once under AddressSanitizer (SOAK_S=seconds for each of six cases)"
	@echo "make chaos       everything that goes wrong at once under AddressSanitizer (CHAOS_S=seconds for each of three cases)"
	@echo "make nightly     what CI has no time for, in parts of 40 minutes at most (nightly-list; PARTS='soak lab')"
	@echo "make bench       benchmarks of the parts (bench-parts), then of the whole proxy (bench-peers)"
	@echo "make bench-peers the whole proxy beside Envoy, HAProxy, nginx (what is installed); bench-quick: under two minutes"
	@echo "make bench-faults round trips of open connections while descriptors run out, peers vanish, the control thread stalls"
	@echo "make bench-admin round trips of open connections while hostile clients are at admin, beside Envoy"
	@echo "make bench-answers how long admin takes to answer scrapes and pilot-agent, beside Envoy, also with full workers"
	@echo "make bench-predict [SERVICES=5000] CPU and memory of mesh endpoints and mesh diff, by size of the mesh and kind of change"
	@echo "make bench-sidecars pairs of sidecars with mesh mTLS beside pairs of Envoy: CPU, latency, memory"
	@echo "make callgrind   instructions of the hot functions; fails when one takes 5 % more than is kept (callgrind-renew keeps them)"
	@echo "make bench-syscalls system calls of a connection by proxy; bench-table: results into README.md and docs/"
	@echo "make page-picture  docs/page.png, taken anew of a running gateway (look at it)"
	@echo "make settings-table  settings, as they are declared, into docs/run-a-gateway.md"
	@echo "make wheel       sdist, and the wheel built from it, in dist/"
	@echo "make lab-up      two real Kubernetes clusters with Istio, the gateways eastgate (root; lab-down, lab-status, lab-shell)"
	@echo "make lab-test    the tests against them; builds and starts what is missing (docs/lab.md)"
	@echo "make lab-test-long each fault of istiod for a minute, under ten thousand connections; ten minutes of rotations (LONG='FILE...')"
	@echo "make lab-matrix  the story in every mixture of eastgate and stock sidecars and gateways"
	@echo "make kind-test   deploy/kind with real kind, made here: gateways and sidecars of each sort (root; kind-up, kind-down)"
	@echo "make lab-churn   endpoints that change all the time, eastgate beside Envoy (CHURN='SECONDS SERVICES ENDPOINTS')"
	@echo "make lab-scale   what so many gateways cost one istiod (SCALE='10 100 1000')"
	@echo "make lab-cost    what a sidecar takes in a pod, eastgate beside stock: CPU, memory, time until it is ready (COST='--rounds 5')"
	@echo "make image       image of the gateway in dist/, without an engine; make docker-image: with one, of deploy/Dockerfile"
	@echo "make deploy-test what Helm chart, Kustomize overlays and scripts of deploy/ come to"
	@echo "make clean       remove what was built; the environment stays"

dev: $(BUILT)
	@echo "== $(VENV) is up to date"

demo: dev
	@echo "== demo"
	@$(BIN)/eastgate demo $(DEMO_FLAGS)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("eastgate: needs Python 3.11 or later, and $(PYTHON) is " + sys.version.split()[0])'
	@echo "== virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# What is missing to compile is said before pip wraps it in fifty lines. An editable install compiles in a temporary
# folder whatever it is given, so it is given the smallest module; all of them are built in the next step, where what
# did not change is kept.
$(INSTALLED): $(BIN)/python pyproject.toml setup.py
	@echo "== compiler"
	@$(PIP) install --upgrade "setuptools>=77" wheel "Cython>=3.1,<4"
	$(call logged,compiler,EASTGATE_ONLY=fastpath.reason $(BIN)/python setup.py --quiet build_ext --inplace)
	@echo "== dependencies"
	@EASTGATE_ONLY=fastpath.reason $(PIP) install --no-build-isolation --editable ".[dev]"
	@touch $@

$(BUILT): $(INSTALLED) $(CYTHON)
	@echo "== native modules"
	$(call logged,native,$(BIN)/python setup.py build_ext --inplace)
	@touch $@

check: lint types stubs

lint: dev
	@echo "== ruff, cython-lint"
	@ruff check --quiet .
	@ruff format --check --quiet . || { ruff format --check .; exit 1; }
	@cython-lint $(CYTHON)

types: dev
	@echo "== mypy"
	@mypy --package eastgate
	@mypy lab

stubs: dev
	@echo "== stubtest"
	@$(BIN)/python -P -m mypy.stubtest --concise --mypy-config-file pyproject.toml \
		--allowlist tests/stubtest-allowlist.txt --ignore-unused-allowlist $(STUBBED)

# The page for people is looked at by a real browser. Who may not install one is told so, here and by the tests.
browser:
	@command -v chromium chromium-browser > /dev/null || { echo "== chromium"; mkdir -p build; \
		[ "$$(id -u)" = 0 ] && { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
		> build/browser.log 2>&1 || { echo "eastgate: no chromium, which the tests of the page need" \
		"(Debian, as root: apt-get install chromium; see build/browser.log)"; exit 1; }; }

# Dashboards and alerts are asked of a real one. Debian's package is unpacked, not installed: no service is started.
PROMETHEUS := build/prometheus/usr/bin/prometheus
prometheus:
	@command -v prometheus > /dev/null || [ -x $(PROMETHEUS) ] || { echo "== prometheus"; mkdir -p build/prometheus; \
		{ [ "$$(id -u)" != 0 ] || apt-get update -qq; cd build/prometheus && apt-get download -qq prometheus \
		&& dpkg-deb -x prometheus_*.deb . ; } > build/prometheus.log 2>&1 || { echo "eastgate: no prometheus, which the" \
		"tests of deploy/monitoring need (Debian: apt-get install prometheus; see build/prometheus.log)"; exit 1; }; }

# Most tests wait for others: three at once keep two CPUs busy. Those of one file follow each other.
TESTS_AT_ONCE ?= 3

test: check browser prometheus
	@echo "== tests, $(TESTS_AT_ONCE) at once"
	@$(PYTEST) $(if $(filter-out 1,$(TESTS_AT_ONCE)),--numprocesses=$(TESTS_AT_ONCE) --dist=loadfile --no-loadscope-reorder -p no:benchmark) \
		--ignore=tests/lab/real --ignore=tests/lab/kind

# Each run has a seed of its own, and prints it.
ENVOY_RUNS ?= 10

test-envoy-long: dev
	@echo "== $(ENVOY_RUNS) runs of random configurations beside Envoy"
	@for run in $$(seq $(ENVOY_RUNS)); do EASTGATE_CONFIGURATIONS=200 EASTGATE_CONNECTIONS=2000 \
		$(PYTEST) -s tests/envoy/test_random_configurations.py || exit 1; done

test-long: dev
	@echo "== 20,000 handshakes in floods; 500 listeners of random chains and all recorded sidecars beside Envoy"
	@EASTGATE_HANDSHAKES=20000 EASTGATE_LISTENERS=500 EASTGATE_RECORDED_CONNECTIONS=200 \
		$(PYTEST) --timeout=0 tests/fastpath/loop/test_handshake_queue.py tests/envoy/test_filter_chain_match.py \
		tests/integration/test_recorded_traffic.py

# Another build of the same modules lives in a copy of the tree, so that nobody mistakes one for the other.
build-debug build-asan build-tsan: build-%: dev
	@echo "== copy to build/$*"
	@mkdir -p build/$*
	@cd build/$* && rm -rf bench commands deploy fastpath insight mesh proxy tests trial xds
	@tar --exclude='./.*' --exclude=./build --exclude=./dist --exclude='*.so' --exclude=__pycache__ -cf - . | tar -xf - -C build/$*
	@echo "== native modules, $* build"
	$(call logged,native-$*,cd build/$* && EASTGATE_BUILD=$* $(BIN)/python setup.py build_ext --inplace)
	@cd build/$* && PYTHONPATH=build/tree $(if $(filter asan,$*),$(SANITIZED)) $(if $(filter tsan,$*),$(THREAD_SANITIZED)) $(BIN)/python -P -c \
		'from eastgate.fastpath.loop import engine; assert "build/tree" in engine.__file__, engine'

test-debug: build-debug
	@echo "== native tests, debug build"
	@cd build/debug && PYTHONPATH=$(CURDIR)/build/debug/build/tree $(PYTEST) $(WITHOUT_ENVOY) $(NATIVE_TESTS)

# The sanitizer keeps freed memory for a while, which a test of resident memory must not see.
ASAN_TESTS ?= $(NATIVE_TESTS)

test-asan: build-asan
	@echo "== native tests, asan build"
	@cd build/asan && PYTHONPATH=$(CURDIR)/build/asan/build/tree $(SANITIZED) \
		$(PYTEST) $(WITHOUT_ENVOY) -k "$(OURS) and not $(MEMORY_TEST) and not $(RESIDENT_TEST)" $(ASAN_TESTS)
	@cd build/asan && PYTHONPATH=$(CURDIR)/build/asan/build/tree $(SANITIZED):quarantine_size_mb=1 \
		$(PYTEST) -k "$(MEMORY_TEST)" tests/fastpath

# What CI has six minutes for: the whole data side and both native readers, which is all code that a compiler made, and
# of the integration tests those that drive them from a whole process in another way. The rest of NATIVE_TESTS is Python
# over the same modules; nightly runs it.
CI_ASAN_TESTS := tests/fastpath tests/fuzz tests/xds/test_wire.py tests/xds/test_assignment.py $(foreach test,\
	children_beside_grpc churn endpoint_limit faults original_dst,tests/integration/test_$(test).py)
CI_CHAOS_S := 7

ci-asan: build-asan
	@echo "== the data side and the readers, asan build, $(CI_CHAOS_S) s for each case of chaos"
	@cd build/asan && EASTGATE_CHAOS_S=$(CI_CHAOS_S) PYTHONPATH=$(CURDIR)/build/asan/build/tree $(SANITIZED) \
		$(PYTEST) --durations=15 -k "$(OURS) and not $(MEMORY_TEST) and not $(RESIDENT_TEST)" $(CI_ASAN_TESTS)

# A report makes the exit code 66; pytest would keep it to itself, so it goes to a file and is shown at the end.
test-tsan: build-tsan
	@echo "== tests with worker threads, tsan build"
	@rm -f build/tsan/report.*
	@cd build/tsan && PYTHONPATH=$(CURDIR)/build/tsan/build/tree $(THREAD_SANITIZED) \
		$(PYTEST) -k "not $(MEMORY_TEST) and not $(RESIDENT_TEST)" $(THREADED_TESTS) \
		|| { code=$$?; cat report.* 2> /dev/null; exit $$code; }

$(VENV)/.fuzz: $(INSTALLED)
	@echo "== atheris"
	@$(PIP) install "atheris>=3"
	@touch $@

# FUZZ_FLAGS="--install" gets clang from Debian; "--keep" merges what was found into tests/fuzz/corpus.
FUZZ_S ?= 30

# Compiler and modules, so that a run waits for neither.
fuzz-prepare: dev $(VENV)/.fuzz
	@echo "== what fuzzing needs"
	@$(BIN)/python -m tests.fuzz.run --prepare $(FUZZ_FLAGS)

fuzz: dev $(VENV)/.fuzz
	@echo "== guided fuzzing, $(FUZZ_S) s each target"
	@$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_S) $(FUZZ_FLAGS) $(FUZZ)
	@$(if $(FUZZ),,$(MAKE) --no-print-directory fuzz-configurations)

# A run begins with a seed of its own, and prints it; a failure names the one to repeat with FUZZ_SEED=N FUZZ_S=0.
fuzz-configurations: dev
	@echo "== whole configurations at random, $(FUZZ_S) s"
	@EASTGATE_FUZZ_S=$(FUZZ_S) $(if $(FUZZ_SEED),EASTGATE_FUZZ_SEED=$(FUZZ_SEED)) $(PYTEST) -s tests/fuzz/test_configurations.py

# Six cases; ten minutes together unless told otherwise.
SOAK_S ?= 100

soak: build-asan
	@echo "== six soaks of $(SOAK_S) s, asan build"
	@cd build/asan && EASTGATE_SOAK_S=$(SOAK_S) PYTHONPATH=$(CURDIR)/build/asan/build/tree $(SANITIZED) \
		$(PYTEST) --timeout=0 tests/fastpath/loop/test_soak.py

CHAOS_S ?= 60

chaos: build-asan
	@echo "== three cases of chaos of $(CHAOS_S) s, asan build"
	@cd build/asan && EASTGATE_CHAOS_S=$(CHAOS_S) PYTHONPATH=$(CURDIR)/build/asan/build/tree $(SANITIZED) \
		$(PYTEST) -s --timeout=0 tests/fastpath/loop/test_chaos.py

# PARTS="soak lab" for some; make nightly-list says what there is.
nightly: dev
	@$(BIN)/python -m tests.nightly $(NIGHTLY_FLAGS) $(PARTS)
	@$(MAKE) --no-print-directory bench-table

nightly-list: dev
	@$(BIN)/python -m tests.nightly --list

# All of it; half an hour on two CPUs.
bench: bench-parts bench-peers

bench-parts: dev
	@echo "== benchmarks (build/bench.json holds what the table leaves out)"
	@mkdir -p build
	@$(PYTEST) --timeout=0 bench -o python_files='bench_*.py' --benchmark-only --benchmark-group-by=group \
		--benchmark-columns=median,iqr,rounds --benchmark-json=build/bench.json

build/load: bench/load.c
build/floor: bench/peers/floor.c
build/floor_uring: bench/peers/floor_uring.c
build/floor_uring: LDLIBS = -luring
build/load build/floor build/floor_uring:
	@echo "== $@"
	@mkdir -p build
	@$(CC) -std=gnu11 -O2 -Wall -Wextra -Wconversion -o $@ $< $(LDLIBS)

HAS_URING = $(shell echo '\#include <liburing.h>' | $(CC) -E - >/dev/null 2>&1 && echo build/floor_uring)

bench-build: build/load build/floor $(HAS_URING)

bench-pickers: dev
	@$(BIN)/python -m bench.peers.pickers

bench-quick: dev bench-build
	@$(BIN)/python -m bench.compare --quick --output build/compare-quick.json
	@$(BIN)/python -m bench.table build/compare-quick.json

# BENCH_FLAGS="--rounds 1" for a look; what is committed has them all.
bench-peers: dev bench-build bench-pickers
	@$(BIN)/python -m bench.compare $(BENCH_FLAGS) --output bench/results/compare.json
	@$(BIN)/python -m bench.plot
	@$(MAKE) --no-print-directory bench-table

bench-faults: dev bench-build
	@$(BIN)/python -m bench.faults
	@$(MAKE) --no-print-directory bench-table

bench-admin: dev bench-build
	@$(BIN)/python -m bench.admin $(BENCH_FLAGS)
	@$(MAKE) --no-print-directory bench-table

bench-answers: dev bench-build
	@$(BIN)/python -m bench.answers $(BENCH_FLAGS)
	@$(MAKE) --no-print-directory bench-table

# Counts, not times: renew them in the commit that changes them, with the tools that the file names.
callgrind: dev
	@echo "== instructions of the hot functions, beside bench/results/callgrind.json"
	@$(BIN)/python -m bench.callgrind

callgrind-renew: dev
	@$(BIN)/python -m bench.callgrind --renew
	@$(MAKE) --no-print-directory bench-table

bench-predict: dev
	@$(BIN)/python -m bench.predict $(SERVICES)

bench-sidecars: dev bench-build
	@$(BIN)/python -m bench.sidecars $(BENCH_FLAGS)
	@$(MAKE) --no-print-directory bench-table

bench-syscalls: dev bench-build
	@$(BIN)/python -m bench.syscalls
	@$(MAKE) --no-print-directory bench-table

bench-table: dev
	@$(BIN)/python -m bench.documents

page-picture: dev browser
	@$(BIN)/python -m tests.support.page_picture

settings-table: dev
	@$(BIN)/python -m tests.support.settings_table

# For another machine: with a tag and an OpenSSL of its own. PYTHONS="python3.11 python3.12 python3.13" for a release.
PYTHONS ?= $(PYTHON)

wheel: dev
	@echo "== sdist, and wheels from it"
	@rm -rf dist
	@release/wheels.sh dist $(PYTHONS)

# As root, with mmdebstrap; release/bare-root.sh says how other Pythons are tried.
wheel-test:
	@echo "== the wheel on a Debian without compiler and network"
	@for wheel in dist/eastgate-*.whl; do release/bare-root.sh "$$wheel" || exit 1; done

LAB := $(BIN)/python -m lab

# With helm, kubectl and shellcheck, which make lab-build brings; make test skips what needs one that is not there.
deploy-test: dev
	@echo "== what deploy/ renders"
	@EASTGATE_DEPLOY_TOOLS=required $(PYTEST) tests/deploy

# DOCKER=podman or "buildah" for another engine; TARGET=proxyv2 for the sidecar's. `make image` needs no engine.
DOCKER ?= docker
TARGET ?= gateway
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

docker-image:
	@command -v $(firstword $(DOCKER)) >/dev/null || { echo "eastgate: $(DOCKER) is not installed; make image needs none" >&2; exit 1; }
	@echo "== image $(TARGET) of deploy/Dockerfile"
	@$(DOCKER) build -f deploy/Dockerfile --target $(TARGET) $(DOCKER_FLAGS) \
		-t $(if $(filter gateway,$(TARGET)),eastgate,eastgate/$(TARGET)):$(VERSION) .

image: dev
	@echo "== image of eastgate"
	@mkdir -p dist
	@$(LAB) image dist/eastgate-image.tar
	@ls dist/eastgate-image.tar

lab-build lab-up lab-down lab-status: lab-%: dev
	@$(LAB) $*

# CLUSTER=anthos for the other one.
lab-shell: dev
	@$(LAB) shell $(or $(CLUSTER),gke)

# Bringing a lab up takes as long as it takes: the time limit is one of each test.
IN_LAB := $(PYTEST) -s -o timeout_func_only=true

# Stops at the first failure: what is left of the lab after one says little.
lab-test: dev
	@echo "== tests against real istiods"
	@$(IN_LAB) -x tests/lab/real

# What takes longer than CI has time for: one minute of each fault of istiod, ten thousand connections meanwhile; ten
# minutes of rotating certificates. LONG="FILE..." for some.
LONG ?= same_as_istiod istiod_faults sidecar_start sidecar_life sidecar_embedded gateway_injected

lab-test-long: dev
	@echo "== what takes long in the lab: $(LONG)"
	@EASTGATE_LAB_LONG=1 $(IN_LAB) $(LONG:%=tests/lab/real/test_%.py)

# Each mixture of eastgate and stock proxies, one after the other.
lab-matrix: dev
	@echo "== the story in every mixture of proxies"
	@EASTGATE_LAB_MATRIX=1 $(IN_LAB) tests/lab/real/test_matrix.py

# Real kind, in an engine of its own: gateways and sidecars of each sort.
kind-up kind-down: kind-%: dev
	@$(BIN)/python -m lab.kind $*

kind-test: dev
	@echo "== deploy/kind with real kind"
	@$(IN_LAB) -x tests/lab/kind

# In a lab that is up; started otherwise, and left up.
CHURN ?= 120 1000 20

lab-churn: lab-up
	@$(LAB) churn $(CHURN)

SCALE ?= 10 100 1000

lab-scale: lab-up
	@$(LAB) scale $(SCALE)

# In a lab that is up, too.
lab-cost: lab-up
	@$(BIN)/python -m bench.pods $(COST)
	@$(MAKE) --no-print-directory bench-table

clean:
	@echo "== remove what was built"
	@rm -rf build dist eastgate.egg-info .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@rm -f fastpath/*.so fastpath/*/*.so xds/*.so $(BUILT)
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
