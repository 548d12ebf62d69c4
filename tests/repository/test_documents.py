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
"""What the documents tell a reader to type exists: config files, commands, options, targets of make, links."""

from __future__ import annotations

import ast
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from bundle_runs import BUNDLE, ROOT
from document_blocks import FENCE, blocks, commands
from monai.bundle import ConfigParser

DOCUMENTS = sorted(file for folder in (ROOT, BUNDLE / "docs", ROOT / "benchmarks") for file in folder.glob("*.md"))
#: files of a reader: settings of their own, and what a training wrote into its output folder
OF_THE_USER = {"mydata.yaml", "config.yaml", "model.yaml"}
#: options of `monai.bundle run` itself, which are no entries of a config
OF_MONAI = {"tracking"}


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


def test_there_are_commands_to_test():
    found = {(document, command[1]) for document, command in (each.values for each in BUNDLE_COMMANDS)}
    for run_id in ("checking", "training", "evaluating", "inferring", "registering", "reporting"):
        assert {(ROOT / "README.md", run_id), (BUNDLE / "docs" / "README.md", run_id)} <= found


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
        assert {"demo", "test", "setup", "train"} <= named


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


def test_the_steps_of_the_readme_are_numbered_in_order():
    steps = [int(number) for number in re.findall(r"^### (\d+)\. ", (ROOT / "README.md").read_text(), re.MULTILINE)]
    assert steps[0] == 1 and all(after == before + 1 for before, after in pairwise(steps))
