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

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import torch
from bundle_runs import tiny, workflow
from tiny_joint import NUM_CLASSES, FixedScale, count_forwards, make_networks, make_pair

from scripts.data.pairs import ROLES
from scripts.fields.warping import warp
from scripts.joint.sampling import BetaScale
from scripts.methods.brbs import TripletState
from scripts.registration.refinement import Refinement

CONFIGS = ["train.yaml", "recipes/brbs.yaml"]
R_TERMS = ("similarity", "backward_similarity", "smoothness", "backward_smoothness", "semantic", "bidirectional")


def make_triplet(batch_size=1, labels=("moving",)):
    style = make_pair((), batch_size=batch_size, seed=1)["moving_image"]
    return {**make_pair(labels, batch_size), "style_image": style}


def make_state(networks=None, batch=None, **options):
    networks = make_networks() if networks is None else networks
    return TripletState(make_triplet() if batch is None else batch, networks, num_classes=NUM_CLASSES, **options)


def drawn(number, **options):
    """A state that drew this direction."""
    return make_state(carried={"direction": torch.tensor(number)}, **options)


# ---- registration, both ways


def test_the_six_directions_are_the_three_pairs_in_both_orders():
    batch = make_triplet()
    found = set()
    for number in range(6):
        state = drawn(number, batch=batch)
        images = (state.source_image, state.target_image)
        found.add(tuple(next(r for r in ROLES if batch[f"{r}_image"] is image) for image in images))
    pairs = {("moving", "style"), ("moving", "fixed"), ("fixed", "style")}
    assert found == pairs | {(b, a) for a, b in pairs}


def test_directions_are_drawn_equally_often_and_by_the_seed():
    networks, batch = make_networks(), make_triplet()

    def draws():
        torch.manual_seed(0)
        return [int(make_state(networks, batch).direction) for _ in range(600)]

    first = draws()
    assert first == draws()
    assert set(first) == set(range(6)) and all(abs(count - 100) < 40 for count in Counter(first).values())


def test_both_directions_see_the_same_two_images_the_other_way_round():
    networks = make_networks()
    state = make_state(networks)
    source, target = state.source_image, state.target_image
    torch.testing.assert_close(state.forward_ddf, networks["registration"](source, target))
    torch.testing.assert_close(state.backward_ddf, networks["registration"](target, source))
    torch.testing.assert_close(state.warped_source_image, warp(source, state.forward_ddf))
    torch.testing.assert_close(state.warped_target_image, warp(target, state.backward_ddf))


def test_regions_are_the_label_where_there_is_one_and_else_what_the_network_says():
    networks, batch = make_networks(), make_triplet()
    for number in range(6):
        state = drawn(number, networks=networks, batch=batch, learning=networks)
        for side in ("source", "target"):
            image, regions = getattr(state, f"{side}_image"), getattr(state, f"{side}_regions")
            labelled = image is batch["moving_image"]
            predicted = networks["segmentation"](image).softmax(1)
            torch.testing.assert_close(regions, state.moving_label if labelled else predicted)
            assert not regions.requires_grad
    state = drawn(0, batch=make_triplet(labels=("moving", "fixed")))
    assert torch.equal(state.target_regions, state.fixed_label)


# ---- space-style sampling


def test_alpha_0_and_beta_0_give_the_labelled_image_and_its_label_to_the_bit():
    state = make_state(sampling=FixedScale(0.0), style_sampling=FixedScale(0.0))
    assert state.ddf.abs().max() > 0.1 and not torch.equal(state.style_on_moving, state.moving_image)
    assert torch.equal(state.sampled_image, state.moving_image)
    assert torch.equal(state.sampled_label, state.moving_label)


def test_beta_1_is_the_registered_third_image_and_alpha_leaves_the_style():
    state = make_state(sampling=FixedScale(0.0), style_sampling=FixedScale(1.0))
    field = state.networks["registration"](state.style_image, state.moving_image)
    torch.testing.assert_close(state.sampled_image, warp(state.style_image, field))
    state = make_state(sampling=FixedScale(1.0), style_sampling=None)
    assert torch.equal(state.sampled_image, state.warped_image)
    assert torch.equal(state.sampled_label, state.warped_label)


def test_factors_differ_within_a_batch_and_do_not_share_their_draws():
    torch.manual_seed(0)
    beta = partial(BetaScale, 0.3, 0.3)
    state = make_state(batch=make_triplet(3), sampling=beta(), style_sampling=beta(), mix_sampling=beta())
    names = ("sampling_factor", "style_factor", "mix_factor")
    factors = [getattr(state, name) for name in names]
    assert all(factor.shape == (3, 1, 1, 1, 1) for factor in factors)
    assert len({value for factor in factors for value in factor.flatten().tolist()}) == 9
    for i in range(3):
        image, style = state.moving_image[i : i + 1], state.style_on_moving[i : i + 1]
        alpha, styled = factors[0][i] * state.ddf[i : i + 1], image + factors[1][i] * (style - image)
        torch.testing.assert_close(state.sampled_image[i : i + 1], warp(styled, alpha))
        torch.testing.assert_close(state.sampled_label[i : i + 1], warp(state.moving_label[i : i + 1], alpha))


