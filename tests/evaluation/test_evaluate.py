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
"""What is measured and written: analytic scores on cubes, the form of the files, which pairs are drawn."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from nibabel.orientations import axcodes2ornt, ornt_transform
from tiny_networks import CONFIGS, ByBrightness, SameShift

import scripts.evaluation.evaluate

SPACING = np.diag([2.0, 2.0, 2.0, 1.0])
LABELS = {"10": "cube", "250": "slab"}
MEASURES = {"dice", "hd95", "asd", "surface_dice_1", "surface_dice_2"}
SHIFT = {"_target_": "tiny_networks.SameShift", "shift": [2.0, 0.0, 0.0]}
STAY = {"_target_": "tiny_networks.SameShift"}
READS_BRIGHTNESS = {"_target_": "tiny_networks.ByBrightness", "num_classes": 3}


def classes(shift: int = 0, shape: tuple[int, int, int] = (20, 22, 18), slab: bool = True) -> np.ndarray:
    """A cube of side 8 and, below it, a slab of 8 x 8 x 2; ``shift`` voxels along the first axis from the centre."""
    label = np.zeros(shape, np.int16)
    first, second, third = (size // 2 - 4 for size in shape)
    label[first + shift : first + shift + 8, second : second + 8, third : third + 8] = 1
    if slab:
        label[first + shift : first + shift + 8, second : second + 8, third - 3 : third - 1] = 2
    return label


@pytest.fixture
def dataset(write_volume, write_json, tmp_path):
    """``dataset({name: array of classes})``: a folder whose datalist has nothing but a test list."""

    def write(arrays: dict[str, np.ndarray]) -> Path:
        cases = []
        for name, array in arrays.items():
            write_volume(tmp_path / "images" / f"{name}.nii.gz", (array * 50.0).astype(np.float32), SPACING)
            ids = np.array([0, *map(int, LABELS)], np.int16)[array]
            write_volume(tmp_path / "labels" / f"{name}.nii.gz", ids, SPACING)
            cases.append({"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"})
        write_json(tmp_path / "datalist.json", {"labels": LABELS, "test": cases})
        return tmp_path

    return write


def evaluate(folder: Path, networks: dict, **entries) -> tuple[dict, Path]:
    """Evaluate by the shipped config with networks whose answers are known; what was returned, and the folder."""
    out = Path(entries.pop("output_dir", folder / "out"))
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.yaml"), str(CONFIGS / "evaluate.yaml")])
    parser.update({"evaluation::networks": networks, "dataset_dir": str(folder), "output_dir": str(out)})
    parser.update({"ckpt_dir": "none", "intensity": "window", "intensity_range": [0, 100]})
    parser.update({"spatial_size": [24, 24, 24], "sampling": None} | entries)
    return parser.get_parsed_content("evaluation").run(), out


def rows_of(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_perfect_segmentation_scores_one_and_no_millimetre(dataset):
    folder = dataset({"a": classes(), "b": classes(1, (23, 19, 20)), "c": classes(-2)})
    metrics, out = evaluate(folder, {"segmentation": READS_BRIGHTNESS}, tasks=["segmentation"])
    assert metrics["segmentation"]["n"] == 3
    for measure, best in {**dict.fromkeys(MEASURES, 1.0), "hd95": 0.0, "asd": 0.0}.items():
        summary = metrics["segmentation"][measure]
        assert (summary["mean"], summary["std"]) == (best, 0.0)
        assert summary["per_structure"] == {name: {"mean": best, "std": 0.0, "n": 3} for name in LABELS.values()}
    assert not (out / "registration.csv").exists() and "registration" not in metrics


def test_a_registration_that_undoes_a_shift_scores_one_and_identity_what_is_left_to_do(dataset):
    # cubes of side 8, two voxels of 2 mm apart: 6 of 8 layers overlap, and a quarter of the surface is 4 mm away
    folder = dataset({"moving": classes(2, (24, 22, 18)), "fixed": classes()})
    metrics, _ = evaluate(folder, {"registration": SHIFT}, tasks=["registration"], max_pairs=1, seed=1)
    pair = rows_of(folder / "out" / "registration.csv")[0]
    assert (pair["moving"], pair["fixed"]) == ("moving", "fixed")
    assert metrics["registration"]["dice"]["mean"] == 1.0 and metrics["registration"]["hd95"]["mean"] == 0.0
    assert metrics["identity"]["dice"]["mean"] == pytest.approx(0.75)
    assert metrics["identity"]["hd95"]["mean"] == pytest.approx(4.0)
    assert 0 < metrics["identity"]["asd"]["mean"] < 2
    assert metrics["registration"]["folding_percent"]["mean"] == metrics["registration"]["sdlogj"]["mean"] == 0


def test_a_volume_on_itself_is_identical_without_registration(dataset, write_json):
    folder = dataset({"a": classes(), "b": classes(1)})
    case = {"image": "images/b.nii.gz", "label": "labels/b.nii.gz"}
    pairs = write_json(folder / "pairs.json", {"pairs": [{"moving": case, "fixed": case}]})
    metrics, out = evaluate(folder, {"registration": SHIFT}, tasks=["registration"], test_pairs=str(pairs))
    assert [(row["moving"], row["fixed"]) for row in rows_of(out / "registration.csv")] == [("b", "b")] * 2
    assert metrics["identity"]["dice"]["mean"] == 1.0 and metrics["identity"]["hd95"]["mean"] == 0.0
    assert metrics["registration"]["dice"]["mean"] == pytest.approx(0.75)


def test_the_files_have_the_form_that_is_documented(dataset):
    folder = dataset({"a": classes(), "b": classes(1), "c": classes(3)})
    returned, out = evaluate(folder, {"segmentation": READS_BRIGHTNESS, "registration": STAY})
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(returned))
    assert set(metrics) == {"segmentation", "registration", "identity", "structures", "config", "written_by"}
    assert set(metrics["segmentation"]) == MEASURES | {"n"}
    assert set(metrics["identity"]) == MEASURES | {"n", "local_ncc"}
    of_field = {"folding_percent", "sdlogj", "seconds", "local_ncc"}
    assert set(metrics["registration"]) == MEASURES | of_field | {"n", "similarity_worse"}
    for task in ("segmentation", "registration", "identity"):
        for measure in MEASURES:
            assert set(metrics[task][measure]) == {"mean", "std", "n", "values", "per_structure"}
            assert list(metrics[task][measure]["per_structure"]) == list(LABELS.values())
    assert {key: set(metrics["registration"][key]) for key in ("folding_percent", "sdlogj", "seconds")} == {
        key: {"mean", "std", "n"} for key in ("folding_percent", "sdlogj", "seconds")
    }
    assert (metrics["segmentation"]["n"], metrics["registration"]["n"], metrics["identity"]["n"]) == (3, 6, 6)
    segmentation, registration = (rows_of(out / f"{task}.csv") for task in ("segmentation", "registration"))
    assert [(row["case"], row["structure"]) for row in segmentation] == [(c, s) for c in "abc" for s in LABELS.values()]
    assert len(registration) == 12 and list(registration[0]) == [
        *("moving", "fixed", "structure", "dice", "hd95", "asd", "surface_dice_1", "surface_dice_2"),
        *("identity_dice", "identity_hd95", "identity_asd", "identity_surface_dice_1", "identity_surface_dice_2"),
        *("folding_percent", "sdlogj", "seconds", "local_ncc_before", "local_ncc_after", "similarity_worse"),
    ]
    names = {f"{task}_{rank}.npz" for task in ("segmentation", "registration") for rank in ("worst", "median", "best")}
    assert {path.name for path in (out / "examples").iterdir()} == names


def test_means_are_over_cases_and_spread_is_between_them(dataset):
    folder = dataset({"a": classes(), "b": classes(4)})
    metrics, out = evaluate(folder, {"registration": STAY}, tasks=["registration"])
    dice = [float(row["dice"]) for row in rows_of(out / "registration.csv")]
    assert dice == [0.5] * 4
    assert (metrics["registration"]["dice"]["mean"], metrics["registration"]["dice"]["std"]) == (0.5, 0.0)


def test_a_structure_that_is_nowhere_has_no_score_and_the_rest_is_averaged_without_it(dataset):
    folder = dataset({"a": classes(slab=False), "b": classes(), "c": classes(slab=False)})
    metrics, out = evaluate(folder, {"segmentation": READS_BRIGHTNESS}, tasks=["segmentation"])
    assert metrics["segmentation"]["dice"]["per_structure"]["slab"]["n"] == 1
    assert metrics["segmentation"]["dice"]["mean"] == 1.0
    empty = next(row for row in rows_of(out / "segmentation.csv") if (row["case"], row["structure"]) == ("a", "slab"))
    assert (empty["dice"], empty["hd95"], empty["asd"]) == ("", "", "")


def test_what_was_missed_has_no_distance_which_every_table_says_and_a_surface_dice_of_0(dataset, caplog):
    caplog.set_level("INFO")
    folder = dataset({"a": classes(), "b": classes(1)})
    image = nib.load(path := folder / "images" / "b.nii.gz")
    array = image.get_fdata(dtype=np.float32)
    nib.save(nib.Nifti1Image(np.where(array == 100, 0, array), image.affine), path)  # the slab is not to be seen
    metrics, out = evaluate(folder, {"segmentation": READS_BRIGHTNESS}, tasks=["segmentation"], report=True)
    slab = {measure: metrics["segmentation"][measure]["per_structure"]["slab"] for measure in MEASURES}
    assert slab["hd95"] == slab["asd"] == {"mean": 0.0, "std": 0.0, "n": 1}
    for measure in ("dice", "surface_dice_1", "surface_dice_2"):
        assert slab[measure] == {"mean": 0.5, "std": 0.5, "n": 2}
    assert (metrics["segmentation"]["hd95"]["values"], metrics["segmentation"]["dice"]["values"]) == (3, 4)
    line = next(line for line in caplog.text.splitlines() if line.strip().startswith("slab"))
    assert line.count("(1 of 2)") == 2
    assert "(1 of 2)" in (out / "report.html").read_text() and "(3 of 4)" in (out / "report.html").read_text()


def test_an_empty_label_is_scored_without_dice_where_nothing_is_found_and_as_0_where_something_is(dataset, caplog):
    folder = dataset({"a": classes(), "healthy": classes(slab=False), "invented": classes()})
    for name in ("healthy", "invented"):
        image = nib.load(path := folder / "labels" / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    image = nib.load(path := folder / "images" / "healthy.nii.gz")
    nib.save(nib.Nifti1Image(0.1 * image.get_fdata(dtype=np.float32), image.affine), path)  # too dark to be found
    metrics, out = evaluate(folder, {"segmentation": READS_BRIGHTNESS}, tasks=["segmentation"], report=True)
    assert metrics["segmentation"]["n"] == 3
    for measure, n in {**dict.fromkeys(MEASURES, 2), "hd95": 1, "asd": 1}.items():
        assert metrics["segmentation"][measure]["n"] == n
    assert metrics["segmentation"]["dice"]["mean"] == metrics["segmentation"]["surface_dice_1"]["mean"] == 0.5
    rows = {(row["case"], row["structure"]): row for row in rows_of(out / "segmentation.csv")}
    assert [rows["healthy", "cube"][measure] for measure in ("dice", "hd95", "surface_dice_1")] == ["", "", ""]
    assert [rows["invented", "cube"][measure] for measure in ("dice", "hd95", "surface_dice_1")] == ["0", "", "0"]
    assert "the label of healthy, invented is empty" in caplog.text


def test_pairs_that_registration_made_less_alike_are_counted_and_told(dataset, caplog):
    folder = dataset({"a": classes(), "b": classes()})
    metrics, out = evaluate(folder, {"registration": SHIFT}, tasks=["registration"], report=True)
    assert metrics["registration"]["similarity_worse"] == 2
    assert metrics["registration"]["local_ncc"]["mean"] < metrics["identity"]["local_ncc"]["mean"]
    assert {row["similarity_worse"] for row in rows_of(out / "registration.csv")} == {"1"}
    assert "2 of 2 registrations made the images less alike" in caplog.text
    assert "In 2 of 2 pairs registration made the images less alike" in (out / "report.html").read_text()
    metrics, _ = evaluate(folder, {"registration": STAY}, tasks=["registration"])
    assert metrics["registration"]["similarity_worse"] == 0


def test_an_image_that_preprocessing_cannot_scale_is_told_before_anything_is_scored(dataset):
    folder = dataset({"a": classes(), "b": classes(1)})
    image = nib.load(path := folder / "images" / "b.nii.gz")
    sparse = np.zeros(image.shape, np.float32)
    sparse[8:11, 8:11, 8:11] = 500
    nib.save(nib.Nifti1Image(sparse, image.affine), path)
    with pytest.raises(ValueError, match=r"case 'b': after preprocessing its values lie in \[0, 500\]"):
        evaluate(folder, {}, tasks=["segmentation", "registration"], intensity="percentiles", intensity_range=[1, 99])
    assert not (folder / "out").exists()


def test_a_structure_that_no_case_has_is_null_in_the_file_and_does_not_spoil_the_report(dataset):
    folder = dataset({"a": classes(slab=False), "b": classes(1, slab=False)})
    _, out = evaluate(folder, {"segmentation": READS_BRIGHTNESS, "registration": STAY}, report=True)

    def refuse(constant: str):
        raise AssertionError(f"{constant} is not JSON")

    metrics = json.loads((out / "metrics.json").read_text(), parse_constant=refuse)
    for task in ("segmentation", "registration"):
        assert metrics[task]["hd95"]["per_structure"]["slab"] == {"mean": None, "std": None, "n": 0}
        assert math.isfinite(metrics[task]["hd95"]["mean"])
    assert ">nan" not in (out / "report.html").read_text().lower()


def test_what_was_not_drawn_or_is_to_be_ignored_is_not_scored(dataset, write_json):
    folder = dataset({"whole": classes(), "part": classes(), "spoilt": classes()})
    for name in ("part", "spoilt"):  # the images show both structures still
        label = nib.load(folder / "labels" / f"{name}.nii.gz")
        ids = np.asarray(label.dataobj).copy()
        ids[ids == 250] = 0 if name == "part" else 251
        nib.save(nib.Nifti1Image(ids, label.affine), folder / "labels" / f"{name}.nii.gz")
    content = json.loads((folder / "datalist.json").read_text())
    content["labels"]["251"] = "ignore"
    content["test"][1]["missing"] = ["slab"]
    write_json(folder / "datalist.json", content)
    metrics, out = evaluate(folder, {"segmentation": READS_BRIGHTNESS, "registration": STAY})
    assert metrics["structures"] == list(LABELS.values())
    for task, count in (("segmentation", 3), ("registration", 6)):
        structures = metrics[task]["dice"]["per_structure"]
        assert structures["cube"] == {"mean": 1.0, "std": 0.0, "n": count}
        # the slab is scored where it was drawn: in one case, and in no pair, as none has it in both
        assert structures["slab"]["n"] == (1 if task == "segmentation" else 0)


@pytest.mark.parametrize(("value", "made"), [(True, True), ("true", True), (False, False), ("false", False)])
def test_a_report_is_made_on_request_as_the_command_line_spells_it(value, made, dataset):
    folder = dataset({"a": classes(), "b": classes(1)})
    _, out = evaluate(folder, {"segmentation": READS_BRIGHTNESS}, tasks=["segmentation"], report=value)
    assert (out / "report.html").is_file() is made


def test_the_pictured_cases_are_the_worst_the_median_and_the_best(dataset):
    folder = dataset({"fixed": classes(), "near": classes(1), "far": classes(3), "farther": classes(5)})
    _, out = evaluate(folder, {"registration": STAY}, tasks=["registration"])
    dice = sorted(float(row["dice"]) for row in rows_of(out / "registration.csv"))[::2]
    for rank, expected in (("worst", dice[0]), ("median", dice[len(dice) // 2]), ("best", dice[-1])):
        with np.load(out / "examples" / f"registration_{rank}.npz") as example:
            assert float(example["dice"]) == pytest.approx(expected, abs=1e-5)
            overlap = (example["warped_label"] == 1) & (example["fixed_label"] == 1)
            assert 2 * overlap.sum() / (2 * 8**3) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_the_kept_volumes_know_where_they_lie_in_the_patient(dataset, codes):
    folder = dataset({"a": classes(), "b": classes(1)})
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    for path in (*(folder / "images").iterdir(), *(folder / "labels").iterdir()):
        nib.save(nib.load(path).as_reoriented(turn), path)
    networks = {"segmentation": READS_BRIGHTNESS, "registration": STAY}
    _, out = evaluate(folder, networks, orientation=codes, max_pairs=1)
    slab = nib.affines.apply_affine(SPACING, np.argwhere(classes() == 2).mean(axis=0))
    for name, label in (("segmentation_best", "label"), ("registration_best", "moving_label")):
        with np.load(out / "examples" / f"{name}.npz") as example:
            voxels = np.argwhere(example[label] == 2)
            found = nib.affines.apply_affine(example["affine"], voxels.mean(axis=0))
            assert "".join(nib.aff2axcodes(example["affine"])) == ("RAS" if "segmentation" in name else codes)
            assert np.abs(found - slab)[1:].max() < 2.1 and abs(found[0] - slab[0]) < 4.1  # which case, and the crop


def test_in_all_pairs_of_n_cases_each_is_segmented_once_and_no_pair_is_registered_again(dataset, monkeypatch):
    asked = {"S": 0, "R": 0}

    def counting(name: str, forward):
        def counted(self, image, *others):
            asked[name] += 1
            return forward(self, image, *others)

        return counted

    monkeypatch.setattr(ByBrightness, "forward", counting("S", ByBrightness.forward))
    monkeypatch.setattr(SameShift, "forward", counting("R", SameShift.forward))
    folder = dataset({"a": classes(), "b": classes(1), "c": classes(-2)})
    state = {"_target_": "scripts.methods.GuidedState", "_mode_": "callable", "num_classes": 3}
    evaluate(folder, {"segmentation": READS_BRIGHTNESS, "registration": STAY}, state=state)
    # S: three cases for their scores, then two and one for the pairs; R: six pairs; nothing for the pictures
    assert asked == {"S": 3 + 2, "R": 6}


def test_a_subject_of_both_tasks_is_read_once(dataset, monkeypatch):
    read = []
    plain = scripts.evaluation.evaluate.load_subject
    monkeypatch.setattr(
        "scripts.evaluation.evaluate.load_subject", lambda case, *rest: read.append(case["case"]) or plain(case, *rest)
    )
    evaluate(dataset({"a": classes(), "b": classes(1)}), {"segmentation": READS_BRIGHTNESS, "registration": STAY})
    assert sorted(read) == ["a", "b"]


def test_a_test_list_that_is_empty_and_no_pairs_is_an_error_that_says_so(dataset, write_json):
    folder = dataset({"a": classes()})
    case = {"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}
    write_json(folder / "datalist.json", {"labels": LABELS, "labeled": [case]})
    with pytest.raises(ValueError, match=r"(?s)no `test` cases, and no --test_pairs.*Label more cases"):
        evaluate(folder, {"segmentation": READS_BRIGHTNESS, "registration": STAY}, num_labeled=1)


def test_one_test_case_is_segmented_and_its_missing_pair_is_told(dataset, caplog):
    caplog.set_level("INFO")
    networks = {"segmentation": READS_BRIGHTNESS, "registration": STAY}
    metrics, _ = evaluate(dataset({"a": classes()}), networks)
    assert metrics["segmentation"]["n"] == 1 and "registration" not in metrics
    assert "one test case makes no pair: registration is not scored" in caplog.text


def test_a_task_given_as_a_word_is_that_task(dataset):
    metrics, _ = evaluate(dataset({"a": classes(), "b": classes(2)}), {"registration": STAY}, tasks="registration")
    assert metrics["registration"]["n"] == 2 and "segmentation" not in metrics


def test_a_pair_without_labels_cannot_be_scored_and_is_named(dataset, write_json):
    folder = dataset({"a": classes(), "b": classes(1)})
    pairs = [{"moving": {"image": "images/a.nii.gz"}, "fixed": {"image": "images/b.nii.gz"}}]
    path = write_json(folder / "pairs.json", {"pairs": pairs})
    with pytest.raises(ValueError, match="case 'a': a test case needs a label.*\n.* or give both landmarks"):
        evaluate(folder, {"registration": STAY}, tasks=["registration"], test_pairs=str(path))


@pytest.mark.parametrize(
    ("spoilt", "value", "message"),
    [
        ("labels", 7, r"case 'c': unknown label 7 \(1 voxel\)"),
        ("images", np.nan, "case 'c': the image holds 1 values that"),
    ],
)
def test_a_faulty_file_is_told_before_anything_is_scored(dataset, spoilt, value, message):
    folder = dataset({"a": classes(), "b": classes(1), "c": classes(-2)})
    image = nib.load(path := folder / spoilt / "c.nii.gz")
    array = np.asarray(image.dataobj).astype(np.float32)
    array[0, 0, 0] = value
    nib.save(nib.Nifti1Image(array, image.affine), path)
    with pytest.raises(ValueError, match=message):
        evaluate(folder, {}, tasks=["segmentation", "registration"])  # a first score would take a network
    assert not (folder / "out").exists()


def test_forty_pairs_of_seed_zero_are_the_published_ones_and_overlap_by_half(hippocampus, tmp_path):
    # half of the structures' voxels overlap when nothing is done: 52 percent, known from other programs
    metrics, out = evaluate(
        hippocampus,
        {},
        tasks=["registration"],
        max_pairs=40,
        spatial_size=[40, 56, 40],
        intensity="percentiles",
        intensity_range=[1, 99],
        output_dir=tmp_path / "out",
    )
    published = json.loads((hippocampus / "test_pairs.json").read_text())["pairs"]
    names = [tuple(Path(pair[role]["image"]).name.split(".")[0] for role in ("moving", "fixed")) for pair in published]
    assert [(row["moving"], row["fixed"]) for row in rows_of(out / "registration.csv")[::2]] == names
    assert metrics["identity"]["n"] == 40
    assert metrics["identity"]["dice"]["mean"] == pytest.approx(0.52, abs=0.01)
    assert metrics["registration"]["dice"] == metrics["identity"]["dice"]
