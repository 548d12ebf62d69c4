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
"""Whatever a data set, its folders, cases, structures and headers are called: no command runs it, and all keep it."""

from __future__ import annotations

import csv
import html
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from bundle_runs import TINY, names_in, workflow

from scripts.data.cases import load_images
from scripts.data.pair_table import read_pair_table
from scripts.files.errors import root_cause
from scripts.files.literal import literal
from scripts.training.model_record import read_model

TOUCH = "$__import__('pathlib').Path('touched {}').touch()"  # in the folder where the test runs
STRUCTURES = {
    "1": TOUCH.format("label"),
    "2": "$import antigravity",
    "3": "@apex",
    "4": "%CT",
    "5": "50%",
    "6": "lesion #1",
    "7": "$HOME lesion </script>",
}
CASES = [TOUCH.format("case"), "$import this", "@labels", "%network_def", "c#1", "@network_def::channels", "$HOME"]
LISTS = ["labeled"] * 2 + ["unlabeled"] * 2 + ["validation"] + ["test"] * 2
SETTINGS = TINY | {"num_labeled": None, "pixdim": None, "intensity": "percentiles", "intensity_range": [1, 99]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the commands run, and what an expression of the data would leave something in."""
    folder, before = tmp_path_factory.mktemp("place"), Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="module")
def data(place, write_case):
    """A data set every word of which is an expression, a reference or a macro to MONAI."""
    folder = place / "$data @x %y #1"
    datalist: dict = {"name": TOUCH.format("name"), "labels": {"0": "background"} | STRUCTURES}
    for number, (name, kind) in enumerate(zip(CASES, LISTS, strict=True)):
        file = f"{number}{name}".replace("/", "")
        image = write_case(folder, file, range(1, 8), shape=(16, 16, 16))
        change_header(image)
        case = {"case": name, "image": f"images/{file}.nii.gz", "label": f"labels/{file}.nii.gz"}
        datalist.setdefault(kind, []).append(case)
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


def change_header(path: Path) -> None:
    image = nib.load(path)
    for field in ("descrip", "intent_name", "db_name", "aux_file"):
        image.header[field] = b"$import this"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)


def run(configs: list, run_id: str, output_dir: Path, kind: str = "train", **entries) -> None:
    entries = {"output_dir": literal(str(output_dir)), **entries}
    with workflow(configs, kind=kind, run_id=run_id, **entries) as command:
        command.run()


def touched(place: Path) -> list[str]:
    return sorted(path.name for path in place.glob("touched*"))


@pytest.fixture(scope="module")
def trained(place, data) -> Path:
    out = place / "%out $1 #2"
    run(["train.yaml"], "training", out, dataset_dir=literal(str(data)), **SETTINGS)
    return out


@pytest.fixture(params=["model.yaml", "model.json"])
def model(request, trained) -> tuple[list[str], dict]:
    if request.param == "model.yaml":
        return [str(trained / "model.yaml")], {}
    return [], read_model(trained)


def names_of(path: Path, column: str) -> set[str]:
    with open(path, newline="") as file:
        return {row[column] for row in csv.DictReader(file)}


def test_training_writes_names_and_paths_that_nothing_evaluates(place, trained):
    model = yaml.safe_load((trained / "model.yaml").read_text())
    assert json.loads(model["labels"]["text"]) == STRUCTURES
    assert json.loads(model["ckpt_dir"]["text"]) == str(trained)
    assert (trained / "model_registration.pt").is_file() and not touched(place)


def test_the_record_of_a_model_has_no_expression_in_it(trained):
    model = read_model(trained)
    assert not set("$@%#") & set(json.dumps(model).replace("\\", ""))
    assert json.loads(model["labels"]["text"]) == STRUCTURES


def test_inferring_writes_ids_under_the_names_of_the_cases(place, data, model, tmp_path):
    files, entries = model
    entries = entries | {"dataset_dir": literal(str(data)), "datalist": literal(str(data / "datalist.json"))}
    run(["inference.yaml", *files], "inferring", tmp_path, "infer", **entries)
    assert names_in(tmp_path) == {*(f"{name}_seg.nii.gz" for name in CASES), "review.csv"}
    for name in CASES:
        assert set(np.unique(nib.load(tmp_path / f"{name}_seg.nii.gz").dataobj)) <= set(range(8))
    assert not touched(place)


def test_registering_names_its_files_after_the_images(place, data, model, tmp_path):
    files, entries = model
    moving, fixed = (sorted((data / "images").iterdir())[number] for number in (0, 1))
    given = {"moving": moving, "fixed": fixed, "moving_label": data / "labels" / moving.name}
    entries = entries | {key: literal(str(path)) for key, path in given.items()}
    run(["register.yaml", *files], "registering", tmp_path, "infer", **entries)
    pair = f"{moving.name.removesuffix('.nii.gz')}_to_{fixed.name.removesuffix('.nii.gz')}"
    assert (tmp_path / f"{pair}_warp.nii.gz").is_file()
    assert json.loads((tmp_path / "summary.json").read_text())["moving"] == str(moving)
    assert not touched(place)


def test_a_table_of_pairs_gives_names_to_folders(place, data, trained, tmp_path):
    first, second = sorted((data / "images").iterdir())[:2]
    names = [TOUCH.format("pair"), "@moving"]
    with open(tmp_path / "$pairs #1.csv", "w", newline="") as file:
        csv.writer(file).writerows([("moving", "fixed", "name"), *((first, second, name) for name in names)])
    entries = {"pairs": literal(str(tmp_path / "$pairs #1.csv"))}
    configs = ["register.yaml", str(trained / "model.yaml"), "sequence.yaml"]
    run(configs, "registering", tmp_path / "out", "infer", **entries)
    assert names_in(tmp_path / "out") - {"summary.csv"} == set(names)
    assert names_of(tmp_path / "out" / "summary.csv", "name") == set(names) and not touched(place)


def test_evaluating_keeps_every_name_in_tables_and_report(place, data, model, tmp_path):
    files, entries = model
    test = json.loads((data / "datalist.json").read_text())["test"]
    pairs = [{"moving": test[0], "fixed": test[1], "name": TOUCH.format("pair")}]
    for case in test:
        case.update({key: str(data / case[key]) for key in ("image", "label")})
    (tmp_path / "pairs.json").write_text(json.dumps({"pairs": pairs}))
    out = tmp_path / "$out #1"
    entries = SETTINGS | {"report": True} | entries | {"dataset_dir": literal(str(data))}
    entries["test_pairs"] = str(tmp_path / "pairs.json")
    run(["train.yaml", "evaluate.yaml", *files], "evaluating", out, "infer", **entries)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["structures"] == list(STRUCTURES.values())
    for table in ("segmentation", "registration"):
        assert names_of(out / f"{table}.csv", "structure") == set(STRUCTURES.values())
    assert names_of(out / "segmentation.csv", "case") == set(CASES[-2:])
    report = (out / "report.html").read_text()
    assert all(html.escape(name, quote=True) in report for name in STRUCTURES.values())
    assert "lesion </script>" not in report and not touched(place)


def test_labeling_refuses_names_that_the_server_would_evaluate(place, trained, tmp_path):
    (tmp_path / "main.py").touch()
    configs = ["train.yaml", str(trained / "model.yaml"), "label.yaml"]
    with pytest.raises(RuntimeError) as failed:
        run(configs, "labeling", tmp_path, app_dir=str(tmp_path), **SETTINGS | {"labels": literal(STRUCTURES)})
    assert "'@apex', '%CT', 'lesion #1'" in str(root_cause(failed.value)) and not touched(place)


def test_labeling_keeps_what_the_server_leaves_alone(tmp_path):
    (tmp_path / "main.py").touch()
    names = {"1": "50%", "2": "left::right", "3": "costs $"}
    with workflow(
        ["train.yaml", "label.yaml"],
        run_id="labeling",
        app_dir=literal(str(tmp_path)),
        **SETTINGS | {"labels": literal(names)},
    ) as labeling:
        labeling.run()
    written = tmp_path / "model" / "deeprs" / "configs"
    channels = json.loads((written / "metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    assert channels["channel_def"] == {"0": "background"} | names
    with workflow([str(written / "inference.yaml")], "infer") as opened:
        assert opened.parser.get_parsed_content("labels") == names


@pytest.mark.parametrize("name", ["../out", "/out", "a/b", "..", ""])
def test_a_name_that_leads_out_of_the_results_is_refused(name, write_case, tmp_path, write_json):
    image = write_case(tmp_path, "a", None)
    datalist = write_json(tmp_path / "datalist.json", {"test": [{"case": name, "image": str(image)}]})
    pairs = write_json(tmp_path / "pairs.json", {"pairs": [{"moving": "a", "fixed": "b", "name": name}]})
    if not name:  # is no name, and the file has one
        assert load_images(tmp_path, datalist)[0]["case"] == "a"
        assert read_pair_table(pairs)[0]["name"] == "a_to_b"
        return
    for read in (lambda: load_images(tmp_path, datalist), lambda: read_pair_table(pairs)):
        with pytest.raises(ValueError, match="no name for a file"):
            read()
