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

"""Register many pairs of files in one go: one onto many, many onto one, or whatever a table of pairs says."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.cases import load_images
from ..data.pair_table import pair_name, read_pair_table
from ..files import processes
from ..files.datalist import find_volumes
from ..files.each_case import Failure, for_each, keep_going
from ..files.output_folder import OutputFolder
from ..files.tables import write_csv
from .pair import describe_worse
from .register_files import result_names

__all__ = ["RegisterSequence"]

logger = logging.getLogger(__name__)

#: a file, a folder of files, or a list of both
Files = str | Path | Sequence[str]


class RegisterSequence:
    """Registers every moving image onto every fixed one, or the pairs of a table.

    Each pair gets a folder in ``output_dir``, named after it, with all that registering one pair writes, and a row in
    ``summary.csv``. A pair that fails is told at once and again at the end, and does not stop the others. Several
    processes share the pairs.

    Args:
        register: takes ``moving``, ``fixed``, ``moving_label`` and ``output_dir``, and gives what runs one pair:
            :class:`scripts.registration.register_files.RegisterFiles` with everything else filled in.
        output_dir: where the folders go.
        moving: the images that are pulled. An image is not registered to itself.
        fixed: the images that stay.
        moving_label: a label of the only moving image, or a folder with labels that bear the names of the images.
        pairs: a table, instead of ``moving`` and ``fixed``: see :func:`scripts.data.pair_table.read_pair_table`.
        overwrite: also replace files in ``output_dir`` that this product did not write.
        settings: what the results depend on besides the files: a run that was stopped goes on where these are the same.
    """

    def __init__(
        self,
        register: Callable[..., Any],
        output_dir: str | Path,
        moving: Files | None = None,
        fixed: Files | None = None,
        moving_label: str | Path | None = None,
        pairs: str | Path | None = None,
        overwrite: bool = False,
        settings: Any = None,
    ) -> None:
        self.register, self.output = register, OutputFolder(output_dir, overwrite, settings)
        self.moving, self.fixed, self.moving_label, self.pairs = moving, fixed, moving_label, pairs

    def run(self) -> list[dict[str, Any]]:
        """Register all pairs.

        Returns:
            The rows of ``summary.csv``.

        Raises:
            FileNotFoundError: a table, folder or file that the options name is missing; before anything is computed.
            ValueError: the options do not say which pairs there are; before anything is computed.
            FileExistsError: a result would replace what this product did not write, or another process writes there;
                before anything is computed.
            RuntimeError: at the end, naming every pair that failed, and why. The others are done.
        """
        pairs = self._list_pairs()
        with self.output:
            rows, results = self._register_all(pairs)
        failures = [result for result in results if isinstance(result, Failure)]
        logger.info("%d of %d pairs registered: %s", len(pairs) - len(failures), len(pairs), self.output.path.resolve())
        done = [(pair["name"], each) for pair, each in zip(pairs, results, strict=True) if isinstance(each, Mapping)]
        if processes.rank() == 0 and (told := describe_worse(done, len(done))):
            logger.warning("%s", told)
        if failures:
            raise RuntimeError(
                f"{len(failures)} of {len(pairs)} pairs could not be registered:\n" + "\n".join(map(str, failures))
            )
        return rows

    def _register_all(self, pairs: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Any]]:
        """The rows of the table, and what became of each pair; those that went well are in place then."""
        names = [[f"{pair['name']}/{file}" for file in _files_of(pair)] for pair in pairs]
        self.output.refuse_foreign([*itertools.chain(*names), "summary.csv"])
        self.output.resume([pair["name"] for pair in pairs])
        results = for_each(pairs, keep_going(self._register, lambda pair: pair["name"]), "Registering")
        rows = _table(pairs, results)
        if processes.rank() == 0:
            write_csv(self.output.staging / "summary.csv", rows)
            self.output.place()
        return rows, results

    def _register(self, pair: Mapping[str, Any]) -> dict[str, Any]:
        files = [case[key] for case in (pair["moving"], pair["fixed"]) for key in ("image", "label") if key in case]
        if (done := self.output.finished(pair["name"], files)) is not None:
            return done["result"]
        folder = self.output.staging / pair["name"]
        try:
            summary = self.register(
                moving=pair["moving"]["image"],
                fixed=pair["fixed"]["image"],
                moving_label=pair["moving"].get("label"),
                output_dir=str(folder),
            ).run()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.output.finish(pair["name"], files, summary)
        return summary

    def _list_pairs(self) -> list[dict]:
        given = [name for name in ("moving", "fixed", "moving_label") if getattr(self, name) is not None]
        if self.pairs is not None:
            if given:
                raise ValueError(f"--pairs says which images there are: leave out --{' and --'.join(given)}.")
            return read_pair_table(self.pairs)
        if not {"moving", "fixed"} <= set(given):
            raise ValueError("a sequence takes --pairs TABLE, or --moving and --fixed: each a file, folder or list.")
        moving, fixed = (_list_images(files) for files in (self.moving, self.fixed))
        moving = _with_labels(moving, self.moving_label)
        pairs = [
            {"name": pair_name(one, other), "moving": one, "fixed": other}
            for one in moving
            for other in fixed
            if one["image"] != other["image"]
        ]
        if len({pair["name"] for pair in pairs}) < len(pairs):
            raise ValueError("several pairs would have one name: write a table of pairs, with a `name` for each.")
        if not pairs:
            raise ValueError("--moving and --fixed are the same image: there is nothing to register.")
        return pairs


def _files_of(pair: Mapping[str, Any]) -> list[str]:
    return result_names(pair["moving"]["image"], pair["fixed"]["image"])


def _list_images(files: Files) -> list[dict]:
    sources = [files] if isinstance(files, (str, Path)) else list(files)
    return [case for source in sources for case in load_images(source)]


def _with_labels(moving: Sequence[dict], label: str | Path | None) -> list[dict]:
    """The moving cases with their labels, all of which are there, or with none."""
    if label is None:
        return list(moving)
    folder = Path(label).expanduser()
    if not folder.is_dir():
        if len(moving) > 1:
            raise ValueError(f"--moving_label '{label}' is no folder of labels, and there are {len(moving)} images.")
        return [{**case, "label": str(folder)} for case in moving]
    labels = find_volumes(folder)
    if missing := [case["case"] for case in moving if case["case"] not in labels]:
        raise ValueError(f"--moving_label: {folder} has no label that bears the name of {', '.join(missing)}.")
    return [{**case, "label": str(labels[case["case"]])} for case in moving]


def _table(pairs: Sequence[Mapping], results: Sequence[Mapping | Failure]) -> list[dict[str, Any]]:
    """A row for each pair: names, the figures of one that went well, and the fault of one that did not."""
    rows = []
    for pair, result in zip(pairs, results, strict=True):
        row = {"name": pair["name"], "moving": pair["moving"]["image"], "fixed": pair["fixed"]["image"], "fault": ""}
        if isinstance(result, Failure):
            rows.append(row | {"fault": result.fault})
        else:
            rows.append(row | {key: value for key, value in result.items() if isinstance(value, (int, float))})
    columns = dict.fromkeys(itertools.chain(*rows), "")
    return [columns | row for row in rows]
