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
"""Instance refinement: what it lowers, what it leaves alone, and the commands that ask for it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from pydoc import locate

import nibabel as nib
import pytest
import torch
import yaml
from bundle_runs import STRUCTURES, tiny, workflow
from tiny_joint import NUM_CLASSES, make_networks, make_pair, same_bits, weights

import scripts.joint.state
from scripts.fields.metrics import folding_percent
from scripts.joint.sampling import UniformScale
from scripts.joint.state import PairState
from scripts.joint.updates import Term
from scripts.losses.cross_entropy import WarpedCrossEntropy
from scripts.losses.local_ncc import LocalNCC
from scripts.losses.region import RegionConstraint
from scripts.losses.smoothness import Smoothness
from scripts.matching.match import Matching
from scripts.methods.matched import MatchedState
from scripts.registration.refinement import Refinement

SIMILARITY = Term(LocalNCC(window=5), ("warped_image", "fixed_image"))
SMOOTHNESS = Term(Smoothness(), ("ddf",))


def makers(networks=None, **options):
    """A state of a pair, and what makes another one of the same pair."""
    networks = {name: network.eval() for name, network in (networks or make_networks()).items()}
    make = partial(PairState, make_pair(()), networks, num_classes=NUM_CLASSES, **options)
    return make(), make


def objective(terms: dict[str, Term], pair: PairState) -> float:
    with torch.no_grad():
        return sum(
            term.weight * float(term.loss(*(getattr(pair, q) for q in term.quantities))) for term in terms.values()
        )


# ---- what it does to a field


def test_more_steps_lower_the_objective_further():
    terms = {"similarity": SIMILARITY, "smoothness": SMOOTHNESS}
    pair, make = makers()
    values = [objective(terms, Refinement(terms, steps)(pair, make)) for steps in (0, 5, 20)]
    assert values[2] < values[1] < values[0] - 0.005


def test_no_steps_give_the_very_same_pair():
    pair, make = makers()
    assert Refinement({"similarity": SIMILARITY}, 0)(pair, make) is pair
    assert pair.computed("ddf") is None  # nor was anything computed


def test_the_first_step_moves_a_voxel_by_the_learning_rate_against_the_gradient():
    image = torch.linspace(0, 1, 16).view(16, 1, 1).expand(1, 1, 16, 16, 16)
    make = partial(PairState, {"moving_image": image, "fixed_image": image + 0.1}, {}, num_classes=NUM_CLASSES)
    error = Term(torch.nn.MSELoss(), ("warped_image", "fixed_image"))
    refined = Refinement({"error": error}, 1, learning_rate=0.05)(
        make(carried={"ddf": torch.zeros(1, 3, 16, 16, 16)}), make
    )
    inside = refined.ddf[:, 0, 4:-4, 4:-4, 4:-4]  # everywhere the ramp is too low: uphill is along the first axis
    assert torch.allclose(inside, torch.tensor(0.05), atol=1e-3)


def test_refining_by_similarity_alone_does_not_fold():
    """With a displacement for each voxel neighbours would cross within these steps: no term keeps the field smooth."""
    pair, make = makers()
    refined = Refinement({"similarity": SIMILARITY}, 30)(pair, make)
    assert folding_percent(pair.ddf) == 0 and folding_percent(refined.ddf) == 0
    assert (refined.ddf - pair.ddf).abs().max() > 1


def test_every_step_makes_one_state_and_the_end_another():
    pair, make = makers()
    made = []

    def counted(**options):
        made.append(options)
        return make(**options)

    Refinement({"similarity": SIMILARITY}, 4)(pair, counted)
    assert len(made) == 5


@pytest.mark.parametrize("steps, squarings", [(1, 1), (20, 3), (200, 7)])
def test_the_further_a_refinement_may_go_the_finer_its_velocity_is_followed(steps, squarings):
    refinement = Refinement({}, steps, learning_rate=0.05)
    assert refinement._squarings() == squarings
    assert steps * 0.05 / 2 / 2**squarings <= 1 / 16


@pytest.mark.parametrize("size", [(16, 16, 16), (15, 17, 11)])
def test_fields_of_any_size_are_refined(size):
    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    make = partial(PairState, {"moving_image": image, "fixed_image": image.flip(2)}, {}, num_classes=NUM_CLASSES)
    refined = Refinement({"similarity": SIMILARITY}, 2)(make(carried={"ddf": torch.zeros(1, 3, *size)}), make)
    assert refined.ddf.shape == (1, 3, *size) and refined.ddf.abs().max() > 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_known_shift_is_recovered_along_its_axis(axis):
    image = torch.linspace(0, 1, 16).view([16 if k == axis else 1 for k in range(3)]).expand(1, 1, 16, 16, 16)
    pair = {"moving_image": image, "fixed_image": image - 1 / 15}  # of a ramp: a step back of one voxel
    make = partial(PairState, pair, {}, num_classes=NUM_CLASSES)
    error = Term(torch.nn.MSELoss(), ("warped_image", "fixed_image"))
    refined = Refinement({"error": error, "smoothness": Term(Smoothness(), ("ddf",), weight=0.01)}, 100)(
        make(carried={"ddf": torch.zeros(1, 3, 16, 16, 16)}), make
    )
    inside = refined.ddf[:, :, 4:-4, 4:-4, 4:-4]
    assert (inside[:, axis] + 1).abs().mean() < 0.02 and (inside[:, axis] + 1).abs().max() < 0.1
    others = [k for k in range(3) if k != axis]
    assert inside[:, others].abs().mean() < 0.05


def test_networks_and_images_stay_as_they_are():
    networks = make_networks()
    before = {name: weights(network) for name, network in networks.items()}
    pair, make = makers(networks)
    region = Term(RegionConstraint(), ("warped_prob", "fixed_prob"), weight=10.0)
    refined = Refinement({"similarity": SIMILARITY, "region": region}, 3)(pair, make)
    assert all(same_bits(weights(networks[name]), before[name]) for name in networks)
    assert all(p.grad is None for network in networks.values() for p in network.parameters())
    assert not refined.ddf.requires_grad and not refined.warped_image.requires_grad
    assert torch.equal(refined.fixed_image, pair.fixed_image)


def test_what_the_field_does_not_change_is_computed_once():
    networks = make_networks()
    calls = []
    networks["segmentation"].register_forward_hook(lambda *_: calls.append(1))
    pair, make = makers(networks)
    region = Term(RegionConstraint(), ("warped_moving_prob", "fixed_prob"))
    Refinement({"region": region}, 5)(pair, make)
    assert len(calls) == 2  # the moving and the fixed image, and that is all


def test_the_full_field_is_refined_where_training_samples_a_part_of_it():
    terms = {"error": Term(torch.nn.MSELoss(), ("sampled_image", "fixed_image"))}
    pair, make = makers(sampling=UniformScale(0, 1))
    refined = Refinement(terms, 2)(pair, make)
    assert torch.equal(refined.sampling_factor, torch.ones(1, 1, 1, 1, 1))


def test_a_small_volume_in_bfloat16_is_refined_in_float32():
    pair, make = makers(amp_dtype=torch.bfloat16)
    refined = Refinement({"similarity": SIMILARITY}, 2)(pair, make)
    assert refined.ddf.dtype == torch.float32 and torch.isfinite(refined.ddf).all()


# ---- which terms


def test_terms_that_cannot_be_computed_are_left_out():
    pair, make = makers({"registration": make_networks()["registration"]})
    others = {
        "labels": Term(WarpedCrossEntropy(), ("warped_pred", "warped_label"), requires=("moving_label",)),
        "hidden label": Term(torch.nn.MSELoss(), ("warped_label", "fixed_label")),
        "no network": Term(RegionConstraint(), ("warped_prob", "fixed_prob")),
        "off": Term(torch.nn.L1Loss(), ("warped_image", "fixed_image"), weight=0.0),
        "not of the field": Term(torch.nn.L1Loss(), ("moving_image", "fixed_image")),
    }
    with_others = Refinement({"similarity": SIMILARITY, **others}, 3)(pair, make)
    assert torch.equal(with_others.ddf, Refinement({"similarity": SIMILARITY}, 3)(pair, make).ddf)
    with pytest.raises(ValueError, match=r"nothing to refine a field by: .* Leave `--refine` out"):
        Refinement(others, 3)(pair, make)


def test_a_term_that_starts_late_counts_in_full():
    pair, make = makers()
    late = Term(SIMILARITY.loss, SIMILARITY.quantities, weight=1.0, start=100, ramp=100)
    assert torch.equal(
        Refinement({"late": late}, 2)(pair, make).ddf, Refinement({"now": SIMILARITY}, 2)(pair, make).ddf
    )


@pytest.mark.parametrize("steps", [-1, 2.5, "20", True])
def test_steps_are_a_whole_number(steps):
    with pytest.raises(ValueError, match=rf"`--refine` takes a number of steps, whole and 0 or more, found {steps!r}"):
        Refinement({"similarity": SIMILARITY}, steps)


def test_without_a_number_the_recipe_says_how_many_steps():
    pair, make = makers({"registration": make_networks()["registration"]})
    terms = {"similarity": SIMILARITY}
    assert torch.equal(Refinement(terms, None, default=3)(pair, make).ddf, Refinement(terms, 3)(pair, make).ddf)
    assert Refinement(terms, None)(pair, make) is pair and Refinement(terms, 0, default=3)(pair, make) is pair
    assert Refinement({}, None, default=3)(pair, make) is pair  # nothing to go by, and nobody has asked


def test_without_terms_a_state_that_can_refines_itself():
    networks = {"segmentation": make_networks()["segmentation"]}
    matching = Matching(levels=[[4, 2, 2]], overlap=1.0)
    batch = make_pair()

    def make(**options):
        return MatchedState(batch, networks, num_classes=NUM_CLASSES, matching=matching, **{"carried": None, **options})

    pair = make()
    refined = Refinement({}, 3)(pair, make)
    assert torch.equal(refined.ddf, make(carried=pair.refined(3)).ddf) and not torch.equal(refined.ddf, pair.ddf)


def test_a_learning_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="above 0, found 0"):
        Refinement({"similarity": SIMILARITY}, 1, learning_rate=0)


# ---- the commands


def register(phantoms: Path, trained: Path, out: Path, **entries) -> dict:
    files = sorted((phantoms / "images").glob("*.nii.gz"))
    model = yaml.safe_load((trained / "model.yaml").read_text())
    entries |= {"moving": str(files[0]), "fixed": str(files[1]), "output_dir": str(out)}
    configs = ["register.yaml", str(trained / "model.yaml")]
    with workflow(configs, "infer", run_id="registering", properties_path=None, **entries) as registering:
        state = registering.parser.get_parsed_content("state")
        assert state.func is locate(model["state"]["_target_"])
        registering.run()
    return json.loads((out / "summary.json").read_text())


def test_pc_reg_registers_through_masks_of_its_own_from_model_yaml_alone(phantoms, pc_reg, tmp_path):
    model = yaml.safe_load((pc_reg / "model.yaml").read_text())
    assert model["state"]["_target_"] == "scripts.methods.PerceptionState"
    assert model["num_classes"] == len(STRUCTURES) + 1
    before = register(phantoms, pc_reg, tmp_path / "plain")
    again = register(phantoms, pc_reg, tmp_path / "none", refine=0)
    after = register(phantoms, pc_reg, tmp_path / "refined", refine=10)
    plain, none, refined = (
        nib.load(next((tmp_path / name).glob("*_warp.nii.gz"))).get_fdata() for name in ("plain", "none", "refined")
    )
    assert (plain == none).all() and before["local_ncc_after"] == again["local_ncc_after"]
    assert (plain != refined).any() and after["mean_displacement_voxels"] != before["mean_displacement_voxels"]


def test_evaluating_refines_each_pair_and_says_so(phantoms, pc_reg, tmp_path):
    configs = ["train.yaml", "recipes/pc_reg.yaml", "evaluate.yaml", str(pc_reg / "model.yaml")]
    metrics = {}
    for steps in (0, 5):
        entries = tiny(configs[:2]) | {"dataset_dir": str(phantoms), "output_dir": str(tmp_path / str(steps))}
        with workflow(configs, run_id="evaluating", max_pairs=1, refine=steps, **entries) as evaluating:
            evaluating.run()
        metrics[steps] = json.loads((tmp_path / str(steps) / "metrics.json").read_text())
        assert metrics[steps]["config"]["refine"] == steps
    dice = [metrics[steps]["registration"]["dice"] for steps in (0, 5)]
    assert dice[0] != dice[1]
    assert metrics[0]["identity"] == metrics[5]["identity"]
    assert metrics[0]["segmentation"] == metrics[5]["segmentation"]


def test_what_the_terms_read_is_warped_in_one_pass_of_each_step(monkeypatch):
    passes = []
    plain = scripts.joint.state.warp_together
    monkeypatch.setattr("scripts.joint.state.warp_together", lambda images, ddf: passes.append(1) or plain(images, ddf))
    terms = {"similarity": SIMILARITY, "classes": Term(torch.nn.MSELoss(), ("warped_moving_prob", "fixed_prob"))}
    pair, make = makers()
    Refinement(terms, 3)(pair, make)
    assert len(passes) == 2 + 2  # the first state is asked quantity by quantity
