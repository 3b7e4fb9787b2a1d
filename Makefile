# make setup | demo | test | lint | colcon | clean          (all of it explained in CONTRIBUTING.md)
#
#   GLD_ROS_DISTRO=kilted     ROS wheels to use; default jazzy, the LTS; none: library and offline commands only
#   SCENE=folder-or-bag       what `make demo` replays
#   PIP_ARGS="..."            passed to every pip install, e.g. the index of CPU-only torch wheels
#   PYTHON=python3.11         interpreter of the virtual environments
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
SCENE ?=
export PYTHON PIP_ARGS

# A sourced ROS must not leak into environments made of wheels: its libraries fit another Python and distro.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONPATH
ifdef ROS_DISTRO
unexport LD_LIBRARY_PATH ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION
endif

# "wheels" where ROS wheels exist for this machine and Python, else the reason why not
ROS_WHEELS := $(shell $(PYTHON) cmake/ros_wheels.py available)
ifeq ($(ROS_WHEELS),wheels)
GLD_ROS_DISTRO ?= jazzy
else
GLD_ROS_DISTRO ?= none
endif
# the two-process tests also run on the other distro with wheels
OTHER_DISTRO := $(if $(filter jazzy,$(GLD_ROS_DISTRO)),kilted,$(if $(filter kilted,$(GLD_ROS_DISTRO)),jazzy,none))

.PHONY: setup demo test lint colcon clean
.DEFAULT_GOAL := setup

setup:
ifneq ($(ROS_WHEELS),wheels)
	@echo "[setup] no ROS: $(ROS_WHEELS). Installing the library and the offline commands."
endif
	@tools/setup_venv.sh $(VENV) $(GLD_ROS_DISTRO) editable

demo: setup
	@$(VENV)/bin/gld demo $(if $(SCENE),"$(SCENE)")

test: setup
	@tools/run_tests.sh $(VENV) $(GLD_ROS_DISTRO) $(OTHER_DISTRO)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

colcon: setup
	@tools/colcon.sh $(VENV)

clean:
	rm -rf build install log .venv .venv-kilted .venv-jazzy .venv-cyclone *.egg-info gld_ros/msg gld_ros/srv gld_ros/action gld_ros/*.so
