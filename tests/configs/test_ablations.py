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
"""What each ablation leaves of its method: the terms that are live, and which sampling makes what S learns from."""

from __future__ import annotations

from typing import Any

import pytest
from bundle_runs import CONFIGS
from monai.bundle import ConfigParser

from scripts.joint.sampling import Identity

ALIKE = {"similarity", "smoothness"}  # R alone
BOTH_WAYS = ALIKE | {"backward_similarity", "backward_smoothness"}  # R of BRBS alone
DEEPRS_S = {"augmented", "overlap"}

#: row -> terms of each update; then whether S learns from part of the way (DSS, "space") and from a sampled style
TABLE: dict[str, tuple[dict[str, set[str]], bool, bool]] = {
    "deeprs": (
        {
            "discriminator": {"alignment"},
            "registration": ALIKE | {"adversarial", "region"},
            "segmentation": DEEPRS_S | {"weak"},
        },
        True,
        False,
    ),
    "deeprs_r": ({"registration": ALIKE}, False, False),
    "deeprs_s": ({"segmentation": {"supervised", "overlap"}}, False, False),
    "deeprs_rs": ({"registration": ALIKE, "segmentation": DEEPRS_S}, False, False),
    "deeprs_rs_dss": ({"registration": ALIKE, "segmentation": DEEPRS_S}, True, False),
    "deeprs_rs_acm": (
        {
            "discriminator": {"alignment"},
            "registration": ALIKE | {"adversarial"},
            "segmentation": DEEPRS_S | {"weak"},
        },
        False,
        False,
    ),
    "deeprs_rs_drc": ({"registration": ALIKE | {"region"}, "segmentation": DEEPRS_S}, False, False),
    "deeprs_agreement": ({"registration": ALIKE | {"region"}, "segmentation": DEEPRS_S | {"weak"}}, True, False),
    "brbs": (
        {"registration": BOTH_WAYS | {"semantic", "bidirectional"}, "segmentation": {"augmented", "mix"}},
        True,
        True,
    ),
    "brbs_unet": ({"segmentation": {"augmented"}}, False, False),
    "brbs_image": ({"registration": BOTH_WAYS, "segmentation": {"augmented"}}, False, False),
    "brbs_space": ({"registration": BOTH_WAYS, "segmentation": {"augmented"}}, True, False),
    "brbs_style": ({"registration": BOTH_WAYS, "segmentation": {"augmented"}}, True, True),
    "brbs_space_mmr": ({"registration": BOTH_WAYS, "segmentation": {"augmented", "mix"}}, True, False),
    "brbs_sec": ({"registration": BOTH_WAYS | {"semantic"}, "segmentation": {"augmented"}}, True, True),
    "brbs_bic": (
        {"registration": BOTH_WAYS | {"semantic", "bidirectional"}, "segmentation": {"augmented"}},
        True,
        True,
    ),
}


def parsed(row: str) -> ConfigParser:
    """The configs of a row, merged; nothing of them reads a data set."""
    method, _, ablation = row.partition("_")
    configs = ["train.yaml", *(["recipes/brbs.yaml"] if method == "brbs" else [])]
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in [*configs, *([f"ablations/{row}.yaml"] if ablation else [])]])
    parser.update({"num_classes": 3, "device": "cpu"})
    return parser


def live_terms(parser: ConfigParser) -> dict[str, dict[str, Any]]:
    """The terms of each update that the schedule names."""
    updates = parser.get_parsed_content("updates")
    scheduled = {name for group in parser.get("schedule") for name in group}
    return {
        name: {key: term for key, term in updates[name].terms.items() if term.weight > 0} for name in sorted(scheduled)
    }


def test_every_ablation_is_in_the_table():
    assert {path.stem for path in CONFIGS.glob("ablations/*.yaml")} == set(TABLE) - {"deeprs", "brbs"}


@pytest.mark.parametrize("row", TABLE)
def test_an_ablation_leaves_the_terms_and_the_sampling_that_its_row_names(row):
    parser, (expected, space, style) = parsed(row), TABLE[row]
    terms = live_terms(parser)
    assert {name: set(found) for name, found in terms.items()} == expected
    assert set(parser.get_parsed_content("updates")) == set(expected)
    assert set(parser.get("tasks")) == {"registration", "segmentation"} & set(expected)

    read = {quantity for found in terms.values() for term in found.values() for quantity in term.quantities}
    is_sampled = "sampled_pred" in read
    state = parser.get_parsed_content("state").keywords
    assert state["sampling"] is parser.get_parsed_content("sampling")
    assert (is_sampled and not isinstance(state["sampling"], Identity)) == space
    assert (is_sampled and state.get("style_sampling") is not None) == style


@pytest.mark.parametrize("row", [row for row in TABLE if row.startswith("deeprs") and row != "deeprs_s"])
def test_rows_with_the_region_term_have_the_smoothness_of_train_yaml_and_the_others_that_of_the_paper(row):
    terms = live_terms(parsed(row))["registration"]
    assert terms["smoothness"].weight == (5.0 if "region" in terms else 1.0)


@pytest.mark.parametrize(
    ("row", "confidence"),
    [("deeprs", "confidence"), ("deeprs_rs_acm", "confidence"), ("deeprs_agreement", "agreement")],
)
def test_warped_labels_are_trusted_where_d_says_so_or_where_s_agrees(row, confidence):
    assert live_terms(parsed(row))["segmentation"]["weak"].quantities == ("fixed_pred", "warped_label", confidence)


@pytest.mark.parametrize("row", ["deeprs_s", "brbs_unet"])
def test_the_segmentation_network_alone_learns_from_the_labelled_images_as_they_are(row):
    quantities = {tuple(term.quantities) for term in live_terms(parsed(row))["segmentation"].values()}
    assert quantities == {("moving_pred", "moving_label")}
