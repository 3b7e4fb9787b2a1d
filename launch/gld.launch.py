"""Start the gld node, and RViz if asked: ros2 launch gld_ros gld.launch.py --show-args

Arguments and their meaning come from gld_ros.ros.launch_plan, which `gld launch` uses too. Only launch calls that
exist since Humble.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from gld_ros.ros.launch_plan import ARGUMENTS, NODE_NAME, make_plan
from gld_ros.ros.rviz import write_configuration


def launch_setup(context):
    """Read the argument values and make the processes."""
    plan = make_plan({a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS})
    actions = []
    for name, value in plan.environment.items():
        actions += [LogInfo(msg=f"{name}={value}"), SetEnvironmentVariable(name, value)]
    actions.append(
        Node(
            package="gld_ros",
            executable="gld_node",
            name=NODE_NAME,
            namespace=plan.namespace,
            # the file first: what the arguments say goes over it
            parameters=[str(plan.params_file), *([plan.parameters] if plan.parameters else [])],
            arguments=["--ros-args", "--log-level", plan.log_level],
            output="screen",
            emulate_tty=True,
        )
    )
    if plan.rviz_config:
        actions.append(
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz2",
                arguments=["-d", str(write_configuration(plan))],
                parameters=[{"use_sim_time": plan.parameters.get("use_sim_time", False)}],
                output="screen",
            )
        )
    return actions


def generate_launch_description():
    """One declared argument per entry of the table, then the processes."""
    declared = []
    for argument in ARGUMENTS:
        choices = {"choices": list(argument.choices)} if argument.choices else {}
        declared.append(
            DeclareLaunchArgument(
                argument.name, default_value=argument.default, description=argument.description, **choices
            )
        )
    return LaunchDescription([*declared, OpaqueFunction(function=launch_setup)])
