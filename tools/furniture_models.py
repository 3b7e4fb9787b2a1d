"""Furniture models of a Sweet Home 3D library as compact arrays: few triangles, corner normals, small pictures."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

# library -> licence its LICENSE.TXT states; other archives are not opened
LIBRARIES = {
    "BlendSwap-CC-0": "CC0 1.0",
    "BlendSwap-CC-BY": "CC-BY 3.0",
    "KatorLegaz": "CC-BY 3.0 US",
    "Reallusion": "CC-BY 3.0 US",
    "Scopia": "CC-BY 3.0",
}
INDOORS = {"Living room", "Miscellaneous", "Kitchen", "Bedroom", "Bathroom", "Office", "Characters", "Lights"}
MOST_TRIANGLES = 2000
MOST_BYTES = 1_500_000  # larger OBJ files lose their shape when cut down to so few triangles
COARSEST = 0.04  # the same for vertices merged over more than this share of the model's diagonal
SIDE = 64
CREASE = np.cos(np.radians(40))
TEST_SHARE = 15  # per cent of the models that only held-out rooms may use


@dataclass
class Model:
    """One piece of furniture in its box: x right, y to the back, z up, each from -1 to 1."""

    name: str
    credit: str
    place: str  # wall, floor or top
    size_m: tuple[float, float, float]  # of the box: width, depth, height
    is_test: bool
    corners: NDArray[np.float64]  # (T, 3, 3)
    normals: NDArray[np.float64]  # (T, 3, 3) unit, in metres' space
    uv: NDArray[np.float64]  # (T, 3, 2), v downwards
    part: NDArray[np.int64]  # (T,)
    colours: list[tuple[float, float, float]] = field(default_factory=list)  # of each part, display values
    pictures: list[NDArray[np.uint8] | None] = field(default_factory=list)  # (SIDE, SIDE, 3) of each part


@dataclass
class _Material:
    colour: tuple[float, float, float] = (0.8, 0.8, 0.8)
    opacity: float = 1.0
    picture: str | None = None


def models_of(archive: Path) -> Iterator[Model]:
    """The models of one library that suit a room."""
    with zipfile.ZipFile(archive) as library:
        for entry in catalog(library.read("PluginFurnitureCatalog.properties").decode("latin-1")):
            place = placement(entry)
            if place is None or library.getinfo(entry["model"].lstrip("/")).file_size > MOST_BYTES:
                continue
            model = convert(library, entry, archive.stem, place)
            if model is not None:
                yield model


def catalog(text: str) -> list[dict[str, str]]:
    """Entries of a catalogue: their properties without the number."""
    entries: dict[int, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*?)\s*$", text, re.M):
        entries.setdefault(int(number), {})[key] = value
    return [entries[k] for k in sorted(entries) if "model" in entries[k]]


def placement(entry: dict[str, str]) -> str | None:
    """Where an entry may stand in a room: at a wall, on the floor, on top of something; None = nowhere."""
    width, depth, height = (float(entry[k]) / 100 for k in ("width", "depth", "height"))
    if entry["category"] not in INDOORS or entry.get("doorOrWindow") == "true" or float(entry.get("elevation", 0)) > 3:
        return None
    if min(width, depth, height) < 0.02 or max(width, depth) > 2.6 or height > 2.3:
        return None
    if max(width, depth) <= 0.5 and height <= 0.6:
        return "top" if max(width, depth, height) >= 0.08 else None
    if entry["category"] == "Characters" or (max(width, depth) <= 0.75 and height <= 1.25):
        return "floor"
    return "wall"


def is_test(name: str) -> bool:
    """Held out by the hash of the name without digits, so that chair1 and chair2 stay together."""
    return zlib.crc32(re.sub(r"\d", "", name.lower()).encode()) % 100 < TEST_SHARE


def convert(library: zipfile.ZipFile, entry: dict[str, str], source: str, place: str) -> Model | None:
    """One entry as a model; None when it cannot be shown well with few opaque triangles."""
    path = PurePosixPath(entry["model"].lstrip("/"))
    points, uvs, faces, face_uvs, groups, names, sheet = read_obj(library.read(str(path)).decode("latin-1"))
    materials = read_mtl(library, path.parent, sheet)
    chosen = [materials.get(n, _Material()) for n in names]
    if not len(faces) or faces.max() >= len(points) or any(has_holes(library, path.parent, m.picture) for m in chosen):
        return None
    opaque = np.array([m.opacity > 0.4 for m in chosen])[groups]
    if opaque.mean() < 0.7:
        return None
    faces, face_uvs, groups = faces[opaque], face_uvs[opaque], groups[opaque]
    turn = np.array([float(x) for x in entry.get("modelRotation", "1 0 0 0 1 0 0 0 1").split()]).reshape(3, 3)
    turned = points @ turn.T
    local = np.stack([turned[:, 0], -turned[:, 2], turned[:, 1]], 1)  # the front, +z there, is -y here
    low, high = local[faces].min((0, 1)), local[faces].max((0, 1))
    size = tuple(float(entry[k]) / 100 for k in ("width", "depth", "height"))
    metres = (local - (low + high) / 2) / np.maximum(high - low, 1e-9) * size
    kept = reduce(metres, faces, groups)
    if kept is None:
        return None
    metres, faces, rows = kept
    corners = metres[faces]
    return Model(
        name=entry["id"],
        credit=f"{entry.get('name', entry['id'])} by {entry.get('creator', 'unknown')} ({source}, {LIBRARIES[source]})",
        place=place,
        size_m=size,  # type: ignore[arg-type]
        is_test=is_test(entry["id"]),
        corners=corners / (np.array(size) / 2),
        normals=corner_normals(corners, faces),
        uv=uvs[face_uvs[rows]] * (1, -1),
        part=groups[rows],
        colours=[m.colour for m in chosen],
        pictures=[picture(library, path.parent, m.picture) for m in chosen],
    )


def read_obj(text: str):
    """Points (P, 3), texture points (Q, 2), triangles (T, 3) of each, material number (T,), material names, sheet."""
    points, uvs, faces, face_uvs, groups = [], [(0.0, 0.0)], [], [], []
    names: list[str] = [""]
    sheet, current = "", 0
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            points.append((float(words[1]), float(words[2]), float(words[3])))
        elif words[0] == "vt":
            uvs.append((float(words[1]), float(words[2])))
        elif words[0] == "f":
            corners = [(w + "//").split("/")[:2] for w in words[1:]]
            first = [int(p) - 1 if int(p) > 0 else len(points) + int(p) for p, _ in corners]
            second = [(int(t) if int(t) > 0 else len(uvs) + int(t)) if t else 0 for _, t in corners]
            for k in range(1, len(first) - 1):
                faces.append((first[0], first[k], first[k + 1]))
                face_uvs.append((second[0], second[k], second[k + 1]))
                groups.append(current)
        elif words[0] == "usemtl":
            name = line.split(None, 1)[1].strip() if len(words) > 1 else ""
            if name not in names:
                names.append(name)
            current = names.index(name)
        elif words[0] == "mtllib":
            sheet = line.split(None, 1)[1].strip()
    return (
        np.array(points).reshape(-1, 3), np.array(uvs), np.array(faces, np.int64).reshape(-1, 3),
        np.array(face_uvs, np.int64).reshape(-1, 3), np.array(groups, np.int64), names, sheet,
    )  # fmt: skip


def read_mtl(library: zipfile.ZipFile, folder: PurePosixPath, name: str) -> dict[str, _Material]:
    """Materials of a sheet beside the model."""
    try:
        text = library.read(str(folder / name)).decode("latin-1")
    except KeyError:
        return {}
    materials: dict[str, _Material] = {}
    current = _Material()
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2:
            continue
        if words[0] == "newmtl":
            current = materials[line.split(None, 1)[1].strip()] = _Material()
        elif words[0] == "Kd":
            current.colour = (float(words[1]), float(words[2]), float(words[3]))
        elif words[0] == "d":
            current.opacity = float(words[-1])
        elif words[0] == "map_Kd":
            current.picture = line.split(None, 1)[1].strip()
    return materials


def _decode(library: zipfile.ZipFile, folder: PurePosixPath, name: str | None) -> NDArray[np.uint8] | None:
    if name is None:
        return None
    try:
        data = library.read(str(folder / name))
    except KeyError:
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if image is None or image.dtype != np.uint8 or image.ndim != 3 else image  # type: ignore[return-value]


def has_holes(library: zipfile.ZipFile, folder: PurePosixPath, name: str | None) -> bool:
    """True for a picture that is cut out, like leaves on a card."""
    image = _decode(library, folder, name)
    return image is not None and image.shape[2] == 4 and float((image[..., 3] < 128).mean()) > 0.1


def picture(library: zipfile.ZipFile, folder: PurePosixPath, name: str | None) -> NDArray[np.uint8] | None:
    """A material's picture, square, RGB."""
    image = _decode(library, folder, name)
    if image is None:
        return None
    small = cv2.resize(image[..., :3], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1]).astype(np.uint8)


