# make demo       a pretrained model learns Shakespeare: export, train, evaluate, report, in build/demo/
# make test       the tests, 10 minutes on two cores: from single operations up to the app on this machine's JVM
# make test-all   those, and what takes longer: what is shipped (wheel, APK, its bytecode, the phone's binary), lowering without the cache, the demo
# make fuzz       ten thousand mutated files for everything that reads one: each is taken, or refused with a sentence
# make apk        the app: build/android/mesp.apk
# make fleet      adds Flower to the environment, for mesp fleet
# All set up what they need: a virtual environment in .venv, for the demo the model and the text from the package index, and for the app
# Debian packages, if they may be installed. android_app/README.md tells of the parts of what is made for Android.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
INSTALLED := $(VENV)/.installed

TOOLS := android_app/tools

TESTS_IN := $(BIN)/python -W ignore -m pytest
# Each part's seconds go to build/test-durations.json.
TIMED := $(BIN)/python tests/timed.py

.PHONY: demo test test-all test-python test-measuring test-android test-harness test-thorough test-levels test-tokenizers test-arm64 test-dex test-demo \
	test-fleet fleet test-durations fuzz apk android-setup lint types wheel clean setup

demo: setup
	$(BIN)/python -m mesp.bench.demo $(DEMO)

# From the ground up, each part on what the ones before it have shown.
test: test-python test-measuring test-android test-harness

# Then what takes longer.
test-all: test test-thorough test-levels test-tokenizers test-dex test-arm64 test-demo test-fleet

# That the maths is right (each operation, block and whole model against autograd, transformers and PEFT), that lowered programs compute it, that
# training, checkpoints and reports hold what they promise, and that bad input is refused. Two processes, a test at a time, in the ladder's
# order (tests/conftest.py). What was lowered once lies in build/lowered.
test-python: setup
	$(TIMED) $@ $(TESTS_IN) tests --ignore tests/fleet -n 2 --dist load --maxschedchunk 1 -m "not alone and not thorough"

# That memory and time are measured rightly: alone, because what runs beside it would be measured too.
test-measuring: setup
	$(TIMED) $@ $(TESTS_IN) tests --ignore tests/fleet -m "alone and not thorough"

# That core trains as Python does, program by program and run by run, and that the app works: on this machine's JVM, with Android's library for x86_64.
test-android: setup android-setup
	$(TIMED) $@ $(BIN)/python -W ignore $(TOOLS)/test.py

# That `mesp device` gets a run to a phone and back, whatever the phone does: against a stand-in for adb and the phone, and core itself.
test-harness: setup android-setup
	$(TIMED) $@ $(TESTS_IN) android_app/tests -n 2 --dist load --maxschedchunk 1 -m "not thorough"

# That the cache of lowered programs hides nothing, that the wheel is whole and runs elsewhere, that the same sources make the same APK, and more cases.
test-thorough: setup android-setup
	$(TIMED) $@ $(TESTS_IN) tests android_app/tests --ignore tests/fleet -n 2 --dist load --maxschedchunk 1 -m thorough

# That the app works on Android 8, 11, 15 and 16 as it does on 14.
test-levels: setup android-setup
	$(TIMED) $@ $(BIN)/python -W ignore $(TOOLS)/levels.py

# That core tokenizes as Hugging Face does with real models' tokenizers, which npm has.
test-tokenizers: setup android-setup
	$(TIMED) $@ $(BIN)/python -W ignore $(TOOLS)/real_tokenizers.py

# That R8 broke nothing: core's tests and whole trainings on the APK's bytecode, translated back.
test-dex: setup apk
	$(BIN)/python -W ignore $(TOOLS)/test.py prepare
	$(TIMED) $@ $(BIN)/python $(TOOLS)/dex.py

# That the phone's own binary, emulated, computes every program of the test bundles as Python does; TESTS="LibraryTest …" for other tests of core,
# and TESTS= for all of them.
TESTS := LibraryTest
test-arm64: setup
	$(PYTHON) $(TOOLS)/packages.py arm64
	$(BIN)/python -W ignore $(TOOLS)/test.py prepare
	$(TIMED) $@ $(BIN)/python $(TOOLS)/arm64.py $(TESTS)

# That no file brings anything down: ten thousand mutated configurations, tokenizers, GGUF headers, adapters, bundles and rows, the same each time.
fuzz: setup
	MESP_FUZZ=10000 $(TIMED) $@ $(TESTS_IN) tests/test_fuzz.py tests/test_fuzz_runs.py -n 2 --dist load --maxschedchunk 1

# That the README's first command works: a real model, exported, trained and reported.
test-demo: setup
	rm -rf build/demo-test
	$(TIMED) $@ $(BIN)/python -m mesp.bench.demo build/demo-test

# That a fleet's rounds are mesp train's, whatever becomes of its clients, its server and its phones, and that Flower's own processes run it.
test-fleet: fleet android-setup
	$(BIN)/python -W ignore $(TOOLS)/test.py prepare
	$(TIMED) $@ $(TESTS_IN) tests/fleet -n 2 --dist load --maxschedchunk 1

# Keeps the seconds of the parts that ran last.
test-durations:
	cp build/test-durations.json benchmarks/results/test-durations.json

apk: android-setup
	$(PYTHON) $(TOOLS)/apk.py

android-setup:
	@$(PYTHON) $(TOOLS)/packages.py

# Flower and its simulation. What all that is installed can live with is in the constraints.
fleet: $(VENV)/.fleet

$(VENV)/.fleet: $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt --editable '.[fleet-simulation]'
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

wheel: setup
	$(BIN)/python -m build --wheel --outdir build/wheel

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "mesp needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments. On Debian: apt-get install python3-venv"; exit 1; }
	@echo "Setting up $(VENV): torch, executorch and the rest, about 3 GB to download the first time"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf build $(VENV) *.egg-info
