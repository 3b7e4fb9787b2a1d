"""``gld weights``: join released files into one model file, and describe model files."""

from __future__ import annotations

import argparse
from pathlib import Path

from gld_ros.errors import GldError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    importing = actions.add_parser("import", help="join the released files below a folder into one safetensors file")
    importing.add_argument("dir", type=Path, metavar="DIR", help="folder with the released files, at any depth")
    importing.add_argument("--out", type=Path, help="file to write (default: DIR/gld.safetensors)")
    importing.add_argument("--dtype", default="bf16", choices=("bf16", "fp32"), help="type in the file (default: bf16)")
    importing.add_argument("--config", type=Path, help="JSON of another model configuration than the released one")
    importing.add_argument("--ignore", action="append", default=[], metavar="PATTERN", help="accept these extra names")
    info = actions.add_parser("info", help="what a model file holds, its parameters and operations")
    info.add_argument(
        "file", metavar="FILE", help="a model file, 'tiny' for the default model, 'released' for the published sizes"
    )
    info.add_argument("--views", type=int, default=8, help="views to count operations for (default: 8)")
    info.add_argument("--condition", type=int, default=4, help="condition views among them (default: 4)")


def run(args: argparse.Namespace) -> int:
    """Dispatch to import or info."""
    return _import(args) if args.action == "import" else _info(args)


def _import(args: argparse.Namespace) -> int:
    from gld_ros.model.config import ModelConfig
    from gld_ros.model.precision import dtype_named
    from gld_ros.model.released import import_released

    config = None
    if args.config is not None:
        try:
            config = ModelConfig.from_json(args.config.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise GldError(f"{args.config} cannot be read: {error}") from None
    out = args.out or args.dir / "gld.safetensors"
    for line in import_released(args.dir, out, config, dtype_named(args.dtype), args.ignore):
        print(line)
    return 0


def _info(args: argparse.Namespace) -> int:
    from gld_ros.evaluation.cost import cost_table
    from gld_ros.model.checkpoint import ModelFile
    from gld_ros.model.config import released_config
    from gld_ros.synthesis.shipped import NAME, verified_file

    if not 1 <= args.condition < args.views:
        raise GldError(f"--condition is {args.condition}, must lie in 1..{args.views - 1} (below --views)")
    if args.file == "released":
        config = released_config()
        print(f"{config.name}: published sizes, no weights")
    else:
        file = ModelFile(verified_file() if args.file == NAME else Path(args.file))
        config = file.config
        print(f"{file.path}: {config.name}, {len(file.names)} tensors, {file.nbytes() / 1e9:.3f} GB")
        for part in ("encoder.", "level1.", "cascade.", "rgb_decoder.", "depth_head.", "statistics."):
            if size := file.nbytes(part):
                print(f"  {part.rstrip('.'):<14}{size / 1e6:10.2f} MB")
        for key, value in sorted(file.metadata.items()):
            if key not in ("config", "format"):
                print(f"  {key}: {value}")
    sizes = sorted({config.trained_sizes[0], config.trained_sizes[-1]}, key=lambda size: size[0] * size[1])
    print(f"\n{args.views} views, {args.condition} of them condition views:")
    print(cost_table(config, sizes, args.views, args.condition))
    return 0
