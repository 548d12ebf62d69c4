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
"""What the documents tell a reader to type exists: config files, commands, options, targets of make, links, places; and
they are short enough to be read."""

from __future__ import annotations

import ast
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from bundle_runs import BUNDLE, CONFIGS, ROOT
from document_blocks import FENCE, blocks, commands
from mkdocs.exceptions import Abort
from monai.bundle import ConfigParser

from benchmarks.documents.site import build_pages, stage

#: what people read, with the number of words that it may have together
WRITTEN = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(BUNDLE / "docs").glob("*.md")])
MOST_WORDS = 15_000
#: and of its own
LIMITS = {ROOT / "README.md": 1000, BUNDLE / "docs" / "results.md": 2500}
RECORDS = sorted((ROOT / "benchmarks" / "results").rglob("*.md"))
DOCUMENTS = [*WRITTEN, *RECORDS, ROOT / "CHANGELOG.md", *sorted((ROOT / "findings").glob("*.md"))]
#: files of a reader: settings of their own, and what a training wrote into its output folder
OF_THE_USER = {"mydata.yaml", "config.yaml", "model.yaml"}
#: options of `monai.bundle run` itself, which are no entries of a config
OF_MONAI = {"tracking"}
#: options of `deeprs` itself, and those that need no word behind them
OF_DEEPRS = {"config", "recipe", "model", "out", "show", "traceback"}
SWITCHES = {"resume", "report", "inverse", "show", "traceback"}
#: the configs that a command merges; those of its options go between or after them
BASES = {
    "check": ["train"],
    "plan": ["train", "plan"],
    "train": ["train"],
    "evaluate": ["train", "evaluate"],
    "segment": ["inference"],
    "register": ["register", "sequence"],
    "apply": ["apply"],
    "report": ["report"],
    "prepare": ["prepare"],
    "label": ["train", "label"],
}


def of_monai(document):
    """The commands of ``monai.bundle``, also those that torchrun starts several times, as words after it."""
    several = [words[words.index("monai.bundle") + 1 :] for words in commands(document, "torchrun")]
    return commands(document, "python -m monai.bundle") + several


BUNDLE_COMMANDS = [
    pytest.param(document, words, id=f"{document.relative_to(ROOT)}-{words[0]}-{number}")
    for document in DOCUMENTS
    for number, words in enumerate(of_monai(document))
]


def options_of(words):
    """``--name value`` pairs of a command."""
    assert all(name.startswith("--") for name in words[::2]) and len(words) % 2 == 0, words
    return {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}


def shipped(document, value):
    """The files of a ``--config_file`` that have to exist, from the folder that the document is about, or the root."""
    names = ast.literal_eval(value) if value.startswith("[") else [value]
    in_bundle = BUNDLE in document.parents and not names[0].startswith("bundle/")
    place = BUNDLE if in_bundle else ROOT
    return [place / name for name in names if Path(name).name not in OF_THE_USER]


def merged(files):
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    return parser


DEEPRS_COMMANDS = [
    pytest.param(words, id=f"{document.relative_to(ROOT)}-{words[0]}-{number}")
    for document in DOCUMENTS
    for number, words in enumerate(commands(document, "deeprs"))
]


def test_there_are_commands_to_test():
    found = {(document, command[1]) for document, command in (each.values for each in BUNDLE_COMMANDS)}
    for run_id in ("checking", "training", "evaluating", "inferring", "registering", "applying", "reporting"):
        assert (BUNDLE / "docs" / "README.md", run_id) in found
    in_readme = [words[0] for words in commands(ROOT / "README.md", "deeprs")]
    assert in_readme == ["check", "train", "evaluate", "segment", "register"]
    assert {words[0] for (words,) in (each.values for each in DEEPRS_COMMANDS)} == BASES.keys()


def sorted_words(words):
    """The options of a command of ``deeprs``, a list of values for each, and the words that belong to none."""
    options, plain, waiting = {}, [], list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            plain.append(word)
            continue
        name = word.removeprefix("--")
        alone = name in SWITCHES and (not waiting or waiting[0].startswith("--"))
        options.setdefault(name, []).append(None if alone else waiting.pop(0))
    return options, plain


def named_config(name, folders):
    """The files of a ``--config`` or ``--recipe``: none for a file of the reader, or one yet to be written."""
    if Path(name).name in OF_THE_USER or name == "NAME":
        return []
    found = [CONFIGS / folder / f"{name}.yaml" for folder in folders if (CONFIGS / folder / f"{name}.yaml").is_file()]
    assert found, f"no config is called {name}"
    return found[:1]


@pytest.mark.parametrize("words", DEEPRS_COMMANDS)
def test_a_command_of_deeprs_exists_and_names_configs_and_entries_that_do(words):
    options, plain = sorted_words(words[1:])
    assert len(plain) <= {"evaluate": 1, "register": 2}.get(words[0], 9)
    files = [CONFIGS / f"{name}.yaml" for name in BASES[words[0]]]
    for name in options.get("config", []):
        files += named_config(name, ("data", "run", "ablations", ""))
    for name in options.get("recipe", []):
        files += named_config(name, ("recipes",))
    assert [name for name in options.keys() - OF_DEEPRS if name not in merged(files)] == []


