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
"""Reading and writing points: what the three formats say, and what they leave unsaid."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scripts.fields.points import PointSet, points_suffix, read_point_set, read_points, write_points

RAS = np.array([[10.5, -20.25, 30.0], [-1.0, 2.0, -3.125]])
LPS = RAS * [-1, -1, 1]
FORMATS = pytest.mark.parametrize("name", ["points.csv", "points.fcsv", "points.mrk.json"])


def saved(path, text):
    path.write_text(text)
    return path


@FORMATS
@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_written_points_come_back_with_their_names_and_system(name, system, tmp_path):
    write_points(tmp_path / name, PointSet(RAS, ("apex", "valve, left"), system))
    read = read_point_set(tmp_path / name, system)
    np.testing.assert_allclose(read.positions, RAS)
    assert (read.names, read.coordinates) == (("apex", "valve, left"), system)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "text",
    [
        "x,y,z\n-10.5,20.25,30\n1,-2,-3.125\n",
        "-10.5,20.25,30\n1,-2,-3.125\n",  # no header
        "\ufeffName,X,Y,Z\n a ,-10.5,20.25,30\nb,1,-2,-3.125\n\n",  # as a spreadsheet saves it
        "x,y,z,t,label\n-10.5,20.25,30,0,1\n1,-2,-3.125,0,2\n",  # of ANTs
        "label,z,y,x\na,30,20.25,-10.5\nb,-3.125,-2,1\n",
    ],
)
def test_a_csv_in_lps_is_turned_into_ras(text, tmp_path):
    np.testing.assert_allclose(read_points(saved(tmp_path / "points.csv", text), "LPS"), RAS)
    np.testing.assert_allclose(read_points(tmp_path / "points.csv", "RAS"), LPS)


def test_points_without_names_are_numbered(tmp_path):
    assert read_point_set(saved(tmp_path / "points.csv", "1,2,3\n4,5,6\n"), "RAS").names == ("1", "2")


@pytest.mark.parametrize(
    ("system", "expected"), [("LPS", RAS), ("RAS", LPS), ("0", LPS), ("1", RAS)], ids=["LPS", "RAS", "0", "1"]
)
def test_an_fcsv_as_slicer_writes_it_says_its_system(system, expected, tmp_path):
    text = (
        f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        "vtkMRMLMarkupsFiducialNode_0,-10.5,20.25,30,0,0,0,1,1,1,0,F-1,,vtkMRMLScalarVolumeNode1\n"
        "vtkMRMLMarkupsFiducialNode_1,1,-2,-3.125,0,0,0,1,1,1,0,F-2,,\n"
    )
    read = read_point_set(saved(tmp_path / "F.fcsv", text))
    np.testing.assert_allclose(read.positions, expected)
    assert read.names == ("F-1", "F-2")


def markups(**changes):
    points = [{"id": str(k), "label": f"F-{k}", "position": list(p)} for k, p in enumerate(LPS.tolist(), start=1)]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": points} | changes
    return json.dumps({"markups": [markup]})


def test_a_markups_file_says_its_system(tmp_path):
    read = read_point_set(saved(tmp_path / "F.mrk.json", markups()))
    np.testing.assert_allclose(read.positions, RAS)
    assert read.names == ("F-1", "F-2")
    np.testing.assert_allclose(read_points(saved(tmp_path / "F.mrk.json", markups(coordinateSystem="RAS"))), LPS)


@pytest.mark.parametrize(
    ("name", "text", "coordinates", "message"),
    [
        ("p.csv", "x,y,z\n1,2,3\n", None, "does not say whether its points are LPS or RAS"),
        ("p.csv", "x,y,z\n1,2,3\n", "lps", "should be LPS or RAS, found 'lps'"),
        ("p.csv", "x,y,z\n1,two,3\n", "LPS", "point '1' has 'two'"),
        ("p.csv", "x,y,z\n1,2,3\n4,5\n", "LPS", "point '2' has ''"),
        ("p.csv", "x,y,z\n1,nan,3\n", "LPS", "point '1' has 'nan'"),
        ("p.csv", "i,j,k\n1,2,3\n", "LPS", "expected a header with the columns x, y and z"),
        ("p.csv", "1,2,3,4\n", "LPS", "Its first line is '1, 2, 3, 4'"),
        ("p.csv", "", "LPS", "holds no points"),
        ("p.csv", "x,y,z\n", "LPS", "holds no points"),
        ("p.txt", "1 2 3", "LPS", "points are read from and written to .csv"),
        ("p.fcsv", "# CoordinateSystem = IJK\n1,2,3,4\n", None, "CoordinateSystem is 'IJK'"),
        ("p.fcsv", "# CoordinateSystem = LPS\n1,2,3,4\n", "RAS", "says that its points are LPS, and"),
        ("p.fcsv", "1,2,3,4\n", None, "does not say whether"),
        ("p.mrk.json", "{", None, "not a markups file"),
        ("p.mrk.json", '{"markups": [{}]}', None, "not a markups file"),
        ("p.mrk.json", markups(controlPoints=[{"position": [1, 2]}]), None, "position with 2 coordinates"),
        ("p.mrk.json", markups(coordinateSystem="IJK"), None, "found IJK"),
        ("p.mrk.json", markups(controlPoints=[]), None, "holds no points"),
    ],
)
def test_a_file_that_cannot_be_read_rightly_is_refused(name, text, coordinates, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_points(saved(tmp_path / name, text), coordinates)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file of points: '.*none\.csv'"):
        read_points(tmp_path / "none.csv", "RAS")


def test_the_suffix_is_found_in_any_case():
    assert [points_suffix(name) for name in ("a.CSV", "a.b.mrk.json", "a.fcsv", "a.json")] == [
        ".csv",
        ".mrk.json",
        ".fcsv",
        None,
    ]
