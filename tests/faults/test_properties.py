# Copyright 2026 The DeepRS Authors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""What must hold for any file, not for the ones that someone thought of. Every property has a short run every day, and
thousands of examples in the slow suite; a failure that was found stays as an ``example``."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from declared_model import MODEL
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.bundle import ConfigParser
from scipy.spatial.transform import Rotation

from scripts.data.cases import load_cases, load_images
from scripts.data.image_checks import check_files
from scripts.data.original import read_label
from scripts.data.pair_table import read_pair_table
from scripts.data.pairs import read_pairs
from scripts.data.volumes import read_volume
from scripts.fields.points import SUFFIXES, PointSet, read_point_set, write_points
from scripts.fields.transform_files import read_transform, write_displacement, write_field_transform
from scripts.fields.volumes import write_volume
from scripts.files.datalist import LISTS
from scripts.files.literal import MEANS_SOMETHING, literal
from scripts.networks.weights import read_saved, save_atomically
from scripts.training.model_record import read_model
from scripts.training.model_schema import FIELDS, FORMAT
from scripts.training.options import checked_tasks, is_true
from scripts.training.record import to_yaml

#: what a user may be told of a file that is not as it should be
TOLD = (ValueError, FileNotFoundError)
DTYPES = ("uint8", "int8", "int16", "uint16", "int32", "float32", "float64")

PROPERTIES: dict[str, tuple[Callable, tuple, tuple]] = {}


def holds_for(*strategies: st.SearchStrategy, found: Iterable[tuple] = ()) -> Callable:
    """Keep a property with what it is to hold for, and the cases for which it once did not."""

    def keep(function: Callable) -> Callable:
        PROPERTIES[function.__name__] = (function, strategies, tuple(found))
        return function

    return keep


# ---- what files may hold

