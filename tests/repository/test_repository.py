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

"""What holds for the repository as a whole: licence, size of modules, and one version of everything."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYTHON_FILES = sorted(
    file for folder in ("bundle", "deeprs", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")
)
MAX_MODULE_LINES = 400


def pinned_requirements() -> dict[str, str]:
    """Read requirements.txt as canonical name -> version; anything but an exact pin is refused."""
    pins = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    return pins


def project_table() -> str:
    """The [project] table of pyproject.toml as text, since Python 3.10 has no TOML reader."""
    return (ROOT / "pyproject.toml").read_text().split("[project]")[1].split("\n[")[0]


def accepted_requirements() -> dict[str, Requirement]:
    """Read the ranges under [project.dependencies] as canonical name -> requirement."""
    listed = project_table().split("dependencies = [")[1].split("\n]")[0]
    requirements = [Requirement(text) for text in re.findall(r'^\s*"([^"]+)"', listed, re.MULTILINE)]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


@pytest.fixture
def metadata() -> dict:
    return json.loads((ROOT / "bundle/configs/metadata.json").read_text())


def test_the_bundle_carries_the_same_licence_as_the_repository():
    assert (ROOT / "bundle/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_every_python_file_starts_with_the_licence_header():
    notice = (ROOT / "LICENSE").read_text().split("Copyright [yyyy] [name of copyright owner]\n")[1]
    lines = ["Copyright 2026 The DeepRS Authors", *(line[3:] for line in notice.splitlines() if line)]
    header = "".join(f"# {line}\n" for line in lines)
    assert [str(file) for file in PYTHON_FILES if not file.read_text().startswith(header)] == []


def test_no_module_of_the_bundle_is_too_long_to_read():
    lengths = {file.name: len(file.read_text().splitlines()) for file in (ROOT / "bundle/scripts").rglob("*.py")}
    assert lengths, "no modules found in bundle/scripts"
    assert {name: length for name, length in lengths.items() if length > MAX_MODULE_LINES} == {}


def test_the_pinned_versions_lie_in_the_ranges_that_users_may_have():
    pins, accepted = pinned_requirements(), accepted_requirements()
    assert pins.keys() == accepted.keys()
    assert [str(accepted[name]) for name, version in pins.items() if version not in accepted[name].specifier] == []


def test_the_metadata_states_the_pinned_versions(metadata):
    pins = pinned_requirements()
    stated = {"monai": metadata["monai_version"], "torch": metadata["pytorch_version"]}
    stated |= {"numpy": metadata["numpy_version"]}
    stated |= {canonicalize_name(name): version for name, version in metadata["required_packages_version"].items()}
    assert stated == {name: pins.get(name) for name in stated}


def test_the_project_the_bundle_and_the_changelog_are_at_one_version(metadata):
    project = re.search(r'^version = "(.+)"$', project_table(), re.MULTILINE).group(1)
    changelog = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)
    assert (metadata["version"], changelog) == (project, project)
    assert project in metadata["changelog"]
