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
"""A data set in BIDS: ``sub-01/[ses-1/]anat/sub-01_[ses-1_]T1w.nii.gz``, labels ``*_dseg.nii.gz`` in ``derivatives/``.

A name is made of entities, ``sub-01``, ``ses-1``, ``acq-mprage``, and a suffix that says what the file is. An image and
a label belong together where their entities do.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .datalist import SUFFIXES, case_name
from .pairing import Rule, pair_up, rule_of
from .tables import told_of

__all__ = ["find_bids_images", "is_bids", "scan_bids"]

DEFAULT = "T1w"  # the suffix that is taken among several
LABELS = "*_dseg"
ADVICE = (
    "A label belongs to the image with the same `sub` and `ses` in its name, and no other `run` or `acq`. Rename "
    "labels, choose others by --label_name, or write a datalist."
)
SUBJECT = ("sub", "ses")


@dataclass(frozen=True)
class Named:
    """A file with what its name says."""

    path: Path

    @cached_property
    def entities(self) -> dict[str, str]:
        """Such as ``{"sub": "01", "acq": "mprage"}``."""
        return _entities(case_name(self.path).rpartition("_")[0])

    @property
    def suffix(self) -> str:
        """Such as ``T1w``."""
        return case_name(self.path).rpartition("_")[2]

    @property
    def subject(self) -> str:
        """Such as ``sub-01_ses-1``."""
        return "_".join(f"{key}-{self.entities[key]}" for key in SUBJECT if key in self.entities)

    def belongs_to(self, image: Named) -> bool:
        """Whether this label is one of an image: of its subject and session, and of no other run or acquisition."""
        shared = self.entities.keys() & image.entities.keys()
        return self.subject == image.subject and all(self.entities[key] == image.entities[key] for key in shared)


def _entities(text: str) -> dict[str, str]:
    return dict(part.split("-", 1) for part in text.split("_") if "-" in part)


def is_bids(folder: Path) -> bool:
    """Whether a folder has subjects with anatomical images in the manner of BIDS."""
    return any(any(folder.glob(f"sub-*/{session}anat/sub-*")) for session in ("", "ses-*/"))


def scan_bids(
    folder: Path, image_name: str | None = None, label_name: str | None = None
) -> tuple[dict, dict[int, str]]:
    """Describe a data set as a datalist that nobody has split yet.

    Args:
        folder: that has ``sub-*`` and, where there are labels, ``derivatives/``.
        image_name: a rule with a star for the images; None: those with the suffix T1w, or the only suffix.
        label_name: a rule for the labels, whose star stands for nothing but entities of the image; None: all
            ``*_dseg`` files.

    Returns:
        The lists, and names of ids from the tables ``dseg.tsv`` that go with the labels.

    Raises:
        FileNotFoundError: a rule fits no file.
        ValueError: it cannot be told which images are meant, or which label is an image's; says by which option it can.
    """
    folder = folder.absolute()
    images, rule = _images(folder, image_name), rule_of(label_name, "label_name")
    every = [Named(path) for path in _volumes((folder / "derivatives").rglob("sub-*/**/*"))]
    labels = [label for label in every if (rule or Rule(LABELS, "label_name")).case_of(label.path)]
    if rule and not labels:
        rule.find((label.path for label in every), folder / "derivatives")  # says what there is
    chosen = {name: found for name, image in images.items() if (found := _label_of(name, image, images, labels, rule))}
    taken = {label.path for label in chosen.values()}
    left = [] if rule and chosen else [label.path for label in labels if label.path not in taken]
    paths = {name: image.path for name, image in images.items()}
    paired = {name: label.path for name, label in chosen.items()}
    lists = pair_up(paths, {**{case_name(path): path for path in left}, **paired}, folder, ADVICE)
    return {"labels": None, **lists}, _names_of_ids(folder, chosen.values())


def find_bids_images(folder: Path, image_name: str | None = None) -> list[dict]:
    """The images of a data set, whether they have labels or not; arguments as for :func:`scan_bids`."""
    return [{"case": name, "image": str(image.path)} for name, image in _images(folder.absolute(), image_name).items()]


def _images(folder: Path, image_name: str | None) -> dict[str, Named]:
    """Images by case; named after subject and session, and after all entities where that is not enough."""
    paths = [path for session in ("", "ses-*/") for path in _volumes(folder.glob(f"sub-*/{session}anat/*"))]
    if rule := rule_of(image_name, "image_name"):
        images = [Named(path) for path in rule.find(paths, folder).values()]
    else:
        images = _of_one_suffix([Named(path) for path in paths], folder)
    count = Counter(image.subject for image in images)
    named: dict[str, Named] = {}
    for image in sorted(images, key=lambda image: image.path):
        name = image.subject if count[image.subject] == 1 else case_name(image.path).rpartition("_")[0]
        if name in named:
            raise ValueError(f"case '{name}' has two files: {named[name].path} and {image.path}. Keep one of them.")
        named[name] = image
    return named


def _of_one_suffix(images: Sequence[Named], folder: Path) -> list[Named]:
    count = Counter(image.suffix for image in images)
    suffix = DEFAULT if DEFAULT in count else next(iter(count), None)
    if len(count) > 1 and suffix != DEFAULT:
        found = ", ".join(f"{name} ({number})" for name, number in count.most_common())
        raise ValueError(
            f"{folder}: expected images with the suffix {DEFAULT}, or with one suffix only, found {found}.\n"
            f'  Say which: --image_name "*_{count.most_common()[0][0]}.nii.gz".'
        )
    return [image for image in images if image.suffix == suffix]


def _label_of(
    name: str, image: Named, images: Mapping[str, Named], labels: Iterable[Named], rule: Rule | None
) -> Named | None:
    """The label of an image, where there is one."""
    found = [label for label in labels if label.belongs_to(image)]
    if rule is not None:
        own = image.entities.items()
        found = [label for label in found if _entities(rule.case_of(label.path)).items() <= own]
    if len(found) > 1:
        listed = "".join(f"\n    {label.path}" for label in found[:5])
        raise ValueError(
            f"case '{name}': expected one label, found {len(found)}:{listed}\n  Say which, with a star for what the "
            f'image has in its name, too: --label_name "{_rule_for(found[0], image)}". Where that does not tell them '
            "apart, write a datalist."
        )
    for label in found:
        others = [other for other, one in images.items() if other != name and label.belongs_to(one)]
        if others:
            raise ValueError(
                f"the label {label.path} fits several images: those of '{name}' and '{others[0]}'.\n"
                "  Put the run or acquisition that it was drawn on into its name, or choose images by --image_name."
            )
    return found[0] if found else None


def _rule_for(label: Named, image: Named) -> str:
    """A rule whose star stands for the entities that a label and its image share."""
    own = [f"{key}-{value}" for key, value in label.entities.items() if key not in image.entities]
    ending = label.path.name[len(case_name(label.path)) :]
    return "_".join(["*", *own, label.suffix]) + ending


def _names_of_ids(folder: Path, labels: Iterable[Named]) -> dict[int, str]:
    """What the tables beside the labels, or above them, call the ids: the nearest table counts."""
    tables = {table for label in labels if (table := _table_of(label, folder))}
    names: dict[int, tuple[str, Path]] = {}
    for table in sorted(tables):
        for number, name in _read_table(table).items():
            if names.setdefault(number, (name, table))[0] != name:
                raise ValueError(
                    f"the id {number} is '{names[number][0]}' in {names[number][1]} and '{name}' in {table}.\n"
                    '  Make them equal, or say what counts in `labels` of the config: {"1": name}.'
                )
    return {number: name for number, (name, _) in names.items()}


def _table_of(label: Named, folder: Path) -> Path | None:
    """The table of a label: of its suffix, with no entity that the label has not, in its folder or the next above."""
    for place in label.path.parents:
        near = [Named(path) for path in sorted(place.glob(f"*{label.suffix}.tsv"))]
        same = [table for table in near if table.suffix == label.suffix]
        fitting = [table for table in same if table.entities.items() <= label.entities.items()]
        if fitting:
            return max(fitting, key=lambda table: len(table.entities)).path
        if place == folder:
            break
    return None


def _read_table(path: Path) -> dict[int, str]:
    with told_of(path), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t")
        if not {"index", "name"} <= set(reader.fieldnames or ()):
            raise ValueError(f"{path}: expected the columns index and name, found {reader.fieldnames}.")
        try:
            return {int(row["index"]): row["name"] for row in reader if row["name"]}
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected a whole number in each row of `index`: {error}.") from error


def _volumes(paths: Iterable[Path]) -> list[Path]:
    return sorted({p for p in paths if p.name.lower().endswith(SUFFIXES) and not p.name.startswith(".")})
