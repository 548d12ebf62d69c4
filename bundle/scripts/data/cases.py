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

"""Which cases there are: a datalist or a folder becomes the labelled, unlabelled, validation and test lists.

Everything else reads cases from here, so the few-shot rule is kept in one place: an unlabelled case never carries a
label, even where the datalist names one or a file of its name lies among the labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files.datalist import LISTS, check_lists, resolve_entry
from .partly_labeled import IGNORED, resolve_missing, split_ignored
from .sources import find_images, find_source, looked_for
from .structures import agree_on_labels, names_of_ids

__all__ = ["Cases", "load_cases", "load_images", "refuse_other_cases"]


@dataclass(frozen=True)
class Cases:
    """The cases of a run, list by list, and what the values of their labels mean.

    A case is ``{"case": name, "image": path, "label": path}`` with absolute paths; an unlabelled one has no ``label``.
    Where labels may say nothing of some voxels or structures, each labelled case has ``missing``, the classes that were
    not drawn in it, of which there may be none.

    Args:
        labels: name of each foreground id, in ascending order of the ids; the background (0) is not in it.
        labeled: the few cases whose labels are trained on.
        unlabeled: images only.
        validation: labelled cases that choose the best weights.
        test: labelled cases for the final numbers.
        ignored: id of voxels that nobody has labelled, above all others, where there is one.
    """

    labels: Mapping[int, str]
    labeled: tuple[dict, ...] = ()
    unlabeled: tuple[dict, ...] = ()
    validation: tuple[dict, ...] = ()
    test: tuple[dict, ...] = ()
    ignored: int | None = None

    @property
    def label_ids(self) -> tuple[int, ...]:
        """The ids on disk, ascending; class k (from 1) is the k-th of them, and ``num_classes`` that to be ignored."""
        return (*self.labels, *(() if self.ignored is None else (self.ignored,)))

    @property
    def structures(self) -> tuple[str, ...]:
        """The names of the classes 1..K."""
        return tuple(self.labels.values())

    @property
    def num_classes(self) -> int:
        """K + 1: the structures and the background."""
        return len(self.labels) + 1

    @property
    def named_ids(self) -> dict[int, str]:
        """All that label files may hold besides the background, as a datalist names it."""
        return {**self.labels, **({} if self.ignored is None else {self.ignored: IGNORED})}

    def missing_names(self, case: Mapping[str, Any]) -> list[str]:
        """The structures that were not drawn in a case."""
        return [self.structures[number - 1] for number in case.get("missing", ())]

    def names(self) -> dict[str, list[str]]:
        """The names of the cases, list by list."""
        return {key: [case["case"] for case in getattr(self, key)] for key in LISTS}


def refuse_other_cases(cases: Cases, saved: Mapping[str, Sequence[str]], path: str | Path) -> None:
    """Refuse to resume a training with other cases than it had: one that it learnt from could become a test case.

    Args:
        cases: those of this run.
        saved: the :meth:`Cases.names` of the training.
        path: the file that holds them, for the message.

    Raises:
        ValueError: names each list that differs and the cases that only one of the two has in it.
    """
    faults = []
    for key, names in cases.names().items():
        now, before = set(names), set(saved.get(key, ()))
        parts = [("no longer", before - now), ("new", now - before)]
        told = [f"{what} {_first_names(differing)}" for what, differing in parts if differing]
        faults += [f"  {key}: {'; '.join(told)}"] if told else []
    if faults:
        raise ValueError(
            "\n".join([f"'{path}' is of a training with other cases than this config gives:", *faults])
            + "\n  Resume with `dataset_dir`, `datalist`, `num_labeled`, `num_unlabeled`, `fold` and `seed` as the "
            "`config.yaml` beside it has them, or choose another `--output_dir`."
        )


def _first_names(names: Set[str], shown: int = 4) -> str:
    first, more = sorted(names)[:shown], len(names) - shown
    return ", ".join(first) + (f" and {more} more" if more > 0 else "")


def load_cases(
    dataset_dir: str | Path,
    datalist: str | Path | None = None,
    labels: Mapping[int | str, str] | None = None,
    num_labeled: int | None = None,
    num_unlabeled: int | None = None,
    fold: int = 0,
    seed: int = 0,
    image_name: str | None = None,
    label_name: str | None = None,
) -> Cases:
    """Read which cases there are and choose the few-shot set among them.

    Looked for, in this order: ``datalist``; ``dataset_dir/datalist.json``; ``dataset_dir/dataset.json``, of the
    Decathlon or of nnU-Net; the folders ``dataset_dir/images`` and ``dataset_dir/labels``, where a case is labelled
    when a label file bears its name; ``dataset_dir/sub-*/anat`` of BIDS; any files beneath ``dataset_dir`` that
    ``image_name`` and ``label_name`` fit.

    A datalist with the lists ``labeled``, ``unlabeled``, ``validation`` and ``test`` (each optional) is used in its own
    order. Where nobody has split the cases (a folder, or a ``dataset.json`` with ``training``), the labelled ones are
    shuffled by ``seed``, ``num_labeled`` are trained on, and the others are halved into validation and test; the
    unlabelled ones are shuffled too.

    Args:
        dataset_dir: the data set's folder.
        datalist: JSON file; its paths are relative to the file itself.
        labels: ids to names, for data that do not state them (a folder may also hold them as ``labels.json``). Where a
            folder and the config say nothing, the ids in its label files have their numbers as names.
        num_labeled: how many labelled cases to train on. ``None``: all of a datalist, four of an unsplit set.
        num_unlabeled: how many unlabelled images to use. ``None``: all.
        fold: which ``num_labeled`` labelled cases: number ``fold * num_labeled`` and the following.
        seed: of the shuffle of an unsplit set.
        image_name: how images of a folder are named, with a star for the case, such as ``*_T1w.nii.gz``.
        label_name: likewise for labels.

    Returns:
        The cases. Images are not opened: :class:`scripts.data.checks.DataCheck` does that.

    Raises:
        FileNotFoundError: no datalist and no folder where they were looked for.
        ValueError: fewer cases than asked for, unknown or missing ``labels``, a ``missing`` structure that is none, or
            a malformed datalist.
    """
    source, entries, known = find_source(Path(dataset_dir).expanduser(), datalist, image_name, label_name)
    check_lists(entries, source)
    lists = {key: _resolve_list(entries, key, source) for key in ("training", *LISTS)}
    if not any(lists.values()):
        raise ValueError(f"{source} states no case. It needs at least one of the lists {', '.join(LISTS)}.")
    names = agree_on_labels(entries.get("labels"), labels, source)
    names = names or names_of_ids(lists["training"], known, source)
    if lists["training"]:
        _split_training(lists, num_labeled, fold, seed, source)
    else:
        lists["labeled"] = _take(lists["labeled"], num_labeled, fold, "labeled", source)
    lists["unlabeled"] = _take(lists["unlabeled"], num_unlabeled, 0, "unlabeled", source)
    names, ignored = split_ignored(names, source)
    for key in ("labeled", "validation", "test"):
        lists[key] = [resolve_missing(case, names, source) for case in lists[key]]
    if ignored is not None or any("missing" in case for cases in lists.values() for case in cases):
        lists |= {key: [{"missing": (), **case} for case in lists[key]] for key in ("labeled", "validation", "test")}
    return Cases(labels=names, ignored=ignored, **{key: tuple(lists[key]) for key in LISTS})


def load_images(
    dataset_dir: str | Path,
    datalist: str | Path | None = None,
    lists: Sequence[str] = LISTS,
    image_name: str | None = None,
) -> tuple[dict, ...]:
    """List the images to segment: neither labels nor a split are needed for that.

    Args:
        dataset_dir: a folder of images or DICOM series, or one that holds them in ``images/``, or as nnU-Net and BIDS
            do; or a single file or series; passed over where ``datalist`` is given.
        datalist: JSON file as for :func:`load_cases`.
        lists: the lists of ``datalist`` to take images from.
        image_name: how images of a folder are named, with a star for the case.

    Returns:
        Cases with ``case`` and ``image``, in the order of the datalist, or by name.

    Raises:
        FileNotFoundError: there is no such folder or file, or no image in it.
        ValueError: two different images have one name.
    """
    source, found = find_images(dataset_dir, datalist, lists, image_name)
    if not found:
        raise FileNotFoundError(f"no image found in {source}. Looked for {looked_for(datalist, lists)}.")
    images = {case["image"]: {key: case[key] for key in ("case", "image")} for case in found}.values()
    names = [case["case"] for case in images]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"different images of {source} share the names {', '.join(repeated)}, and so would their results.\n"
            "  Rename the files, or put them into separate runs with an output folder each."
        )
    return tuple(images)


def _resolve_list(entries: Mapping[str, Any], key: str, source: Path) -> list[dict]:
    """One list of a datalist with absolute paths; labels are demanded or dropped as the list's name says."""
    cases = [resolve_entry(entry, source, key) for entry in entries.get(key) or ()]
    if key == "unlabeled":
        return [{"case": case["case"], "image": case["image"]} for case in cases]
    # Decathlon's own `test` is a list of images without labels, which the split below moves to `unlabeled`.
    unsplit = bool(entries.get("training")) and key in ("training", "test")
    for case in cases:
        if "label" not in case and not unsplit:
            raise ValueError(
                f"case '{case['case']}' in the list '{key}' of {source} names no label.\n"
                "  Add its `label`, or move it to `unlabeled`."
            )
    return cases


