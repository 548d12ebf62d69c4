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
"""Iterations are measured as they are trained: all terms, builds in turn, and counts that can be told beforehand."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter

import pytest
import torch
from bundle_runs import CONFIGS, ROOT
from tiny_joint import count_forwards, make_networks, make_pair

from benchmarks.costs import alternatives, entries, equality, gpu, iteration
from benchmarks.costs.builds import Child, tree_of, write_pairs
from benchmarks.costs.counting import Counts, peaks
from benchmarks.costs.naive import NaiveTraining

TINY = {
    "spatial_size": [16, 16, 16],
    "network_def::channels": [4, 8],
    "network_def::strides": [2],
    "discriminator_def::network::channels": [4, 8],
    "discriminator_def::network::strides": [2],
    "registration_def::encoder_channels": [4, 4],
    "registration_def::decoder_channels": [4, 4, 4],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs") / "pairs.pt"
    write_pairs(path, (16, 16, 16), num_classes=3)
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What is written of U-Nets of this build, twice: as it is, and as the build to compare with."""
    out = tmp_path_factory.mktemp("measured") / "iteration.json"
    options = {"dataset": "hippocampus", "size": (16, 16, 16), "augmentation": None, "output": str(out)}
    with pytest.MonkeyPatch.context() as patch:
        asked = []  # the order in which children are asked
        ask = Child.ask
        patch.setattr(Child, "ask", lambda child, *a, **k: (asked.append(child.log.stem), ask(child, *a, **k))[1])
        iteration.main(
            "unet", against=str(ROOT), **options, variants="no_such_entry=true", **{"network_def::channels": [4, 8, 8]}
        )
    return json.loads(out.read_text()), asked


def test_both_builds_report_and_take_turns(measured):
    record, asked = measured
    this, against = record["rows"]
    assert (this["build"], against["build"]) == ("this", "against")
    assert set(record["commits"]) == {"this", "against"}
    first, second = asked[:2]
    rounds = [asked[2 + 2 * turn : 4 + 2 * turn] for turn in range(iteration.FEWEST)]
    assert rounds == [[first, second], [second, first]] * 7 + [[first, second]]
    for row in (this, against):
        assert row["wall_ms_p90"] >= row["wall_ms"] > 0 and row["cpu_ms"] > 0


def test_a_build_does_exactly_what_it_does_itself(measured):
    this, against = measured[0]["rows"]
    assert this["aten_ops"] == against["aten_ops"] > 100
    assert (this["aten_ops_to_against"], this["flops_to_against"]) == (1, 1)


def test_a_variant_that_no_build_knows_is_left_out_with_the_reason(measured):
    reasons = measured[0]["left_out"]
    assert [*reasons] == ["unet no_such_entry=true (this)", "unet no_such_entry=true (against)"]
    assert all("no_such_entry" in reason.split("no entry")[1] for reason in reasons.values())


def test_the_floor_is_the_larger_of_arithmetic_and_bytes_at_the_speeds_measured(measured):
    record, row = measured[0], measured[0]["rows"][0]
    assert row["floor_flops_ms"] == pytest.approx(1e3 * row["flops"] / record["peaks"]["flops_per_s"], rel=1e-3)
    floor = max(row["floor_flops_ms"], row["floor_bytes_ms"])
    assert row["wall_over_floor"] == pytest.approx(row["wall_ms"] / floor, rel=1e-3)


@pytest.mark.parametrize("method", ["deeprs", "best", "unet", "voxelmorph"])
def test_every_term_counts_from_the_first_iteration_with_its_full_weight(method, data):
    parser = alternatives.parse(CONFIGS, method, "hippocampus", {**TINY, "augmentation": None})
    alternatives.prepare(parser, "cpu", 3, None)
    alternative = alternatives.make(method, parser)
    alternative.run([batch(data)])
    updates = parser.get_parsed_content("updates")
    terms = {f"{name}/{key}": term for name, update in updates.items() for key, term in update.terms.items()}
    assert set(alternative.losses()) == set(terms)
    assert all(term.weight_at(1) == term.weight != 0 for term in terms.values())
    assert {"deeprs": 8, "best": 6, "unet": 2, "voxelmorph": 2}[method] == len(terms)


def batch(data):
    return {key: value[None] for key, value in torch.load(data)["pairs"][0].items()}


def test_naive_code_runs_each_network_as_often_as_it_is_read():
    networks = make_networks()
    optimizers = {name: torch.optim.SGD(network.parameters(), lr=0.01) for name, network in networks.items()}
    naive = NaiveTraining(networks, optimizers, [["discriminator"], ["registration"], ["segmentation"]], num_classes=3)
    calls = count_forwards(networks)
    naive(make_pair())
    # S: both images for R, the sampled and the fixed one for itself. D: the reference once, and three times the warped
    assert calls == Counter(registration=3, segmentation=4, discriminator=4)
    assert set(naive.losses) == set(networks)


def test_a_convolution_has_the_arithmetic_and_the_bytes_that_paper_says():
    conv = torch.nn.Conv3d(2, 4, 3, padding=1, bias=False)
    image, optimizer = torch.rand(1, 2, 5, 6, 7), torch.optim.SGD(conv.parameters(), lr=0.1)
    with Counts([optimizer]) as counts:
        conv(image).sum().backward()
    found = counts.results()
    assert found["flops"] == 2 * (2 * 2 * 4 * 27 * 5 * 6 * 7)  # forward, and the gradient of the weights
    kept, weights = image.numel() + conv.weight.numel(), conv.weight.numel()
    assert found["bytes_at_least"] == 4 * (2 * kept + 4 * weights)
    assert found["aten_ops"] >= 3  # the convolution, the sum, the convolution's gradient


