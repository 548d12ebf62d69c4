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
"""The documents as a site, by mkdocs, from the files as they are: dead links, missing anchors and missing pages fail.

python -m benchmarks.documents.site --out output/site
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import fire
from mkdocs.commands.build import build
from mkdocs.config import load_config

from benchmarks import ROOT

PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bundle/docs/*", "benchmarks/results/**/*.md", "findings/*.md")
LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")


def stage(folder: Path, root: Path = ROOT) -> None:
    """Lay out the documents, and the files that they link to, in a folder of their own, as they lie in the repository.

    mkdocs takes one folder and no other; with the same places in it, links are the same as on a page of a code host.

    Args:
        folder: a new one.
        root: of the repository.
    """
    pages = {path for pattern in PAGES for path in root.glob(pattern) if path.is_file()}
    linked = {
        (page.parent / name).resolve()
        for page in pages
        if page.suffix == ".md"
        for name in LINK.findall(page.read_text())
    }
    for path in pages | {path for path in linked if path.is_file() and root in path.parents}:
        place = folder / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


def build_pages(pages: Path, site: Path) -> None:
    """Build the site of staged pages.

    Args:
        pages: where :func:`stage` put them.
        site: its folder.

    Raises:
        mkdocs.exceptions.Abort: when a link, an anchor or a page is missing.
    """
    build(load_config(str(ROOT / "mkdocs.yml"), docs_dir=str(pages), site_dir=str(site), strict=True))


def main(out: str = "output/site") -> None:
    """Stage and build.

    Args:
        out: the folder of the site; the pages it is made of lie elsewhere for the time being.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")  # or a build that fails says nothing
    with TemporaryDirectory() as folder:
        pages = Path(folder) / "pages"
        stage(pages)
        build_pages(pages, Path(out).resolve())


if __name__ == "__main__":
    fire.Fire(main)
