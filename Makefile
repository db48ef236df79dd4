# make demo   a pretrained model learns Shakespeare: export, train, evaluate, report, in build/demo/
# make test   the tests, of Python and then of the Android app
# make apk    the app: build/android/mesp.apk
# All set up what they need: a virtual environment in .venv, for the demo the model and the text from the package index, and for the app
# Debian packages, if they may be installed. android_app/README.md tells of the parts of what is made for Android.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
INSTALLED := $(VENV)/.installed

TOOLS := android_app/tools

.PHONY: demo test test-python test-android test-arm64 test-dex apk android-setup lint types wheel clean setup

demo: setup
	$(BIN)/python -m mesp.bench.demo $(DEMO)

test: test-python test-android

test-python: setup
	$(BIN)/python -m pytest tests

# Core and the app on this machine's JVM, with Android's library for x86_64; then the APK, and core on its bytecode.
test-android: setup android-setup
	$(BIN)/python -W ignore $(TOOLS)/test.py
	$(BIN)/python -m pytest android_app/tests
	$(BIN)/python $(TOOLS)/dex.py

# Core on the phone's own binary, emulated; TESTS="LibraryTest …" for some of its tests alone.
test-arm64: setup
	$(PYTHON) $(TOOLS)/packages.py arm64
	$(BIN)/python -W ignore $(TOOLS)/test.py prepare
	$(BIN)/python $(TOOLS)/arm64.py $(TESTS)

# Core on the APK's bytecode, translated back.
test-dex: setup apk
	$(BIN)/python -W ignore $(TOOLS)/test.py prepare
	$(BIN)/python $(TOOLS)/dex.py

apk: android-setup
	$(PYTHON) $(TOOLS)/apk.py

android-setup:
	@$(PYTHON) $(TOOLS)/packages.py

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
