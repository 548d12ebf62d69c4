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
"""The facts of a data set: of boxes whose places are known, of phantoms, and of real volumes."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from scripts.planning.fingerprint import facts_of, fingerprint_of

SHAPE, SPACING = (10, 12, 8), (2.0, 1.0, 3.0)


def box(low=(1, 2, 3), high=(4, 8, 5), shape=SHAPE, label_id=5):
    """An image of 100, 20 within a box, and its label; ``low`` is within it and ``high`` is not."""
    inside = tuple(slice(*ends) for ends in zip(low, high, strict=True))
    image, label = np.full(shape, 100, np.int16), np.zeros(shape, np.int16)
    image[inside], label[inside] = 20, label_id
    return image, label


def stored_as(axes, array, affine):
    """An array and its affine with the axes turned, at the same place in the world."""
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
    turned = nib.as_closest_canonical(nib.Nifti1Image(array, affine)).as_reoriented(turn)
    return np.asarray(turned.dataobj), turned.affine


RAS = np.diag([*SPACING, 1.0])


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "ILA"])
def test_a_box_has_its_volume_and_its_place_however_it_is_stored(axes):
    image, label = box()
    (image, affine), (label, _) = stored_as(axes, image, RAS), stored_as(axes, label, RAS)
    facts = facts_of("a", image, affine, label)
    assert (facts.shape, facts.spacing, facts.orientation) == (SHAPE, SPACING, axes)
    found = facts.structures[5]
    assert found.volume == 3 * 6 * 2 * 6.0
    assert found.centre == pytest.approx((2 * (2 - 4.5), 4.5 - 5.5, 3 * (3.5 - 3.5)))
    assert found.low == pytest.approx((2 * (1 - 5), 2 - 6, 3 * (3 - 4)))
    assert found.high == pytest.approx((2 * (4 - 5), 8 - 6, 3 * (5 - 4)))


def test_the_axes_are_those_of_the_plan():
    image, label = box()
    facts = facts_of("a", image, RAS, label, orientation="LAS")
    assert facts.structures[5].centre[0] == pytest.approx(5.0) and facts.orientation == "RAS"


def test_the_foreground_is_what_has_a_label_or_is_above_the_mean():
    image, label = box()
    assert facts_of("a", image, RAS, label).foreground == (20, 20, 20)
    assert facts_of("a", image, RAS).foreground == (100, 100, 100)
    assert facts_of("a", image, RAS).background == pytest.approx(36 / 960)
    assert facts_of("a", image, RAS).values == (20, 100)


def test_structures_that_lie_apart_are_found_apart_after_centring():
    names = {5: "box"}
    cases = [facts_of(str(x), *(a := box((x, 2, 3), (x + 3, 8, 5)))[:1], RAS, a[1]) for x in (1, 4)]
    found = fingerprint_of(cases, names)
    assert found.apart["box"] == pytest.approx(3.0)  # 6 mm from each other, 3 from their mean
    assert found.spread == pytest.approx((3.0, 0.0, 0.0))
    assert found.reach == pytest.approx((8.0, 4.0, 3.0))
    assert found.border == pytest.approx((2.0, 2.0, 9.0))
    assert found.volumes == {"box": (216.0, 216.0)}


def test_the_middle_of_the_spacings_and_whether_all_are_alike():
    image, _ = box()
    cases = [facts_of(str(mm), image, np.diag([mm, 1, 1, 1.0])) for mm in (1.0, 1.5, 4.0)]
    found = fingerprint_of(cases, {})
    assert found.spacing == (1.5, 1.0, 1.0) and not found.is_uniform and found.extent == (40.0, 12.0, 8.0)
    assert fingerprint_of(cases[:1] * 2, {}).is_uniform
    assert found.labeled == 0 and found.reach == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("low, high, is_ct", [(-1000, 400, True), (-500, 150, True), (0, 255, False), (-3, 3, False)])
def test_hounsfield_units_are_recognised_in_every_case_or_not_at_all(low, high, is_ct):
    image = np.linspace(low, high, 960).reshape(SHAPE)
    one = facts_of("a", image, RAS)
    assert fingerprint_of([one, one], {}).is_ct is is_ct
    assert not fingerprint_of([one, facts_of("b", np.abs(image), RAS)], {}).is_ct


def test_there_are_no_facts_of_no_cases():
    with pytest.raises(ValueError, match="cases to train on"):
        fingerprint_of([], {})


def test_phantoms_have_the_volumes_of_their_labels(phantoms):
    path = sorted((phantoms / "labels").glob("*.nii.gz"))[0]
    label = nib.load(path)
    ids = np.asarray(label.dataobj)
    facts = facts_of("a", np.asarray(nib.load(phantoms / "images" / path.name).dataobj), label.affine, ids)
    voxel = abs(np.linalg.det(label.affine[:3, :3]))
    for number, found in facts.structures.items():
        assert found.volume == pytest.approx((ids == number).sum() * voxel, rel=1e-4)
    assert fingerprint_of([facts], {}).is_ct
