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


def moved(path, coordinates=None):
    """The text of a file whose points were moved by (-1, -2, 3) in RAS, that is (1, 2, 3) in LPS."""
    points = read_point_set(path, coordinates)
    out = path.with_name(f"moved_{path.name}")
    write_points(out, points.moved_to(points.positions + [-1, -2, 3]))
    return points, out.read_text()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (  # of ANTs
            'x,y,z,t,label,comment\n10,20,30,0,1,left\n11,21,31,0,2,"right, lower"\n',
            'x,y,z,t,label,comment\n11.0,22.0,33.0,0,1,left\n12.0,23.0,34.0,0,2,"right, lower"\n',
        ),
        ("Label,Z,Y,X\n a ,3,2,1\n", "Label,Z,Y,X\n a ,6.0,4.0,2.0\n"),
        ("1,2,3\n4,5,6\n", "2.0,4.0,6.0\n5.0,7.0,9.0\n"),  # no header
        ("name,x,y,z\na,1,2,3\n", "name,x,y,z\na,2.0,4.0,6.0\n"),
    ],
)
def test_a_csv_comes_back_with_its_columns_in_their_order(given, expected, tmp_path):
    assert moved(saved(tmp_path / "p.csv", given), "LPS")[1] == expected


def test_a_table_of_slicer_says_its_system_and_which_points_were_placed(tmp_path, caplog):
    text = "label,l,p,s,defined,selected,visible,locked,description\na,1,2,3,1,1,1,0,\nb,0,0,0,0,1,1,0,later\n"
    points, back = moved(saved(tmp_path / "p.csv", text))
    assert (points.names, points.coordinates, points.not_placed) == (("a",), "LPS", ("b",))
    np.testing.assert_allclose(points.positions, [[-1, -2, 3]])
    assert back == text.replace("a,1,2,3", "a,2.0,4.0,6.0")
    text = text.replace("l,p,s", "r,a,s")
    np.testing.assert_allclose(read_points(saved(tmp_path / "p.csv", text)), [[1, 2, 3]])
    assert "1 of 2 points were not placed and are left out (positionStatus: 1 undefined): b" in caplog.text


def test_points_of_slicer_that_were_not_placed_are_left_out_and_keep_their_status(tmp_path, caplog):
    states = ("defined", "undefined", "preview", "missing", None)
    points = [
        {"id": str(k), "label": f"F-{k}", "position": [float(k)] * 3, "positionStatus": state, "visibility": False}
        for k, state in enumerate(states)
    ]
    del points[4]["positionStatus"]
    points[3]["position"] = None
    display = {"visibility": True, "color": [1, 0, 0]}
    text = json.dumps({"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": points,
                                    "display": display, "measurements": [{"name": "length"}]}]})  # fmt: skip
    read, back = moved(saved(tmp_path / "F.mrk.json", text))
    assert read.names == ("F-0", "F-4") and read.not_placed == ("F-1", "F-2", "F-3")
    np.testing.assert_allclose(read.positions, [[0, 0, 0], [-4, -4, 4]])
    (markup,) = json.loads(back)["markups"]
    assert markup["display"] == display and "measurements" not in markup
    expected = [dict(point) for point in points]
    expected[0]["position"], expected[4]["position"] = [1.0, 2.0, 3.0], [5.0, 6.0, 7.0]
    assert markup["controlPoints"] == expected
    assert "3 of 5 points were not placed" in caplog.text and "1 undefined, 1 preview, 1 missing" in caplog.text


def test_every_list_of_a_markups_file_comes_back_and_a_box_as_its_points(tmp_path):
    lists = [
        {"type": "Line", "coordinateSystem": "LPS", "controlPoints": [{"label": "l", "position": [0, 0, 0]}]},
        {"type": "ROI", "coordinateSystem": "LPS", "size": [9, 9, 9], "controlPoints": [{"position": [1, 1, 1]}]},
    ]
    text = json.dumps({"markups": lists})
    line, box = json.loads(moved(saved(tmp_path / "F.mrk.json", text))[1])["markups"]
    assert line["type"] == "Line" and line["controlPoints"][0]["position"] == [1, 2, 3]
    assert box == {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [{"position": [2, 3, 4]}]}


def test_an_fcsv_keeps_its_columns_and_the_status_that_slicer_5_writes_behind_them(tmp_path, caplog):
    head = (
        "# Markups fiducial file version = 5.2\n# CoordinateSystem = LPS\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    )
    rows = (
        "1,{},0,0,0,1,0,1,1,F-1,hidden,vtkMRML,2,0\n2,0,0,0,0,0,0,1,1,1,0,F-2,,,0,0\n3,9,9,9,0,0,0,1,1,1,0,F-3,,,3,0\n"
    )
    read, back = moved(saved(tmp_path / "F.fcsv", head + rows.format("1,2,3")))
    assert read.names == ("F-1",) and read.not_placed == ("F-2", "F-3")  # one that is not shown is placed all the same
    assert back == head + rows.format("2.0,4.0,6.0")
    assert "1 undefined, 1 missing" in caplog.text


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
        ("p.mrk.json", markups(coordinateUnits="cm"), None, "expected coordinateUnits mm, found cm"),
        ("p.csv", "x,y,z,defined\n1,2,3,0\n", "LPS", "holds no points that were placed"),
        (
            "p.mrk.json",
            markups(controlPoints=[{"position": [0, 0, 0], "positionStatus": "preview"}]),
            None,
            r"holds no points that were placed \(positionStatus: 1 preview\)",
        ),
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