def test_without_style_the_third_image_is_not_registered():
    networks = make_networks()
    counted = count_forwards(networks)
    state = make_state(networks, style_sampling=None)
    assert state.style_factor.flatten().tolist() == [0.0]
    _ = state.sampled_image
    assert counted == {"registration": 1}


def test_a_recipe_that_forgets_the_third_image_is_told_so():
    with pytest.raises(KeyError, match="train::sampler::style: true"):
        _ = make_state(batch=make_pair()).style_image


# ---- mixtures of misaligned images


def test_a_mixture_is_of_the_fixed_image_and_the_third_one_warped_twice():
    state = make_state(mix_sampling=FixedScale(0.25))
    first = state.networks["registration"](state.style_image, state.moving_image)
    torch.testing.assert_close(state.misaligned_image, warp(warp(state.style_image, first), state.ddf))
    expected = 0.25 * state.misaligned_image + 0.75 * state.fixed_image
    torch.testing.assert_close(state.mixed_image, expected)
    for name in ("misaligned", "mixed"):
        predicted = state.networks["segmentation"](getattr(state, f"{name}_image"))
        torch.testing.assert_close(getattr(state, f"{name}_pred"), predicted)


# ---- evaluation


def test_a_pair_without_a_third_image_is_registered_as_deeprs_does():
    networks, batch = make_networks(), make_pair()
    state = make_state(networks, batch)
    expected = networks["registration"](batch["moving_image"], batch["fixed_image"])
    torch.testing.assert_close(state.ddf, expected)
    assert torch.equal(state.warped_label, warp(state.moving_label, state.ddf))


def test_a_field_that_is_refined_is_the_forward_field_of_moving_onto_fixed(terms):
    def make(**options):
        return make_state(networks, batch, **options)

    networks, batch = make_networks(), make_pair(())
    with torch.no_grad():
        pair = make()
        refined = Refinement(terms["registration"], steps=2)(pair, make)
    assert torch.equal(refined.forward_ddf, refined.ddf) and not torch.equal(refined.ddf, pair.ddf)
    assert refined.source_image is pair.moving_image and refined.target_image is pair.fixed_image
    usable = Refinement(terms["registration"], steps=1)._usable(make(carried=pair.of_field(pair.ddf.requires_grad_())))
    assert set(usable) == {"similarity", "smoothness", "semantic", "bidirectional"}


# ---- the recipe


def recipe(phantoms, output_dir, **entries):
    options = {"dataset_dir": str(phantoms), "output_dir": str(output_dir), **tiny(CONFIGS), **entries}
    return workflow(CONFIGS, **options)


@pytest.fixture(scope="module")
def terms(phantoms, tmp_path_factory):
    """What each network of the recipe is taught: update -> term."""
    with recipe(phantoms, tmp_path_factory.mktemp("brbs")) as training:
        updates = training.parser.get_parsed_content("updates")
        return {name: update.terms for name, update in updates.items()}


@pytest.mark.parametrize(
    ("taught", "term"),
    [("registration", name) for name in R_TERMS] + [("segmentation", name) for name in ("augmented", "mix")],
)
def test_each_term_reaches_its_network_and_no_other(taught, term, terms):
    assert set(terms["registration"]) == set(R_TERMS) and set(terms["segmentation"]) == {"augmented", "mix"}
    one = terms[taught][term]
    for number in range(6 if term == "semantic" else 1):
        networks = make_networks()
        state = drawn(number, networks=networks, learning={taught}, wanted=one.quantities, style_sampling=BetaScale())
        one.loss(*(getattr(state, quantity) for quantity in one.quantities)).backward()
        reached = {name for name in networks if any(p.grad is not None for p in networks[name].parameters())}
        assert reached == {taught}
        assert any(parameter.grad.abs().max() > 0 for parameter in networks[taught].parameters())


def test_the_terms_of_registration_do_not_reach_segmentation_in_the_fused_form_either(terms):
    for number in range(6):
        networks = make_networks()
        state = drawn(number, networks=networks, learning=networks)
        for term in terms["registration"].values():
            term.loss(*(getattr(state, quantity) for quantity in term.quantities)).backward(retain_graph=True)
        assert all(parameter.grad is None for parameter in networks["segmentation"].parameters())


def same(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def test_a_resumed_training_draws_what_an_uninterrupted_one_does(phantoms, tmp_path):
    def run(folder, **entries):
        with recipe(phantoms, tmp_path / folder, total_iterations=4, **entries) as training:  # the rates are the same
            training.run()

    run("whole", max_epochs=2)
    run("broken", max_epochs=1)
    run("broken", max_epochs=2, resume=True)
    whole, broken = (torch.load(tmp_path / name / "train_state.pt", weights_only=True) for name in ("whole", "broken"))
    assert whole["iteration"] == 4 and same(whole, broken)
