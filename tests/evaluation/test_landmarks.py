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

"""The target registration error in millimetres: fields and landmarks whose distances are known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_runs import succeed
from scipy.spatial.transform import Rotation
from test_evaluate import LABELS, classes, evaluate
from tiny_networks import Waves

from scripts.evaluation.landmarks import Landmarks
from scripts.fields.points import PointSet, write_points

SIZE = (24, 24, 24)
SHIFT = (2.0, -1.0, 3.0)
VOXELS = np.array([(8.0, 9.0, 7.0), (15.0, 11.0, 14.0), (10.5, 16.25, 9.0)])
NAMES = ("apex", "root", "valve")


def tilted(degrees, spacing, origin):
    """A grid of its own: turned about all axes, of long voxels, anywhere in the scanner."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


AFFINES = {
    "moving": tilted((9, -7, 4), (1.5, 2, 1), (40, -10, 200)),
    "fixed": tilted((-5, 3, 8), (2, 1, 1.2), (-7, 0, 3)),
}


def world(role, voxels):
    return voxels @ AFFINES[role][:3, :3].T + AFFINES[role][:3, 3]


@pytest.fixture
def dataset(write_volume, write_json, tmp_path):
    """Two cases of the size of the networks' grid, so that their voxels are those of the files."""
    cases = []
    for name, affine in AFFINES.items():
        ids = np.array([0, *map(int, LABELS)], np.int16)[classes(shape=SIZE)]
        write_volume(tmp_path / "images" / f"{name}.nii.gz", (classes(shape=SIZE) * 50.0).astype(np.float32), affine)
        write_volume(tmp_path / "labels" / f"{name}.nii.gz", ids, affine)
        cases.append({"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"})
    write_json(tmp_path / "datalist.json", {"labels": LABELS, "test": cases})
    (tmp_path / "landmarks").mkdir()
    return tmp_path


def mark(dataset, role, voxels, offset=(0, 0, 0), names=NAMES, suffix=".csv", coordinates="RAS"):
    """Write landmarks at voxels of a case, all of them off by some millimetres."""
    points = PointSet(world(role, voxels) + np.array(offset), names, coordinates)
    write_points(dataset / "landmarks" / f"{role}{suffix}", points)


