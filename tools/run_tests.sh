#!/usr/bin/env bash
# All tests: run_tests.sh VENV DISTRO OTHER_DISTRO
#
# First the tests that talk between processes, on the other distro's wheels (a change of DDS or rclpy shows there),
# then everything on DISTRO. Skips for want of ROS are failures wherever ROS wheels are installed.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD venv=$1 distro=$2 other=$3
trap '"$root/$venv/bin/python" "$root/tools/clean_shm.py"' EXIT
say() { echo "[test] $*"; }
failed=()  # both distros run to the end: a failure on one says more beside the other's result

if [ "$distro" != none ]; then
  export GLD_REQUIRE_ROS=1
  # an unrelated DDS implementation as client; its libraries must stay out of the other environments
  cyclone=.venv-cyclone
  if [ ! -f $cyclone/.ready ]; then
    say "installing the external DDS client into $cyclone"
    "${PYTHON:-python3}" -m venv $cyclone
    # shellcheck disable=SC2086  # PIP_ARGS is a list
    $cyclone/bin/python -m pip install -qq ${PIP_ARGS:-} 'cyclonedds==11.*' 'rosbags>=0.10' numpy
    touch $cyclone/.ready
  fi
  export GLD_CYCLONE_PYTHON=$root/$cyclone/bin/python
fi

if [ "$other" != none ]; then
  started=$SECONDS
  # a wheel, not editable: the interfaces generated in the source tree are those of DISTRO
  tools/setup_venv.sh ".venv-$other" "$other" wheel
  say "two-process tests on $other"
  # from a folder of its own, so that the installed package is what gets imported
  (cd ".venv-$other" && bin/pytest -q -c "$root/pyproject.toml" --rootdir "$root" \
    -p no:cacheprovider -m two_process "$root/test") || failed+=("$other")
  say "$other: $((SECONDS - started)) s"
fi

started=$SECONDS
say "all tests on $distro"
"$venv/bin/pytest" -q --durations=15 || failed+=("$distro")
say "$distro: $((SECONDS - started)) s"
if [ ${#failed[@]} -gt 0 ]; then
  say "failed on: ${failed[*]}" >&2
  exit 1
fi
