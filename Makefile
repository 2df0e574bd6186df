# make test          lint and tests, in JOBS processes at a time (2)
# make test-backbones  the tests that need timm or transformers, each kept out of the environment
#                    of the others
# make docs          the documentation site in build/site, warnings as errors
# make demo          train supervised-only and ESL+ on synthetic images, one seed
# make demo-seeds    the same with five seeds
# make test-stacks   smoke test on mmcv-lite, full mmcv (compiled here) and the OneDL forks
# make drill-resume  stop and resume runs at many points, compare them bit for bit; some minutes
# make drill-crash   kill a training run 120 times and see that nothing is lost
# make drill-ranks   two and four processes for fifty steps: do they agree, and with one process
# make bench         measure the speed, write docs/performance.md's tables; BENCH_ARGS=--quick: less
# make gpu          prove and measure everything on one GPU, in less than nine minutes; what is found
#                    goes to GPU_OUT, and the same command goes on. GPU_PYTHON: the environment's
# make gpu-study    every method on CamVid at full size; GPU_ARGS='--minutes 25' stops in time
# make drill-communication  what a step sends to other ranks, in calls and bytes; some minutes
# make drill-scale   start-up time and memory with a million unlabelled images; K-means of 81 classes
# make drill-growth  memory and gathered tensors of every method at 150 classes and 64 ranks
# make drill-shards  start-up, batches and resume with a hundred million images in tar shards
# make mutants      put faults into the code, one at a time, and list those that no test notices;
#                    a night for all, MUTANTS_ARGS='--sample 40 --seed 0' for some; it goes on where
#                    it stopped
# make lint, make clean
#
# Each makes the environment it needs, in .venv. On a machine without a GPU this saves several GB:
#   make test PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu'

PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?=
JOBS ?= 2
DRILL_ARGS ?=
BENCH_ARGS ?=
MUTANTS_ARGS ?=
GPU_ARGS ?=
GPU_OUT ?= work_dirs/gpu
GPU_PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
REQUIREMENTS := $(addprefix requirements/,cpu.txt dev.txt docs.txt)

.PHONY: test test-backbones docs demo demo-seeds test-stacks drill-resume drill-crash drill-ranks \
	drill-communication drill-scale drill-growth drill-shards bench gpu gpu-study mutants lint clean

# in the order of the folders, at whose end no file takes long: xdist would begin with the files of
# many tests and end with those of one, a long one, when the other processes have nothing left
test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

test-backbones: $(STAMP)
	for name in timm transformers; do \
		$(BIN)/python -m pip install -q --no-deps --upgrade --target $(VENV)/$$name \
			-r requirements/$$name.txt || exit; done
	PYTHONPATH=$(CURDIR)/$(VENV)/timm $(BIN)/python -m pytest -n $(JOBS) --dist loadfile \
		-k "test_backbones or test_networks or test_timm_vit or lite0 or dinov or xception \
			or test_transformers_are_rehearsed" \
		tests/test_backbones.py tests/test_networks.py tests/models/test_timm_vit.py \
		tests/test_configs.py tests/test_gpu_run.py
	PYTHONPATH=$(CURDIR)/$(VENV)/transformers $(BIN)/python -m pytest tests/test_backbones.py

lint: $(STAMP)
	$(BIN)/ruff check .

# without --quiet, which keeps warnings from being counted, strict or not
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

demo: $(STAMP)
	$(BIN)/python tools/demo/run.py

demo-seeds: $(STAMP)
	$(BIN)/python tools/demo/run.py --seeds 0 1 2 3 4

test-stacks:
	PYTHON='$(PYTHON)' PIP_ARGS='$(PIP_ARGS)' dev/test_stacks.sh

drill-resume: $(STAMP)
	$(BIN)/python dev/drills/resume.py $(DRILL_ARGS)

drill-crash: $(STAMP)
	$(BIN)/python dev/drills/crash.py $(DRILL_ARGS)

drill-ranks: $(STAMP)
	$(BIN)/python dev/drills/ranks.py $(DRILL_ARGS)

bench: $(STAMP)
	$(BIN)/python dev/benchmark.py $(BENCH_ARGS)

# in the environment that is there, not in .venv: the GPU's torch is another one
gpu:
	$(GPU_PYTHON) dev/gpu/run.py --out $(GPU_OUT) $(GPU_ARGS)

gpu-study:
	$(GPU_PYTHON) dev/gpu/study.py $(GPU_ARGS)

drill-communication: $(STAMP)
	$(BIN)/python dev/drills/communication.py $(DRILL_ARGS)

drill-scale: $(STAMP)
	$(BIN)/python dev/drills/scale.py $(DRILL_ARGS)

drill-growth: $(STAMP)
	$(BIN)/python dev/drills/growth.py $(DRILL_ARGS)

drill-shards: $(STAMP)
	$(BIN)/python dev/drills/shards.py $(DRILL_ARGS)

mutants: $(STAMP)
	$(BIN)/python dev/mutants.py $(MUTANTS_ARGS)

# made anew whenever a requirement changes; the stamp is written last, so that an interrupted
# installation is taken up again
$(STAMP): $(REQUIREMENTS) requirements/alone.txt setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(PIP_ARGS) $(REQUIREMENTS:%=-r %)
	$(BIN)/python -m pip install -q --no-deps -r requirements/alone.txt
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) .stacks .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
