#!/usr/bin/env bash
# Make or refresh a virtual environment with gld_ros in it: setup_venv.sh VENV DISTRO editable|wheel
#
# DISTRO is jazzy, kilted, or none (library and offline commands only). A stamp holds a hash of everything the result
# depends on, so that a second run does nothing. PIP_ARGS goes to every pip install, PYTHON names the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 distro=$2 mode=$3
python=${PYTHON:-python3}

say() { echo "[setup] $*"; }

# --- what the system lacks -------------------------------------------------------------------------------------
packages=()
"$python" -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
if [ "$distro" != none ]; then
  command -v g++ >/dev/null || packages+=(g++)
  "$python" -c 'import sysconfig, pathlib, sys
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' || packages+=(python3-dev)
fi
if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing from apt: ${packages[*]}"
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
  else
    say "missing system packages; run: sudo apt-get install ${packages[*]}" >&2
    exit 1
  fi
fi

# --- is there anything to do? ------------------------------------------------------------------------------------
# editable installs see the modules themselves; only what is compiled, copied or resolved by pip counts
inputs=(setup.py setup.cfg pyproject.toml package.xml CMakeLists.txt constraints.txt */requirements.txt
  cmake compat msg srv action launch config rviz demo scripts tools/setup_venv.sh gld_ros/__init__.py)
[ "$mode" = wheel ] && inputs+=(gld_ros)
# git names what belongs to the tree; generated and cached files in it do not
hash=$( { echo "$PWD $distro $mode ${PIP_ARGS:-}"; "$python" -VV
          { git ls-files -co --exclude-standard -- "${inputs[@]}" 2>/dev/null ||
            find "${inputs[@]}" -type f -not -path '*/__pycache__/*' 2>/dev/null || true; } |
            LC_ALL=C sort | while read -r file; do if [ -f "$file" ]; then sha256sum "$file"; fi; done; } |
          sha256sum | cut -d' ' -f1)
stamp=$venv/.gld_setup
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ]; then
  say "$venv is up to date ($distro)"
  exit 0
fi

# --- install ------------------------------------------------------------------------------------------------------
[ -x "$venv/bin/python" ] || { say "creating $venv"; "$python" -m venv "$venv"; }
rm -f "$stamp"
# pip's isolated and cmake's own child processes must find this environment's tools first
export PATH="$PWD/$venv/bin:$PATH" VIRTUAL_ENV="$PWD/$venv" PIP_DISABLE_PIP_VERSION_CHECK=1
# shellcheck disable=SC2086  # PIP_ARGS is a list
pip_install() { python -m pip install ${PIP_ARGS:-} -c constraints.txt "$@"; }

unset GLD_ROS GLD_ROS_DISTRO  # setup.py reads them; make may have exported the caller's
if [ "$distro" = none ]; then
  pip_install -qq 'setuptools>=68' wheel
  extras=""
else
  say "ROS 2 $distro wheels and build tools (about 20 s)"
  python cmake/ros_wheels.py build "$distro" >"$venv/.ros_wheels.txt"
  pip_install -qq -r "$venv/.ros_wheels.txt"
  (cd / && python -c 'import tf2_msgs' 2>/dev/null) || { say "building tf2_msgs"; python cmake/ros_build.py compat/tf2_msgs >"$venv/.tf2_msgs.log" 2>&1 || { cat "$venv/.tf2_msgs.log"; exit 1; }; }
  export GLD_ROS=1 GLD_ROS_DISTRO="$distro"
  extras="[ros]"
fi
# by itself and with pip's progress bar: it is by far the largest download
python -c 'import torch' 2>/dev/null || { say "torch"; pip_install torch; }
say "gld_ros and what else it needs (about 30 s)"
case $mode in
  editable) pip_install -qq --no-build-isolation -e ".$extras" ;;
  wheel) pip_install -qq --no-build-isolation ".$extras" ;;
  *) say "mode '$mode': must be editable or wheel" >&2; exit 1 ;;
esac
say "tools of tests and lint"
pip_install -qq -r test/requirements.txt
[ "$mode" = wheel ] || pip_install -qq -r tools/requirements.txt
echo "$hash" >"$stamp"
say "$venv is ready ($distro, $SECONDS s): $venv/bin/gld --help"
