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
"""Components find the config of their run, handed over or, under MONAI's own commands, by themselves."""

from __future__ import annotations

from bundle_runs import workflow

from scripts.training.config_of_run import config_parser, config_workflow, running

CONFIG = {"seen": {"_target_": "scripts.training.config_of_run.config_parser"}}


def seen_by_a_component(made):
    made.parser["seen"] = CONFIG["seen"]
    return made.parser.get_parsed_content("seen")


def test_a_component_finds_the_parser_that_builds_it():
    with workflow(["report.yaml"], "infer") as made:
        assert seen_by_a_component(made) is made.parser
    assert config_parser() is None and config_workflow() is None


def test_a_workflow_that_is_handed_over_is_found_wherever_the_caller_stands():
    with workflow(["report.yaml"], "infer") as made:
        with running(made):
            assert config_workflow() is made and config_parser() is made.parser
        assert config_workflow() is None


def test_of_two_workflows_the_one_that_was_handed_over_last_counts():
    with workflow(["report.yaml"], "infer") as outer, workflow(["apply.yaml"], "infer") as inner, running(outer):
        with running(inner):
            assert config_parser() is inner.parser
        assert config_parser() is outer.parser