def _split_training(lists: dict[str, list], num_labeled: int | None, fold: int, seed: int, source: Path) -> None:
    """Fill ``labeled``, and those of validation and test that the source leaves open, from ``training``."""
    labeled, unlabeled = _by_label(lists["training"])
    lists["test"], test_images = _by_label(lists["test"])
    images = [{"case": case["case"], "image": case["image"]} for case in (*unlabeled, *test_images)]
    rng = np.random.default_rng(seed)
    labeled = [labeled[i] for i in rng.permutation(len(labeled))]
    images += lists["unlabeled"]
    lists["unlabeled"] = [images[i] for i in rng.permutation(len(images))]
    count = min(4, len(labeled)) if num_labeled is None else num_labeled
    lists["labeled"] = _take(labeled, count, fold, "labeled", source)
    first = fold * count
    rest = labeled[first + count :] + labeled[:first]
    open_lists = [key for key in ("validation", "test") if not lists[key]]
    for i, key in enumerate(open_lists):
        lists[key] = rest[i * len(rest) // len(open_lists) : (i + 1) * len(rest) // len(open_lists)]


def _by_label(cases: Iterable[dict]) -> tuple[list[dict], list[dict]]:
    cases = list(cases)
    return [case for case in cases if "label" in case], [case for case in cases if "label" not in case]


def _take(cases: list[dict], count: int | None, fold: int, name: str, source: Path) -> list[dict]:
    """Fold number ``fold`` of ``count`` cases; an empty list stays empty, since evaluation needs `test` alone."""
    if not cases:
        return []
    if count is None:
        if fold:
            raise ValueError(f"fold {fold} of '{name}' needs `num_labeled`: how many cases a fold has.")
        return cases
    if count < 0 or fold < 0:
        raise ValueError(f"'{name}': expected a number of cases and a fold of at least 0, found {count} and {fold}.")
    if len(cases) < (fold + 1) * count:
        option = "num_unlabeled" if name == "unlabeled" else "num_labeled"
        raise ValueError(
            f"fold {fold} of {count} cases needs {(fold + 1) * count} in '{name}', found {len(cases)} in {source}.\n"
            f"  Lower `{option}`{' or `fold`' if fold else ''}, or set it to null to take what there is."
        )
    return cases[fold * count : (fold + 1) * count]
