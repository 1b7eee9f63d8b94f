# leti: `make demo` and `make test` are all a fresh machine needs.
.DEFAULT_GOAL := help
.PHONY: help demo test soak interop check format bench manifests lock clean
PYTHON ?= python3
STORE ?= leti-store
SANDBOX ?= gvisor
BIN := .venv/bin
JOBS ?= 2
# One thread per worker: two workers with as many threads as cores each would wait for one another. And bytecode is
# kept, whatever the environment says: without it every worker and every stage compiles all that it imports again.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
# These tests kill real processes and wait for others: on a crowded CI machine one can lose a race that the code did
# not. There, what failed is tried once more, alone; what fails twice has failed. Elsewhere nothing is tried twice.
AGAIN = $(if $(CI),|| { echo "once more and alone - what failed:"; $(PYTEST) -q --lf --lfnf none -m $(1); },)
QUICK := "not slow and not soak and not interop"
SLOW := "slow and not soak and not interop"

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

demo: .venv/ready ## install everything, then two real iterations on this machine (under 10 minutes on 2 cores)
	@sh scripts/runsc.sh $(SANDBOX)
	$(BIN)/leti-ctl submit --preset quickstart --iterations 2 --store $(STORE) --set execute.sandbox=$(SANDBOX)

test: .venv/ready ## every test that needs neither GPU nor cluster (under 15 minutes on 2 cores)
	@sh scripts/runsc.sh gvisor
	@sh scripts/chromium.sh
	$(PYTEST) -q -n $(JOBS) --dist worksteal -m $(QUICK) $(call AGAIN,$(QUICK))
	$(PYTEST) -q -n $(JOBS) --dist loadfile -m $(SLOW) $(call AGAIN,$(SLOW))

soak: .venv/ready ## whole runs under faults, a fake cluster among them (about 20 minutes on 2 cores)
	@sh scripts/runsc.sh gvisor
	$(PYTEST) -q -n $(JOBS) --hypothesis-profile search -m "hypothesis and not slow and not soak"
	$(PYTEST) -q -n $(JOBS) --dist loadfile --timeout 1200 -m soak $(call AGAIN,soak --timeout 1200)

interop: .venv/ready ## stores of others: Ceph, if installed, or LETI_TEST_STORE=s3://bucket/prefix?... (about 20 minutes)
	$(PYTEST) -q --timeout 1200 -m interop tests/stages/contract tests/interop

check: .venv/ready ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/ready ## rewrite the sources in house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready ## the figures in benchmarks/, measured here
	@for each in benchmarks/*/__main__.py; do \
	  name=$$(basename $$(dirname $$each)); echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

manifests: .venv/ready ## render the WorkflowTemplates of every profile into manifests/workflows
	$(BIN)/leti-ctl render --out manifests/workflows

lock: .venv/ready ## write the versions of this environment to constraints.txt
	sh scripts/lock.sh

BAKE := docker buildx bake -f images/docker-bake.hcl -f images/bases.lock.json
images: export REVISION = $(shell git rev-parse HEAD)
images: export CREATED = $(shell git log -1 --format=%cI)
images: ## build the container images for this machine; REGISTRY=host/path/ PUSH=1 pushes them for all platforms
	$(BAKE) $(if $(PUSH),--push --metadata-file images.json,--load --provenance=false --sbom=false --set '*.platform=local')

images-lock: ## look up the digests of the images' bases, and the hash of torch's CPU build
	$(PYTHON) images/lock.py

images-requirements: ## rewrite images/requirements from constraints.txt, with hashes
	sh images/requirements.sh

clean: ## remove the environment and caches, never a store
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/ready: pyproject.toml constraints.txt scripts/venv.sh
	@sh scripts/venv.sh $(PYTHON)
	@touch $@