LONG_CELL, DEEP = "x" * 140_000, "[" * 100_000  # neither the csv nor the json module raises a ValueError for them

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = st.sampled_from(
    ["", "x", "$x", "@labels", "%a", "a#1", "a::b", "..", "a/b", "\x00", "1", "1e5", "true", "image"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | text | words
numbers = st.floats(-1e4, 1e4, allow_subnormal=False)


def mappings(keys: list[str], most: int = 25) -> st.SearchStrategy:
    """JSON, in which the keys that are known occur often and nest in any way."""

    def nest(inner: st.SearchStrategy) -> st.SearchStrategy:
        key = st.sampled_from(keys) | text
        return st.lists(inner, max_size=3) | st.dictionaries(key, inner, max_size=4)

    return st.dictionaries(st.sampled_from(keys), st.recursive(scalars, nest, max_leaves=most), max_size=6)


@st.composite
def affines(draw: st.DrawFn, sheared: bool = False) -> np.ndarray:
    """Voxel to RAS mm: any rotation, voxels of 0.1 to 10 mm, any origin, mirrored or not, sheared or not.

    Rounded, since ITK 5.4 finds no inverse of a direction with numbers below 1e-300, and moves no point then.
    """
    quaternion = draw(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 0.1))
    zooms = draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    matrix = Rotation.from_quat(quaternion).as_matrix() @ np.diag(zooms)
    if draw(st.booleans()):
        matrix[:, 0] *= -1
    if sheared:
        matrix = matrix @ np.array([[1, draw(st.floats(-0.5, 0.5)), 0], [0, 1, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.round(matrix, 12), draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return affine


@st.composite
def arrays(draw: st.DrawFn, least: int = 2) -> np.ndarray:
    shape = draw(st.tuples(*[st.integers(least, 5)] * 3))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    values = st.integers(0, 100) if dtype.kind in "iu" else st.floats(-100, 100, width=32)
    return draw(hnp.arrays(dtype, shape, elements=values))


@st.composite
def headers(draw: st.DrawFn) -> nib.Nifti1Image:
    """A NIfTI that says where its voxels lie in two ways, in one or in none, scaled or not, of any number of axes."""
    array = draw(arrays(least=1))
    extra = draw(st.sampled_from([(), (1,), (2,), (1, 1), (1, 3)]))
    array = np.broadcast_to(array[(...,) + (None,) * len(extra)], array.shape + extra).copy()
    affine = draw(affines(sheared=draw(st.booleans())))
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, draw(st.integers(0, 5)))
    image.set_qform(draw(st.just(affine) | affines()), draw(st.integers(0, 5)), strip_shears=True)
    image.header.set_xyzt_units(draw(st.sampled_from([0, 1, 2, 3])), draw(st.sampled_from([0, 8, 16, 24, 32])))
    image.header.set_slope_inter(*draw(st.sampled_from([(None, None), (1, 0), (2, 0), (0.5, 10), (1 / 3, 0), (-1, 5)])))
    image.header["intent_code"] = draw(st.sampled_from([0, 1, 1002, 1006, 1007]))
    return image


@contextmanager
def folder() -> Any:
    with TemporaryDirectory() as name:
        yield Path(name)


def corners(shape: tuple[int, ...]) -> np.ndarray:
    return np.array([[i, j, k] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)])


def places_of_nibabel(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    return nib.affines.apply_affine(nib.load(path).affine, corners(shape))


def places_of_itk(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The same in RAS, where ITK reads the file at all."""
    image = sitk.ReadImage(str(path))
    rest = (0,) * (image.GetDimension() - 3)
    points = [image.TransformIndexToPhysicalPoint((*map(int, voxel), *rest)) for voxel in corners(shape)]
    return np.array(points)[:, :3] * (-1, -1, 1)


def says_one_thing(image: nib.Nifti1Image) -> bool:
    """Whether a header gives one place to its voxels: in mm, and its two forms and sizes of voxels do not differ."""
    codes = image.header["sform_code"] > 0, image.header["qform_code"] > 0
    zooms = np.allclose(image.header.get_zooms()[:3], nib.affines.voxel_sizes(image.affine), rtol=1e-3)
    forms = not all(codes) or np.allclose(image.get_sform(), image.get_qform(), atol=1e-3)
    return any(codes) and forms and zooms and image.header.get_xyzt_units()[0] in ("unknown", "mm")


# ---- volumes


@holds_for(arrays(), affines())
def a_volume_that_is_written_is_the_same_to_nibabel_and_itk(array: np.ndarray, affine: np.ndarray) -> None:
    with folder() as here:
        write_volume(path := here / "a.nii.gz", array, affine)
        np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), array)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, array)
        meant = nib.affines.apply_affine(affine, corners(array.shape))
        for places in (places_of_nibabel, places_of_itk):
            np.testing.assert_allclose(places(path, array.shape), meant, atol=2e-3)


@holds_for(headers())
def any_header_is_read_as_nibabel_or_itk_reads_it_or_is_refused(image: nib.Nifti1Image) -> None:
    with folder() as here:
        nib.save(image, path := here / "a.nii")
        faults: list[str] = []
        volume = read_volume(str(path), "image", faults)
        try:
            check_files([("image", path)])
        except ValueError as error:
            assert str(path) in str(error)
        if volume is None:
            assert faults and str(path) in faults[0]
            return
        loaded = nib.load(path)
        np.testing.assert_allclose(volume.array, loaded.get_fdata().reshape(volume.array.shape), rtol=1e-5, atol=1e-5)
        if not says_one_thing(loaded):  # which of several is meant, tests/data and tests/fields say
            return
        found = nib.affines.apply_affine(volume.affine, corners(volume.array.shape))
        readings = [places_of_nibabel(path, volume.array.shape)]
        with suppress(RuntimeError):  # ITK takes no shears
            readings.append(places_of_itk(path, volume.array.shape))
        assert min(np.abs(found - reading).max() for reading in readings) < 2e-3


@holds_for(
    hnp.arrays(np.int16, (2, 3, 4), elements=st.integers(0, 300)),
    st.sampled_from(["uint8", "int16", "uint16", "int32", "float32"]),
    st.sampled_from([1, 2, 3, 7, 1 / 3, 0.1, 255 / 7]),
)
def ids_of_a_label_are_its_own_or_it_is_refused(ids: np.ndarray, dtype: str, divisor: float) -> None:
    stored = np.round(ids / divisor)
    if stored.max() > (255 if dtype == "uint8" else 32767):
        return
    with folder() as here:
        image = nib.Nifti1Image(stored.astype(dtype), np.eye(4))
        image.header.set_slope_inter(divisor, 0)
        nib.save(image, path := here / "a.nii")
        meant = nib.load(path).get_fdata()
        try:
            found = read_label(str(path))[0].numpy()
        except ValueError as error:
            assert "fractions" in str(error)
        else:
            np.testing.assert_allclose(found, meant, atol=1e-3)


@holds_for(st.integers(0, 2**31), affines(), st.tuples(*[st.integers(2, 5)] * 3))
def a_field_is_the_same_in_both_of_its_files_and_to_itk(seed: int, affine: np.ndarray, shape: tuple) -> None:
    displacement = torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ends = corners(shape)
    lps = displacement[tuple(ends.T)].numpy()
    points = nib.affines.apply_affine(affine, ends)
    points += 1e-4 * (points.mean(axis=0) - points)  # by a rounding a corner would be outside
    with folder() as here:
        write_displacement(here / "a.nii.gz", displacement, torch.from_numpy(affine))
        write_field_transform(here / "a.h5", displacement, torch.from_numpy(affine))
        for name in ("a.nii.gz", "a.h5"):
            (field,) = read_transform(here / name)
            moved = field(torch.from_numpy(points)).numpy()
            np.testing.assert_allclose(moved - points, lps * (-1, -1, 1), atol=1e-2)
        itk = sitk.ReadTransform(str(here / "a.h5"))
        points *= (-1, -1, 1)
        np.testing.assert_allclose([itk.TransformPoint(point) for point in points.tolist()] - points, lps, atol=1e-2)


# ---- points

labels_of_points = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)


@holds_for(
    st.sampled_from(SUFFIXES),
    st.lists(st.tuples(labels_of_points, st.tuples(numbers, numbers, numbers)), min_size=1, max_size=4),
    st.sampled_from(["LPS", "RAS"]),
)
def points_come_back_where_they_were_and_as_they_were_called(suffix: str, rows: list, system: str) -> None:
    names, positions = (tuple(column) for column in zip(*rows, strict=True))
    points = PointSet(np.array(positions), names, system)
    with folder() as here:
        write_points(path := here / f"a{suffix}", points)
        again = read_point_set(path, system)
    np.testing.assert_allclose(again.positions, points.positions)
    assert again.coordinates == system and [name.strip() for name in names] == [name.strip() for name in again.names]


lines = st.lists(
    st.sampled_from(["x,y,z", "name,x,y,z", "1,2,3", "a,1,2,3", "nan,1,2", "x,y", ",,", "# CoordinateSystem = RAS"])
    | st.sampled_from(["# columns = label,x,y,z", "# CoordinateSystem = 3", '"a', "# columns =", "1,2,3,4,5", "\x00"])
    | text,
    max_size=5,
).map("\n".join)
markups = mappings(["markups", "controlPoints", "position", "label", "coordinateSystem"])


@holds_for(
    st.sampled_from(SUFFIXES),
    st.binary(max_size=40) | lines.map(str.encode) | markups.map(lambda m: json.dumps(m).encode()),
    found=[
        (".csv", f"x,y,z\n1,2,{LONG_CELL}\n".encode()),
        (".fcsv", LONG_CELL.encode()),
        (".mrk.json", f'{{"markups": {DEEP}'.encode()),
    ],
)
def any_file_of_points_is_read_or_refused(suffix: str, content: bytes) -> None:
    with folder() as here:
        (path := here / f"a{suffix}").write_bytes(content)
        try:
            points = read_point_set(path, "RAS")
        except ValueError:
            return
        assert points.positions.shape == (len(points.names), 3) and np.isfinite(points.positions).all()


# ---- lists of cases and tables of pairs

datalists = mappings(
    ["labels", "training", *LISTS, "image", "label", "case", "1", "2", "pairs", "moving", "fixed", "name"]
)
entries = st.fixed_dictionaries(
    {"image": words | text | scalars}, optional={"label": words | text | scalars, "case": words | scalars}
)
likely = st.fixed_dictionaries(
    {"labels": st.dictionaries(st.sampled_from(["0", "1", "2", "x"]), words | scalars, max_size=3)},
    optional={key: st.lists(entries | words, max_size=3) for key in ("training", *LISTS)},
)
number = st.none() | st.integers(-1, 3)


@holds_for(
    datalists | likely | scalars | st.lists(scalars),
    number,
    number,
    st.integers(-1, 2),
    found=[({"pairs": 5}, None, None, 0)],
)
def any_datalist_gives_cases_or_is_refused(content: Any, labeled: Any, unlabeled: Any, fold: int) -> None:
    with folder() as here:
        path = here / "datalist.json"
        path.write_text(json.dumps(content))
        try:
            cases = load_cases(here, None, None, labeled, unlabeled, fold)
        except TOLD:
            pass
        else:
            found = [case for key in LISTS for case in getattr(cases, key)]
            assert all(Path(case["image"]).is_absolute() and Path(case["case"]).name == case["case"] for case in found)
            assert not any("label" in case for case in cases.unlabeled) and 0 not in cases.labels
            assert all("label" in case for key in ("labeled", "validation", "test") for case in getattr(cases, key))
        for read in (lambda: load_images(here, path), lambda: read_pairs(path), lambda: read_pair_table(path)):
            with suppress(*TOLD):
                read()


@holds_for(st.binary(max_size=60), found=[(DEEP.encode(),)])
def any_bytes_for_a_datalist_are_refused_or_read(content: bytes) -> None:
    with folder() as here:
        (path := here / "datalist.json").write_bytes(content)
        for read in (lambda: load_cases(here), lambda: load_images(here, path), lambda: read_pairs(path)):
            with suppress(*TOLD):
                read()


cells = (
    st.sampled_from(["moving", "fixed", "name", "moving_label", "a.nii", "", "$x", '"', "..", "\x00", "\ufeff"]) | text
)


@holds_for(
    st.lists(st.lists(cells, max_size=5).map(",".join), max_size=4).map("\n".join),
    found=[(f"moving,fixed\n{LONG_CELL},b",)],
)
def any_table_of_pairs_gives_pairs_or_is_refused(content: str) -> None:
    with folder() as here:
        (path := here / "pairs.csv").write_text(content, encoding="utf-8")
        try:
            pairs = read_pair_table(path)
        except TOLD:
            return
        names = [pair["name"] for pair in pairs]
        assert names and len(set(names)) == len(names) and all(Path(name).name == name for name in names)


# ---- options, models and weights


@holds_for(scalars)
def any_value_of_an_option_is_understood_or_refused(value: Any) -> None:
    try:
        assert is_true(value, "option") in (True, False)
    except ValueError as error:
        assert "option" in str(error)
    with suppress(ValueError, TypeError):
        assert set(checked_tasks(value)) <= {"segmentation", "registration"}


data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | words, inner, max_size=3),
)


@holds_for(data)
def any_data_goes_through_a_config_unharmed(value: Any) -> None:
    config = {"value": literal(value), "by_reference": "@value", "within": {"a": ["@value"]}}
    parser = ConfigParser(yaml.safe_load(to_yaml(config).encode("utf-8")))
    assert parser.get_parsed_content("by_reference") == value
    assert parser.get_parsed_content("within") == {"a": [value]}


parts = mappings([*FIELDS, "_target_", "_mode_", "_disabled_", "1"])
targets = st.sampled_from(["os.getcwd", "UNet", "scripts.joint.PairState", "scripts.files.from_json", "torch.load"])


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """A whole record with something else in one to three of its places."""
    model = copy.deepcopy(MODEL)
    for _ in range(draw(st.integers(1, 3))):
        entry = model
        key = draw(st.sampled_from([*entry, "_target_", "more"]))
        while isinstance(entry.get(key), dict) and entry[key] and draw(st.booleans()):
            entry = entry[key]
            key = draw(st.sampled_from([*map(str, entry), "_target_", "_mode_", "$x"]))
        entry[key] = draw(scalars | targets | data | st.fixed_dictionaries({"_target_": targets}))
    return model


@holds_for(parts | records(), st.sampled_from(["model.json", "model.yaml"]))
def any_record_of_a_model_is_declared_or_refused(content: dict, name: str) -> None:
    with folder() as here:
        text = json.dumps({"format": FORMAT, **content}) if name.endswith("json") else yaml.safe_dump(content)
        (here / name).write_text(text, encoding="utf-8", errors="surrogateescape")
        try:
            model = read_model(here)
        except TOLD:
            return
        assert not MEANS_SOMETHING.search(json.dumps(model))


@holds_for(
    st.binary(max_size=60),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=1)), max_size=4),
    st.floats(0, 1),
    found=[(b"", [(0.0, byte)], 0.5) for byte in (b"\x8d", b"\x8e")],  # text and bytes longer than any memory
)
def any_file_of_weights_is_read_or_refused(content: bytes, changes: list, kept: float) -> None:
    with folder() as here:
        save_atomically({"weight": torch.zeros(3), "bias": torch.ones(2, dtype=torch.int64)}, path := here / "model.pt")
        whole = bytearray(path.read_bytes())
        for place, byte in changes:
            whole[int(place * (len(whole) - 1))] = byte[0]
        for damaged in (content, bytes(whole), bytes(whole[: int(kept * len(whole))])):
            path.write_bytes(damaged)
            try:
                assert isinstance(read_saved(path), dict)
            except ValueError as error:
                assert str(path) in str(error)


COMMON: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def check(name: str, **options: Any) -> None:
    function, strategies, found = PROPERTIES[name]
    prove = given(*strategies)(function)
    for case in found:
        prove = example(*case)(prove)
    settings(**COMMON, **options)(prove)()


@pytest.mark.parametrize("name", PROPERTIES)
def test_briefly(name):
    check(name, max_examples=8, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROPERTIES)
def test_at_length(name):
    check(name, max_examples=300, print_blob=True)