def reduce(points: NDArray, faces: NDArray, groups: NDArray) -> tuple[NDArray, NDArray, NDArray] | None:
    """Points, triangles and their former rows, at most MOST_TRIANGLES of them, by merging the points of grid cells."""
    diagonal = float(np.linalg.norm(np.ptp(points[faces.ravel()], axis=0)))
    cell = 1e-6 * diagonal
    while cell <= COARSEST * diagonal:
        keys = np.round(points / cell).astype(np.int64)
        _, label = np.unique(keys, axis=0, return_inverse=True)
        label = label.reshape(-1)
        merged = label[faces]
        alive = (merged[:, 0] != merged[:, 1]) & (merged[:, 1] != merged[:, 2]) & (merged[:, 2] != merged[:, 0])
        rows = np.nonzero(alive)[0]
        _, first = np.unique(
            np.concatenate([np.sort(merged[rows], 1), groups[rows, None]], 1), axis=0, return_index=True
        )
        rows = rows[np.sort(first)]
        if len(rows) <= MOST_TRIANGLES:
            if len(rows) < 4:
                return None
            count = np.bincount(label, minlength=label.max() + 1)
            centre = np.stack([np.bincount(label, points[:, k]) / count for k in range(3)], 1)
            return centre, merged[rows], rows
        cell = max(cell * 1.3, 0.004 * diagonal)
    return None


