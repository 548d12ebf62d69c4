# DeepRS: everything a developer runs, in the project's own environment (.venv). `make` alone lists the targets.
#
#   make train DATASET=dir [OUT=dir] [CONFIG="overlay.yaml ..."] [ARGS="--max_epochs 2 ..."]
#   make pc-reg-rt DATASET=dir [OUT=dir] [CONFIG="overlay.yaml ..."]
#   make demo [OUT=dir]

VENV := .venv
PY := $(CURDIR)/$(VENV)/bin/python
# Touched when the environment is complete; older than the requirements means: install again (a no-op where all is there).
READY := $(VENV)/.ready
# Looked up only when the environment is made. The pinned versions are those of Python 3.11.
PYTHON ?= $(shell for name in python3.11 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$name && break; done)

# The list that monai.bundle takes, ['a.yaml','b.yaml'], from file names that spaces separate.
comma := ,
empty :=
space := $(empty) $(empty)
CONFIGS = ['$(subst $(space),'$(comma)',$(strip $(abspath bundle/configs/train.yaml $(CONFIG))))']

export PYTHONPATH := $(CURDIR)/bundle

.DEFAULT_GOAL := help
.PHONY: help zoo setup demo train pc-reg-rt test test-slow lint docs bench bench-gpu classical-env label-env label-bundle clean dataset-named

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "  %-13s %s\n", $$1, $$2 }'

setup: $(READY)  ## make .venv with the pinned requirements (python3.11, or PYTHON=...)

# torch goes first and on its own, so that pip takes the build that this machine offers and nothing replaces it later.
$(READY): requirements.txt requirements-dev.txt
	$(if $(PYTHON),,$(error DeepRS is developed with Python 3.11, found neither as python3.11 nor as python3. Install it, or name one: make setup PYTHON=/path/to/python3.11))
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $$(grep '^torch==' requirements.txt)
	$(PY) -m pip install --quiet -r requirements-dev.txt
	$(PY) -m pip install --quiet --no-deps --editable .  # the command `deeprs`
	@touch $@

demo: OUT ?= output/demo
demo: $(READY)  ## phantoms, a small DeepRS trained on them, its results and report: minutes on a CPU
	$(PY) -m scripts.phantom.demo --output_dir "$(OUT)" $(ARGS)

train: OUT ?= output/train
train: dataset-named $(READY)  ## train on your data: DATASET=dir [OUT=dir] [CONFIG="overlay.yaml"] [ARGS="--max_epochs 2"]
	mkdir -p "$(OUT)"
	$(PY) -m monai.bundle run training --config_file "$(CONFIGS)" \
		--dataset_dir "$$(cd "$(DATASET)" && pwd)" --output_dir "$$(cd "$(OUT)" && pwd)" \
		$(if $(PRETRAINED),--pretrained "$$(cd "$(PRETRAINED)" && pwd)") $(ARGS)

pc-reg-rt: OUT ?= output/pc_reg_rt
pc-reg-rt: dataset-named $(READY)  ## PC-Reg-RT, both of its stages: DATASET, OUT, CONFIG, ARGS as for train
	$(MAKE) train OUT="$(OUT)/stage1" CONFIG="$(CONFIG) bundle/configs/recipes/pc_reg.yaml"
	$(MAKE) train OUT="$(OUT)" CONFIG="$(CONFIG) bundle/configs/recipes/pc_reg_rt.yaml" PRETRAINED="$(OUT)/stage1"

dataset-named:
	@test -d "$(DATASET)" || { echo 'make train: DATASET="$(DATASET)" is not a folder. Name the one that holds your' \
		'datalist.json, or images/ and labels/: make train DATASET=/path/to/folder' >&2; exit 2; }

test: JOBS ?= 2
test: $(READY)  ## the tests of every day: minutes, no GPU: [JOBS=2]
	$(PY) -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu" $(ARGS)

test-slow: $(READY)  ## the tests that `make test` leaves out: the whole demo, spawned workers, GPU
	$(PY) -m pytest -m "slow or gpu" $(ARGS)

lint: $(READY)  ## ruff: rules and format; import-linter: each room imports from earlier ones only; dead links
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports
	$(PY) -m benchmarks.documents.site

docs: OUT ?= output/site
docs: $(READY)  ## the documents as a site; a dead link or a missing page fails: [OUT=dir]
	$(PY) -m benchmarks.documents.site --out "$(OUT)"

bench: $(READY)  ## speed against MONAI's own losses and warps -> benchmarks/results/speed.json
	$(PY) -m benchmarks.costs.speed

bench-gpu: OUT ?= output/bench-gpu
bench-gpu: $(READY)  ## on a CUDA device, in six minutes: its tests, times of iterations, what faster settings change: [OUT=dir] [ARGS=...]
	$(PY) -m benchmarks.costs.gpu --out "$(OUT)" $(ARGS)

classical-env: $(READY)  ## make .venv-classical: the tools that benchmarks/tools/classical.py compares with
	$(PY) -m venv .venv-classical
	.venv-classical/bin/python -m pip install --quiet -r requirements-classical.txt

LABEL := .venv-label/bin/python
label-env: $(READY)  ## make .venv-label: MONAI Label, for bundle/docs/monai_label.md and its tests
	$(PY) -m venv .venv-label
	$(LABEL) -m pip install --quiet $$(grep '^torch==' requirements.txt)
	$(LABEL) -m pip install --quiet -r requirements-label.txt
	$(LABEL) -m pip install --quiet --no-deps -r requirements-label-no-deps.txt
	cp -r label_env/torchvision "$$($(LABEL) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

label-bundle: NAME ?= deeprs
label-bundle: override CONFIG := $(or $(CONFIG),bundle/configs/data/hippocampus.yaml) bundle/configs/label.yaml
label-bundle: $(READY)  ## write a bundle into an app of MONAI Label: APP=dir [NAME=deeprs] [CONFIG="mydata.yaml"] [ARGS=...]
	$(PY) -m monai.bundle run labeling --config_file "$(CONFIGS)" --app_dir "$(abspath $(APP))" --name "$(NAME)" $(ARGS)

zoo: OUT ?= output/zoo
zoo: $(READY)  ## the bundle as it goes to the model zoo, as a folder and zipped: [OUT=dir]
	rm -rf "$(OUT)/deeprs" "$(OUT)/deeprs.zip"
	mkdir -p "$(OUT)/deeprs"
	cd bundle && git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C "$(abspath $(OUT))/deeprs"
	@test -f "$(OUT)/deeprs/LICENSE" || { echo 'make zoo: git lists no file of bundle/. Run it in a clone.' >&2; exit 2; }
	@test -z "$$(find "$(OUT)/deeprs" -size +25M -print)" || { echo 'make zoo: the model zoo takes files of up to 25 MB;' \
		'list larger ones in large_files.yml, with their address and hash:' $$(find "$(OUT)/deeprs" -size +25M) >&2; exit 2; }
	cd "$(OUT)" && $(PY) -m zipfile -c deeprs.zip deeprs

clean:  ## remove caches and build leftovers; .venv and output/ stay
	rm -rf .pytest_cache .ruff_cache build dist *.egg-info
	find bundle tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
