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
"""Which label file belongs to which image, where names alone say it: rules with a star, and what to type for one.

What the star of a rule stands for is the case. ``*_T1w.nii.gz`` makes ``sub-01`` of ``sub-01_T1w.nii.gz``.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .datalist import SUFFIXES, case_name, find_volumes, read_json

__all__ = ["Rule", "find_cases", "pair_up", "rule_of", "scan_folder", "volumes_in"]

logger = logging.getLogger(__name__)

SHOWN = 3  # names in a message
TRIED = 12  # labels, for whose names similar ones are looked for


class Rule:
    """A name of files with one star in it, such as ``*_T1w.nii.gz``; the suffix of the format may be left out.

    Args:
        text: the name.
        option: that it was given as, for messages.
    """

    def __init__(self, text: str, option: str) -> None:
        self.text, self.option = text, option
        if text.count("*") != 1 or "/" in text:
            raise ValueError(
                f"--{option} '{text}': expected the name of a file with one star, which stands for the case, and no "
                "folder, such as '*_T1w.nii.gz'."
            )
        if text.lower().endswith((".img", ".img.gz")):  # the header stands for both files
            text = text.removesuffix(".gz").removesuffix(".GZ")[:-4] + ".hdr"
        self.begin, self.end = text.split("*")
        self.has_suffix = text.lower().endswith(SUFFIXES)

    def case_of(self, path: Path) -> str:
        """What the star stands for in the name of a file; empty where the rule does not fit."""
        name = path.name if self.has_suffix else case_name(path)
        fits = name.startswith(self.begin) and name.endswith(self.end)
        return name[len(self.begin) : len(name) - len(self.end)] if fits else ""

    def find(self, paths: Iterable[Path], where: Path) -> dict[str, Path]:
        """Files by case, as far as the rule fits.

        Args:
            paths: the files.
            where: their folder, for messages.

        Raises:
            FileNotFoundError: it fits none.
            ValueError: two files would be one case.
        """
        paths, found = sorted(paths), {}
        for path in paths:
            if not (case := self.case_of(path)):
                continue
            if case in found:
                raise ValueError(
                    f"--{self.option} '{self.text}': case '{case}' has two files: {found[case]} and {path}.\n"
                    "  Narrow the rule, or keep one of them."
                )
            found[case] = path
        if not found:
            names = _shorten(sorted({path.name for path in paths}))
            raise FileNotFoundError(
                f"--{self.option} '{self.text}' fits no file in {where}. There: {len(paths)} volumes"
                f"{': ' + names if names else ''}."
            )
        return found


def rule_of(text: str | None, option: str) -> Rule | None:
    """The rule that an option says, or none."""
    return None if text is None else Rule(text, option)


def scan_folder(folder: Path, image_name: str | None = None, label_name: str | None = None) -> dict:
    """Describe ``images/`` and ``labels/`` as a datalist that nobody has split yet.

    Args:
        folder: what holds them. Where there is no ``images/``, all of its folders are looked through by the rules, and
            no image is labelled without one for labels.
        image_name: a rule for the names of the images; None: a case is named after its file.
        label_name: likewise.
    """
    image_rule, label_rule = rule_of(image_name, "image_name"), rule_of(label_name, "label_name")
    places = {kind: folder / kind for kind in ("images", "labels")}
    if places["images"].is_dir():
        images, labels = (find_cases(places[k], rule) for k, rule in (("images", image_rule), ("labels", label_rule)))
    else:
        images = find_cases(folder, image_rule, deep=True)
        labels = find_cases(folder, label_rule, deep=True) if label_rule else {}
    names_file = folder / "labels.json"
    return {"labels": read_json(names_file) if names_file.is_file() else None, **pair_up(images, labels, folder)}


def find_cases(folder: Path, rule: Rule | None, deep: bool = False) -> dict[str, Path]:
    """The volumes of a folder by case: by a rule, or without one by the names of the files.

    Args:
        folder: where they lie.
        rule: for their names.
        deep: also look in the folders of the folder, and theirs.
    """
    if rule is None:
        return find_volumes(folder)
    return rule.find(volumes_in(folder, deep), folder)


def volumes_in(folder: Path, deep: bool = False) -> list[Path]:
    """All volumes of a folder, whatever their names."""
    paths = folder.absolute().rglob("*") if deep else folder.absolute().glob("*")
    return [path for path in paths if path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")]


def pair_up(
    images: Mapping[str, Path], labels: Mapping[str, Path], source: Path, advice: str | None = None
) -> dict[str, list[dict]]:
    """Images with the label of the same case, as lists of a datalist that nobody has split yet.

    Args:
        images: file by case.
        labels: file by case; where there is none, no image is labelled.
        source: where they come from, for messages.
        advice: what to do where no label belongs to an image; None: the rules that would pair them.

    Returns:
        ``training``: those that have a label; ``unlabeled``: the others.

    Raises:
        ValueError: there are labels, and none belongs to an image; says what was found, and what would pair them.
    """
    named = sorted(images.keys() & labels.keys())
    if labels and not named:
        raise ValueError(f"{source}: {_unpaired(images, labels, advice)}")
    if orphans := sorted(labels.keys() - images.keys()):
        logger.warning(
            "%s: %d images, %d labels, %d pairs; no image bears the name of these labels, left out: %s",
            *(source, len(images), len(labels), len(named), ", ".join(orphans)),
        )
    training = [{"case": name, "image": str(images[name]), "label": str(labels[name])} for name in named]
    unlabeled = [{"case": name, "image": str(images[name])} for name in sorted(images.keys() - labels.keys())]
    return {"training": training, "unlabeled": unlabeled}


def _unpaired(images: Mapping[str, Path], labels: Mapping[str, Path], advice: str | None) -> str:
    """What was found, and the option that would pair it."""
    if not images:
        return f"0 images, {len(labels)} labels. Expected an image for each label, in the folder beside."
    near = _nearest(images, labels)
    names = ", ".join(f"{image.name} and {label.name}" for image, label in near) or (
        f"none: images such as {min(images.values()).name}, labels such as {min(labels.values()).name}"
    )
    found = f"{len(images)} images, {len(labels)} labels, 0 pairs; nearest names: {names}."
    if advice:
        return f"{found}\n  {advice}"
    rules = [rules for image, label in near for rules in _rules(image.name, label.name)]
    tried = [(_pairs(*each, images, labels), each) for each in rules]
    count, (image_name, label_name) = max(tried, key=lambda one: one[0], default=(0, ("", "")))
    if not count:
        return (
            f"{found}\n  Give a label the name of its image, or say by --image_name and --label_name what stands for "
            "the case: '*_T1w.nii.gz' and '*_dseg.nii.gz'."
        )
    return f'{found}\n  {count} pairs by --image_name "{image_name}" --label_name "{label_name}"'


def _nearest(images: Mapping[str, Path], labels: Mapping[str, Path]) -> list[tuple[Path, Path]]:
    """The most similar names of an image and a label, among the first labels: of few-shot data those are the fewer."""
    by_name, found = {path.name: path for path in images.values()}, []
    for label in sorted(labels.values())[:TRIED]:
        for name in difflib.get_close_matches(label.name, by_name, n=1, cutoff=0.4):
            found.append((difflib.SequenceMatcher(a=label.name, b=name).ratio(), by_name[name], label))
    found.sort(key=lambda one: -one[0])
    return [(image, label) for _, image, label in found[:SHOWN]]


def _rules(image: str, label: str) -> Iterator[tuple[str, str]]:
    """Names with a star for what two names share, the longest first; a share is words and numbers in one piece."""
    shared = set(_parts(image)) & set(_parts(label)) - {""}
    for part in sorted(shared, key=len, reverse=True) if "*" not in image + label else ():
        yield image.replace(part, "*", 1), label.replace(part, "*", 1)


def _parts(name: str) -> Iterator[str]:
    """Runs of the words and numbers of a name, without the suffix of its format."""
    name = case_name(name)
    ends = re.finditer(r"[-._]|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", name)
    cuts = [0, *(match.start() for match in ends), len(name)]
    for number, begin in enumerate(cuts):
        for end in cuts[number + 1 :]:
            yield name[begin:end].lstrip("-._")


def _pairs(image_name: str, label_name: str, images: Mapping[str, Path], labels: Mapping[str, Path]) -> int:
    image_rule, label_rule = Rule(image_name, "image_name"), Rule(label_name, "label_name")
    found = {image_rule.case_of(path) for path in images.values()}
    return len((found & {label_rule.case_of(path) for path in labels.values()}) - {""})


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
