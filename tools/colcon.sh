#!/usr/bin/env bash
# colcon build and colcon test, as ROS users do, over the ROS wheels of a virtual environment: colcon.sh VENV
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$PWD/$1
export PATH="$venv/bin:$PATH" VIRTUAL_ENV="$venv" AMENT_PREFIX_PATH="$venv" CMAKE_PREFIX_PATH="$venv"
python -c 'import rclpy' || { echo "[colcon] $venv has no ROS: run make setup with GLD_ROS_DISTRO=jazzy" >&2; exit 1; }
bases=(--build-base build/colcon --install-base build/colcon-install)
colcon --log-base build/colcon-log build "${bases[@]}" --event-handlers console_cohesion- \
  --cmake-args -G Ninja -DCMAKE_PROJECT_gld_ros_INCLUDE="$PWD/cmake/wheel_include_paths.cmake" \
  -DPython3_EXECUTABLE="$venv/bin/python" -DPython3_FIND_VIRTUALENV=ONLY
# shellcheck source=/dev/null
set +u && . build/colcon-install/local_setup.bash && set -u
colcon --log-base build/colcon-log test "${bases[@]}" --event-handlers console_direct+ --return-code-on-test-failure
colcon test-result --test-result-base build/colcon