@pytest.mark.parametrize(("document", "words"), BUNDLE_COMMANDS)
def test_a_command_names_configs_that_exist_and_entries_that_they_have(document, words):
    action, rest = words[0], words[1:]
    wanted = [rest.pop(0)] if action == "run" else []
    options = options_of(rest)
    files = shipped(document, options.pop("config_file"))
    assert files and [str(file) for file in files if not file.is_file()] == []
    if action == "run":
        wanted += options.keys() - OF_MONAI
    else:  # a command of MONAI's own, whose other options name its files
        wanted.append(options["net_id"])
        assert (BUNDLE / options["meta_file"]).is_file()
    parser = merged(files)
    assert [name for name in wanted if name not in parser] == []


def test_the_settings_of_the_readme_are_those_of_the_config():
    (settings,) = (yaml.safe_load(text) for text in blocks(ROOT / "README.md", "yaml"))
    parser = merged([BUNDLE / "configs" / "train.yaml"])
    assert {"spatial_size", "pixdim"} <= settings.keys()
    assert [name for name in settings if name not in parser] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_target_of_make_exists(document):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    spans = re.findall(r"`(make [^`\n]+)`", FENCE.sub("", document.read_text()))
    typed = [shlex.split(span)[1:] for span in spans] + commands(document, "make")
    named = {word for words in typed for word in words if "=" not in word}
    assert named - set(targets) == set()
    if document == ROOT / "README.md":
        assert {"demo", "test", "setup"} <= named


def anchors(document):
    """The names by which GitHub links to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading(document):
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", document.read_text()))
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def linked(document):
    """The documents that one leads to."""
    names = re.findall(r"\]\(([^)\s#:]+\.md)", document.read_text())
    return {(document.parent / name).resolve() for name in names}


def test_every_document_is_two_clicks_from_the_readme():
    first = linked(ROOT / "README.md")
    second = {document for each in first for document in linked(each)}
    assert {*DOCUMENTS} - {ROOT / "README.md"} - first - second == set()


@pytest.mark.parametrize("document", sorted((BUNDLE / "docs").glob("*.md")), ids=lambda path: path.name)
def test_a_document_of_the_bundle_links_to_nothing_outside_it(document):
    """The model zoo, the wheel and MONAI Label have the bundle alone."""
    assert {target for target in linked(document) if BUNDLE not in target.parents} == set()
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", document.read_text())
    assert {name for name in pictures if "/" in name} == set()


@pytest.mark.parametrize("document", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_place_that_a_document_names_is_there(document):
    spans = re.findall(r"`([\w./]+)`", FENCE.sub("", document.read_text()))
    named = {span for span in spans if re.match(r"(bundle|benchmarks|configs|scripts|tests|deeprs|findings)/\w", span)}
    named = {name for name in named if "NAME" not in name}
    assert {name for name in named if not any((root / name).exists() for root in (ROOT, BUNDLE))} == set()


def test_the_readme_says_where_the_parts_are_that_a_newcomer_looks_for():
    text = (ROOT / "README.md").read_text()
    places = {
        "joint/trainer.py": "class JointTrainer",
        "losses/region.py": "class RegionConstraint",
        "fields/transform_files.py": "def write_field_transform",
    }
    for place, content in places.items():
        assert f"`bundle/scripts/{place}`" in text
        assert content in (BUNDLE / "scripts" / place).read_text()
    assert "`bundle/configs/recipes/`" in text


@pytest.mark.parametrize(("document", "most"), LIMITS.items(), ids=lambda value: getattr(value, "name", None))
def test_a_document_is_not_longer_than_agreed(document, most):
    assert len(document.read_text().split()) <= most


def test_all_documents_together_are_not_longer_than_agreed():
    words = {document.name: len(document.read_text().split()) for document in WRITTEN}
    assert sum(words.values()) <= MOST_WORDS, words


@pytest.mark.parametrize("name", ["tutorial.md", "monai_label.md"])
def test_the_steps_of_a_document_are_numbered_in_order(name):
    steps = [int(number) for number in re.findall(r"^## (\d+)\. ", (BUNDLE / "docs" / name).read_text(), re.MULTILINE)]
    assert steps[0] == 1 and all(after == before + 1 for before, after in pairwise(steps))


# ---- the site


@pytest.fixture
def pages(tmp_path):
    stage(tmp_path / "pages")
    return tmp_path / "pages"


def test_the_site_has_a_page_for_every_document(pages, tmp_path):
    build_pages(pages, tmp_path / "site")
    for document in DOCUMENTS:
        name = "index.html" if document.name == "README.md" else f"{document.stem}.html"
        page = tmp_path / "site" / document.relative_to(ROOT).with_name(name)
        title = re.search(r"^# (.+)$", document.read_text(), re.MULTILINE).group(1)
        assert title in page.read_text()


@pytest.mark.parametrize("text", ["[gone](gone.md)", "[gone](bundle/docs/data.md#gone)", "![gone](gone.png)"])
def test_a_dead_link_ends_the_site(text, pages, tmp_path, caplog):
    with (pages / "README.md").open("a") as readme:
        readme.write(f"\n{text}\n")
    with pytest.raises(Abort):
        build_pages(pages, tmp_path / "site")
    assert [record.levelname for record in caplog.records if "gone" in record.getMessage()] == ["WARNING"]


def test_a_page_that_the_menu_lacks_ends_the_site(pages, tmp_path):
    (pages / "bundle" / "docs" / "new.md").write_text("# New\n")
    with pytest.raises(Abort):
        build_pages(pages, tmp_path / "site")