def corner_normals(corners: NDArray, faces: NDArray) -> NDArray[np.float64]:
    """Unit normals (T, 3, 3): at each corner the mean over the triangles that meet there within the crease angle."""
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    owner = np.repeat(np.arange(len(faces)), 3)
    order = np.argsort(faces.ravel(), kind="stable")
    vertex = faces.ravel()[order]
    _, start, count = np.unique(vertex, return_index=True, return_counts=True)
    total = np.zeros((len(owner), 3))
    for first, size in zip(start, count, strict=True):
        slots = order[first : first + size]
        around = owner[slots]
        near = (unit[around] @ unit[around].T) > CREASE
        total[slots] = near @ flat[around]
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 1e-12, total / np.maximum(length, 1e-12), unit[owner]).reshape(-1, 3, 3)


def pack(models: list[Model]) -> dict[str, NDArray]:
    """Arrays of the cache file."""
    pictures: list[NDArray[np.uint8]] = []
    colours, textures = [], []
    for model in models:
        for colour, image in zip(model.colours, model.pictures, strict=True):
            colours.append(colour)
            textures.append(-1 if image is None else len(pictures))
            if image is not None:
                pictures.append(image)
    # whole tiles are taken off, so that small numbers keep their fraction
    uv = [np.clip(m.uv - np.floor(m.uv.min(1, keepdims=True)), 0, 500) for m in models]
    return {
        "names": np.array([m.name for m in models]),
        "credits": np.array([m.credit for m in models]),
        "places": np.array([m.place for m in models]),
        "is_test": np.array([m.is_test for m in models]),
        "size_m": np.array([m.size_m for m in models], np.float32),
        "triangles": np.array([len(m.part) for m in models], np.int64),
        "parts": np.array([len(m.colours) for m in models], np.int64),
        "corners": np.concatenate([np.round(m.corners * 32000).astype(np.int16) for m in models]),
        "normals": np.concatenate([np.round(m.normals * 127).astype(np.int8) for m in models]),
        "uv": np.concatenate(uv).astype(np.float16),
        "part": np.concatenate([m.part for m in models]).astype(np.int16),
        "colours": np.clip(np.array(colours, np.float32), 0, 1),
        "textures": np.array(textures, np.int32),
        "pictures": np.stack(pictures) if pictures else np.zeros((0, SIDE, SIDE, 3), np.uint8),
    }
