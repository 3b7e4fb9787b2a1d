"""What the commands' shared options accept."""

import argparse

import pytest

from gld_ros.cli import eval as eval_command
from gld_ros.cli import options, synthesize
from gld_ros.errors import GldError


@pytest.mark.parametrize(
    ("text", "indices"), [("3", [3]), ("0,2,5", [0, 2, 5]), ("0-3,7", [0, 1, 2, 3, 7]), (" 1 - 2 , 4", [1, 2, 4])]
)
def test_frame_indices(text, indices):
    assert options.frame_indices(text, "--frames") == indices


@pytest.mark.parametrize("text", ["", "x", "0,x", "0,,1", "1-", "-1", "3-1", "0-999999999", "²", "9" * 5000])
def test_what_is_no_list_of_frames_is_named_with_its_option(text):
    with pytest.raises(GldError, match="--frames"):
        options.frame_indices(text, "--frames")


def test_eval_and_synthesize_agree_on_what_they_share():
    defaults = []
    for command in (eval_command, synthesize):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        defaults.append(vars(parser.parse_args(["scene", "--out", "x"])))
    shared = defaults[0].keys() & defaults[1].keys()
    assert {"model", "preset", "size", "seed", "no_depth", "device", "compile", "precision", "camera"} <= shared
    assert all(defaults[0][name] == defaults[1][name] for name in shared - {"samples"})