def test_the_speed_of_the_machine_is_that_of_something_it_did():
    found = peaks("cpu", side=8, repeats=2)
    assert all(1e7 < found[name] < 1e14 for name in ("flops_per_s", "bytes_per_s"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 14}, "15 or more"),
        ({"methods": "deeprs,unknown"}, "no method 'unknown'.*naive"),
        ({"variants": "amp", "amp": "yes"}, "'amp' is no NAME=VALUE"),
        ({"size": "16,16"}, "three whole numbers"),
        ({"dataset": "nowhere"}, "expected one of .*hippocampus"),
        ({"loader": "tape"}, "memory or files"),
        ({"against": "no-such-commit"}, "neither a commit"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(options, message):
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        iteration.main(**{"size": "16,16,16", **options})


def test_entries_of_a_command_line_are_what_they_mean():
    assert entries.as_values({"a": "false", "b": "True", "c": 2, "d": "word"}) == {
        "a": False,
        "b": True,
        "c": 2,
        "d": "word",
    }
    parsed = entries.parse_variants("amp=true,schedule=[[registration],[segmentation]];batch_size=4")
    assert [*parsed.values()] == [
        {},
        {"amp": True, "schedule": [["registration"], ["segmentation"]]},
        {"batch_size": 4},
    ]


def test_an_entry_that_no_build_has_leaves_nothing_to_measure():
    with pytest.raises(ValueError, match="nothing to measure.*no_such_entry"):
        iteration.main(size="16,16,16", no_such_entry=True)


def test_a_process_that_fails_is_left_out_with_what_it_said(tmp_path, caplog):
    entry = entries.Entry("unet", "this", "", {})
    setup = {"bundle": str(ROOT / "bundle"), "device": "cpu", "method": "nothing", "entries": {}}
    entry.child = Child(setup, tmp_path / "0_nothing.log")
    with caplog.at_level(logging.WARNING):
        entries.take_turns([entry], repeats=1)
    entry.child.close()
    assert "ended with 1" in entry.left_out and "KeyError: 'nothing'" in entry.left_out


def test_what_is_captured_has_the_arithmetic_of_what_is_not(monkeypatch):
    monkeypatch.setattr(entries, "attempt", lambda entry, step: None)  # nothing is asked of a child
    plain, captured, other = (
        entries.Entry("deeprs", "this", "", {"batch_size": size, "compile": compiled})
        for size, compiled in ((1, False), (1, True), (4, True))
    )
    plain.facts = {"flops": 7, "bytes_at_least": 8, "aten_ops": 9}
    entries.count([plain, captured, other], "cpu")
    assert captured.facts == {"flops": 7, "bytes_at_least": 8} and other.facts == {}


def test_another_commit_is_a_tree_that_is_gone_afterwards():
    if not (ROOT / ".git").exists():
        pytest.skip("not in a clone")
    with tree_of("HEAD") as tree:
        assert (tree / "bundle" / "configs" / "train.yaml").is_file() and tree != ROOT
    assert not tree.exists()


def test_losses_are_apart_by_their_relative_difference_and_float32_is_the_measure():
    plain = [{"a": 1.0, "b": -2.0}, {"a": 3.0, "b": -2.0}]
    near, far = ([{"a": row["a"] * factor, "b": row["b"]} for row in plain] for factor in (1.01, 1.1))
    assert equality.distance(plain, plain) == [0, 0]
    assert equality.distance(near, plain) == pytest.approx([0.01 * 1 / 2 / 2, 0.01 * 3 / 2 / 2])  # a is 2 in the mean
    rows = equality.compare({"": plain, equality.FLOAT32: near, "same": plain, "far": far})
    assert {name: row["within_rounding"] for name, row in rows.items()} == {
        "amp=false": True,
        "same": True,
        "far": False,
    }
    lost = [{"a": float("nan"), "b": 0.0}] * 2
    assert not equality.compare({"": plain, equality.FLOAT32: near, "lost": lost})["lost"]["within_rounding"]


def test_the_steps_of_a_gpu_take_six_minutes_at_most_and_write_few_files(tmp_path):
    steps = gpu.plan(tmp_path)
    assert sum(limit for limit, _ in steps.values()) <= 360
    assert len(steps) + 2 <= 8  # with log.txt and summary.json
    assert str(ROOT / "tests" / "integration" / "test_gpu.py") in steps["tests"][1]


def test_a_step_that_fails_or_takes_too_long_is_told_from_one_that_is_done(tmp_path):
    log = tmp_path / "log.txt"
    results = [gpu.run_step(name, 1, ["sh", "-c", name], log)["result"] for name in ("echo said", "exit 3", "sleep 9")]
    assert results == ["done", "failed", "too long"]
    assert "\nsaid\n" in log.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_there_is_nothing_to_do():
    with pytest.raises(SystemExit, match="finds none here"):
        gpu.main(steps="tests")


def test_an_unknown_step_is_named(tmp_path):
    with pytest.raises(ValueError, match="'lunch'.*equality"):
        gpu.main(str(tmp_path), steps="lunch", device="cpu")