def evaluated(dataset, network, coordinates="RAS"):
    """The figures and the rows of the pair moving -> fixed."""
    options = {"landmarks": str(dataset / "landmarks"), "coordinates": coordinates, "max_pairs": 1, "seed": 1}
    metrics, out = evaluate(dataset, {"registration": network}, tasks=["registration"], **options)
    with open(out / "landmarks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["moving"], row["fixed"]) for row in rows} == {("moving", "fixed")}
    return metrics, {row["landmark"]: (float(row["tre"]), float(row["identity_tre"])) for row in rows}


SAME_SHIFT = {"_target_": "tiny_networks.SameShift", "shift": list(SHIFT)}


def test_the_error_is_what_the_marks_are_off_and_without_registration_the_shift_comes_to_it(dataset):
    offset = np.array((0.3, 0.0, 0.4))  # mm: half a millimetre
    mark(dataset, "fixed", VOXELS)
    mark(dataset, "moving", VOXELS + SHIFT, offset)
    metrics, rows = evaluated(dataset, SAME_SHIFT)
    before = np.linalg.norm(AFFINES["moving"][:3, :3] @ SHIFT + offset)
    assert list(rows) == list(NAMES)
    for tre, identity in rows.values():
        assert tre == pytest.approx(0.5, abs=1e-4) and identity == pytest.approx(before, abs=1e-4)
    expected = {"mean": 0.5, "std": 0.0, "n": 1, "landmarks": 3, "max": 0.5}
    assert metrics["registration"]["tre"] == pytest.approx(expected, abs=1e-4)
    assert metrics["identity"]["tre"]["mean"] == pytest.approx(before, abs=1e-4)
    assert json.loads((dataset / "out" / "metrics.json").read_text())["identity"]["tre"] == metrics["identity"]["tre"]


def test_a_field_that_bends_carries_each_landmark_by_its_own_displacement(dataset):
    voxels = VOXELS.round()
    field = Waves(2.0)(None, torch.zeros(1, 1, *SIZE))[0].numpy()
    displacement = np.array([field[:, x, y, z] for x, y, z in voxels.astype(int)])
    assert np.ptp(displacement, axis=0).max() > 0.5
    mark(dataset, "fixed", voxels)
    mark(dataset, "moving", voxels + displacement)
    _, rows = evaluated(dataset, {"_target_": "tiny_networks.Waves", "amplitude": 2.0})
    for (tre, identity), vector in zip(rows.values(), displacement, strict=True):
        assert tre == pytest.approx(0, abs=1e-3)  # a map is rounded
        assert identity == pytest.approx(np.linalg.norm(AFFINES["moving"][:3, :3] @ vector), abs=1e-4)


@pytest.mark.parametrize(("suffix", "stated"), [(".csv", "LPS"), (".fcsv", None), (".mrk.json", None)])
def test_files_of_other_programs_give_the_same(dataset, suffix, stated):
    for role, voxels in (("fixed", VOXELS), ("moving", VOXELS + SHIFT)):
        mark(dataset, role, voxels, suffix=suffix, coordinates="LPS")
    _, rows = evaluated(dataset, SAME_SHIFT, coordinates=stated)
    assert max(tre for tre, _ in rows.values()) < 1e-3  # the accuracy of the formats


def test_landmarks_belong_together_by_name_and_those_of_one_image_alone_are_left_out(dataset):
    mark(dataset, "fixed", VOXELS)
    mark(dataset, "moving", VOXELS[[2, 0]] + SHIFT, names=("valve", "apex"))
    metrics, rows = evaluated(dataset, SAME_SHIFT)
    assert list(rows) == ["apex", "valve"] and max(tre for tre, _ in rows.values()) < 1e-4
    assert metrics["registration"]["tre"]["landmarks"] == 2


def test_without_landmarks_nothing_is_said_of_them(dataset):
    metrics, out = evaluate(dataset, {"registration": SAME_SHIFT}, tasks=["registration"])
    assert "tre" not in metrics["registration"] and not (out / "landmarks.csv").exists()


def pairs_of(dataset, write_json, *labelled):
    """The pair moving -> fixed of which only some cases name their label, as a file for ``test_pairs``."""
    cases = {role: {"image": f"images/{role}.nii.gz"} for role in AFFINES}
    for role in labelled:
        cases[role]["label"] = f"labels/{role}.nii.gz"
    return str(write_json(dataset / "pairs.json", {"pairs": [cases]}))


@pytest.mark.parametrize("labelled", [(), ("moving",)])
def test_a_pair_without_labels_is_scored_by_its_landmarks_alone(dataset, write_json, labelled):
    mark(dataset, "fixed", VOXELS)
    mark(dataset, "moving", VOXELS + SHIFT)
    options = {"landmarks": str(dataset / "landmarks"), "coordinates": "RAS", "report": True}
    options["test_pairs"] = pairs_of(dataset, write_json, *labelled)
    metrics, out = evaluate(dataset, {"registration": SAME_SHIFT}, tasks=["registration"], **options)
    figures = metrics["registration"]
    assert figures["tre"]["mean"] == pytest.approx(0, abs=1e-4) and metrics["identity"]["tre"]["mean"] > 1
    assert figures["folding_percent"] == {"mean": 0.0, "std": 0.0, "n": 1} and figures["seconds"]["n"] == 1
    assert figures["n"] == 1 and figures["dice"]["n"] == figures["hd95"]["n"] == metrics["identity"]["dice"]["n"] == 0
    with open(out / "registration.csv", newline="") as file:
        assert {(row["dice"], row["identity_dice"], row["folding_percent"]) for row in csv.DictReader(file)} == {
            ("", "", "0")
        }
    assert not list(out.glob("examples/*"))
    assert "1, 0 with labels" in (out / "report.html").read_text()


def test_a_label_that_one_pair_names_holds_for_the_image_in_all_of_them(dataset, write_json):
    mark(dataset, "fixed", VOXELS)
    mark(dataset, "moving", VOXELS + SHIFT)
    bare = {"image": "images/fixed.nii.gz"}
    full = {role: {"image": f"images/{role}.nii.gz", "label": f"labels/{role}.nii.gz"} for role in AFFINES}
    pairs = [full, {"moving": full["moving"], "fixed": bare}]
    path = write_json(dataset / "pairs.json", {"pairs": pairs})
    options = {"landmarks": str(dataset / "landmarks"), "coordinates": "RAS", "test_pairs": str(path)}
    metrics, _ = evaluate(dataset, {"registration": SAME_SHIFT}, tasks=["registration"], **options)
    assert metrics["registration"]["dice"]["n"] == metrics["registration"]["n"] == 1


def test_landmarks_of_other_pairs_do_not_make_up_for_a_missing_label(dataset, write_json):
    mark(dataset, "fixed", VOXELS)
    mark(dataset, "moving", VOXELS)
    first = json.loads(Path(pairs_of(dataset, write_json)).read_text())["pairs"]
    other = {"moving": {"image": "images/moving.nii.gz", "case": "other"}, "fixed": {"image": "images/fixed.nii.gz"}}
    path = write_json(dataset / "pairs.json", {"pairs": [*first, other]})
    options = {"landmarks": str(dataset / "landmarks"), "coordinates": "RAS", "test_pairs": str(path)}
    with pytest.raises(ValueError, match="case 'other': a test case needs a label"):
        evaluate(dataset, {"registration": SAME_SHIFT}, tasks=["registration"], **options)


def test_points_outside_the_fixed_image_are_counted_in_one_warning_that_asks_for_their_system(dataset, caplog):
    for role in AFFINES:
        mark(dataset, role, VOXELS, coordinates="LPS")
    evaluated(dataset, SAME_SHIFT, coordinates="LPS")
    assert "outside the fixed image" not in caplog.text
    evaluated(dataset, SAME_SHIFT, coordinates="RAS")  # taken for what they are not, they lie on the other side
    (warning,) = [record.getMessage() for record in caplog.records if "outside the fixed" in record.getMessage()]
    assert warning.startswith("3 of 3 landmarks, in 1 of 1 pairs, lie outside") and "LPS or RAS?" in warning


def test_points_on_the_outer_faces_of_the_fixed_image_are_inside_and_only_those_beyond_are_counted(dataset, caplog):
    voxels = np.array([(-0.49, 9.0, 7.0), (15.0, 23.49, 14.0), (10.5, 16.25, -0.6)])
    for role in AFFINES:
        mark(dataset, role, voxels)
    evaluated(dataset, SAME_SHIFT)
    assert "1 of 3 landmarks, in 1 of 1 pairs, lie outside the fixed image" in caplog.text


# ---- faults, all of them before anything is registered


@pytest.mark.parametrize(
    ("moving", "fixed", "message"),
    [
        (None, NAMES, "no test pair has landmarks in both"),
        (("one", "two", "three"), NAMES, "share no name"),
        (("apex", "apex", "root"), NAMES, "every landmark needs a name of its own"),
    ],
)
def test_landmarks_that_belong_to_no_pair_are_refused(dataset, moving, fixed, message):
    for role, names in (("moving", moving), ("fixed", fixed)):
        if names is not None:
            mark(dataset, role, VOXELS, names=names)
    with pytest.raises(ValueError, match=message):
        evaluated(dataset, SAME_SHIFT)
    assert not (dataset / "out").exists()


def test_a_csv_that_nobody_said_the_coordinates_of_is_refused(dataset):
    mark(dataset, "fixed", VOXELS)
    mark(dataset, "moving", VOXELS)
    with pytest.raises(ValueError, match="LPS or RAS"):
        evaluated(dataset, SAME_SHIFT, coordinates=None)


def test_a_folder_without_landmarks_and_two_files_of_a_case_are_refused(dataset):
    with pytest.raises(FileNotFoundError, match=r"no landmarks in .*expected CASE\.csv"):
        Landmarks(dataset / "landmarks")
    for suffix in (".csv", ".fcsv"):
        mark(dataset, "fixed", VOXELS, suffix=suffix)
    with pytest.raises(ValueError, match="'fixed' has two files"):
        Landmarks(dataset / "landmarks")


# ---- the command


@pytest.mark.slow
def test_the_command_prints_the_error_of_the_shipped_weights(dataset, tmp_path):
    for role in AFFINES:
        mark(dataset, role, VOXELS)
    configs = ["train.yaml", "data/hippocampus.yaml", "recipes/best.yaml", "evaluate.yaml"]
    configs = [f"configs/{name}" for name in configs]
    options = {"landmarks": dataset / "landmarks", "coordinates": "RAS", "labels": "$None"}
    options["tasks"] = "['registration']"
    said = succeed("evaluating", configs, dataset_dir=dataset, output_dir=tmp_path / "out", **options)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert f"TRE {metrics['identity']['tre']['mean']:.3f}" in said
    assert metrics["identity"]["tre"] == pytest.approx(
        {"mean": 0, "std": 0, "n": 2, "landmarks": 6, "max": 0}, abs=1e-4
    )
    assert f"TRE {metrics['registration']['tre']['mean']:.3f}" in said and "6 landmarks in 2 pairs" in said


def test_landmarks_that_were_never_placed_do_not_count(tmp_path):
    for case, shift in (("one", 0.0), ("other", 2.0)):
        points = [
            {"label": name, "position": [shift + k, 0.0, 0.0], "positionStatus": status}
            for k, (name, status) in enumerate([("a", "defined"), ("b", "undefined" if case == "one" else "defined")])
        ]
        markup = {"type": "Fiducial", "coordinateSystem": "RAS", "controlPoints": points}
        (tmp_path / f"{case}.mrk.json").write_text(json.dumps({"markups": [markup]}))
    names, there, here = Landmarks(tmp_path).of_pair("one", "other")
    assert names == ["a"]
    assert there.tolist() == [[0.0, 0.0, 0.0]] and here.tolist() == [[2.0, 0.0, 0.0]]
