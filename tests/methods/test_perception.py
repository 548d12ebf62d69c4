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
"""PC-Reg: registration of masked regions, and who learns from what in its two stages."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from bundle_runs import CONFIGS
from monai.bundle import ConfigParser
from monai.networks.nets import UNet
from tiny_joint import NUM_CLASSES, SIDE, count_forwards, make_networks, make_pair, same_bits, weights
from tiny_networks import ByBrightness, SameShift
from torch._subclasses.fake_tensor import FakeTensorMode

from scripts.joint.exchange import Exchange
from scripts.joint.trainer import JointTrainer
from scripts.joint.updates import Update
from scripts.losses.local_ncc import LocalNCC
from scripts.methods.perception import GuidedState, PerceptionState, RegionalAgreement, RegionalNCC
from scripts.networks.pretrained import start_from
from scripts.networks.registration import RegistrationUNet
from scripts.networks.weights import FILES, save_atomically
from scripts.registration.pair import Subject, register_pair

ONE_LABEL = pytest.mark.parametrize("role", ["moving", "fixed"])


class Stacks(torch.nn.Module):
    """A registration network that keeps what it was shown, and moves nothing."""

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        self.seen = moving, fixed
        return fixed.new_zeros(len(fixed), 3, *fixed.shape[2:])


class Shift(torch.nn.Module):
    """A registration network that fetches every voxel from the next one along the first axis."""

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
        return torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1, 1).expand(len(fixed), 3, *fixed.shape[2:])


def small_networks(seed: int = 0) -> dict[str, torch.nn.Module]:
    """S, and an R for masked regions whose field is some tenths of a voxel long."""
    networks = make_networks(seed)
    unet = UNet(3, 2 * (NUM_CLASSES - 1), 4, channels=(4, 8), strides=(2,), norm="INSTANCE")
    registration = RegistrationUNet(unet, features=4, flow_init_std=0.1)
    return {"segmentation": networks["segmentation"], "registration": registration}


def make_state(networks, batch=None, **options) -> PerceptionState:
    return PerceptionState(batch or make_pair(), networks, num_classes=NUM_CLASSES, **options)


def recipe_updates(recipe: str, networks: dict) -> dict[str, Update]:
    """The updates of a recipe, as its file says, for these networks."""
    parser = ConfigParser(ConfigParser.load_config_files([str(CONFIGS / "train.yaml"), str(CONFIGS / recipe)]))
    return {
        name: Update(
            networks[name],
            torch.optim.SGD(networks[name].parameters(), lr=0.05),
            parser.get_parsed_content(f"updates::{name}::terms"),
        )
        for name in ("registration", "segmentation")
    }


def trainer(recipe: str, networks: dict, batches: list, names=("registration", "segmentation")) -> JointTrainer:
    config = ConfigParser.load_config_files([str(CONFIGS / "train.yaml"), str(CONFIGS / recipe)])
    updates = {name: update for name, update in recipe_updates(recipe, networks).items() if name in names}
    schedule = [[name for name in group if name in names] for group in config["schedule"]]
    return JointTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=batches,
        networks=networks,
        updates=updates,
        schedule=[group for group in schedule if group],
        state=partial(PerceptionState, num_classes=NUM_CLASSES),
        carry=config["train"]["trainer"]["carry"],
    )


# ---- masks and regions


def test_hard_masks_cut_out_each_structure():
    image = torch.rand(1, 1, SIDE, SIDE, SIDE).mul(NUM_CLASSES - 1).round() / (NUM_CLASSES - 1)
    networks = {"segmentation": ByBrightness(NUM_CLASSES), "registration": Stacks()}
    state = make_state(networks, {"moving_image": image, "fixed_image": 1 - image})
    for k in range(1, NUM_CLASSES):
        brightness = k / (NUM_CLASSES - 1)
        assert torch.equal(state.moving_mask[:, k - 1 : k], (image == brightness).float())
        assert torch.equal(state.moving_regions[:, k - 1 : k], torch.where(image == brightness, image, 0))
        assert torch.equal(state.fixed_regions[:, k - 1 : k], torch.where(1 - image == brightness, 1 - image, 0))
    assert torch.equal(state.ddf, torch.zeros_like(state.ddf))
    assert all(map(torch.equal, networks["registration"].seen, (state.moving_regions, state.fixed_regions)))


def test_soft_masks_are_the_probabilities_of_the_structures():
    state = make_state(small_networks(), masks="soft")
    assert torch.equal(state.moving_mask, state.moving_prob[:, 1:])
    assert torch.equal(state.fixed_mask, state.fixed_prob[:, 1:])
    hard = make_state(small_networks())
    assert torch.equal(hard.fixed_mask, (state.fixed_prob == state.fixed_prob.amax(1, keepdim=True)).float()[:, 1:])


def test_a_guided_network_is_shown_the_image_and_beside_it_the_masks():
    networks = {"segmentation": small_networks()["segmentation"], "registration": Stacks()}
    state = GuidedState(make_pair(), networks, num_classes=NUM_CLASSES, masks="soft", learning={"segmentation"})
    assert torch.equal(state.ddf, torch.zeros_like(state.ddf))
    for seen, image, prob in zip(
        networks["registration"].seen,
        (state.moving_image, state.fixed_image),
        (state.moving_prob, state.fixed_prob),
        strict=True,
    ):
        assert torch.allclose(seen, torch.cat([image, prob[:, 1:]], dim=1), atol=1e-6)
        assert prob.requires_grad and not seen.requires_grad  # R teaches S nothing through what it is shown


def test_the_confidence_of_a_guided_field_is_the_agreement_of_the_segmentations_it_brings_together():
    image = torch.rand(1, 1, SIDE, SIDE, SIDE).mul(NUM_CLASSES - 1).round() / (NUM_CLASSES - 1)
    networks = {"segmentation": ByBrightness(NUM_CLASSES), "registration": Shift()}
    fixed = image.roll(-1, dims=2)
    make = partial(GuidedState, num_classes=NUM_CLASSES, masks="soft")
    inside = (slice(None), slice(None), slice(0, -1))  # what the field brings there comes from within the volume
    aligned = make({"moving_image": image, "fixed_image": fixed}, networks)
    prob = aligned.fixed_prob
    assert torch.allclose(aligned.confidence[inside], prob.square().sum(1, keepdim=True)[inside], atol=1e-5)
    misaligned = make({"moving_image": image, "fixed_image": image}, networks)
    same_class = misaligned.warped_moving_prob.argmax(1) == misaligned.fixed_prob.argmax(1)
    confidence = misaligned.confidence[:, 0]
    assert confidence[:, :-1][same_class[:, :-1]].min() > confidence[:, :-1][~same_class[:, :-1]].max()


def test_a_guided_confidence_needs_no_discriminator_and_teaches_nobody():
    networks = small_networks() | {"registration": Stacks()}
    state = GuidedState(make_pair(), networks, num_classes=NUM_CLASSES, learning={"segmentation"})
    assert state.has_confidence and not make_state(networks).has_confidence
    assert state.agreement.requires_grad and not state.confidence.requires_grad


def test_other_masks_are_refused():
    with pytest.raises(ValueError, match="'hard' or 'soft', found 'firm'"):
        make_state(small_networks(), masks="firm")


def test_regions_are_warped_as_images_are():
    networks = small_networks() | {"registration": SameShift((2, 0, 0))}
    state = make_state(networks)
    assert torch.allclose(state.warped_regions[:, :, :-2], state.moving_regions[:, :, 2:], atol=1e-5)
    assert state.warped_regions[:, :, -2:].abs().max() < 1e-5  # from outside the moving volume


def test_without_a_segmentation_network_the_message_names_its_file():
    state = make_state({"registration": Stacks()})
    with pytest.raises(ValueError, match=r"Keep `model.pt` in the folder of `model_registration.pt`"):
        _ = state.ddf


@pytest.mark.parametrize("masks", ["hard", "soft"])
def test_registration_does_not_teach_segmentation_through_the_masks(masks):
    networks = small_networks()
    state = make_state(networks, masks=masks, learning={"registration", "segmentation"})
    loss = RegionalNCC(window=5)(state.warped_regions, state.fixed_regions)
    assert state.moving_pred.requires_grad and not state.moving_mask.requires_grad
    loss.backward()
    assert all(parameter.grad is None for parameter in networks["segmentation"].parameters())
    assert any(parameter.grad.abs().sum() > 0 for parameter in networks["registration"].parameters())


@pytest.mark.parametrize("first", ["warped_pred", "fixed_pred", "ddf"])
def test_each_image_is_segmented_once_whatever_is_read_first(first):
    networks = small_networks()
    images = []
    networks["segmentation"].register_forward_hook(lambda _, inputs, __: images.append(len(inputs[0])))
    state = make_state(networks, wanted={"warped_pred", "fixed_pred", "moving_pred", "ddf"})
    getattr(state, first)
    for name in ("warped_pred", "fixed_pred", "moving_pred"):
        alone = networks["segmentation"](getattr(state, name.replace("pred", "image")))
        images.pop()
        assert torch.allclose(getattr(state, name), alone, atol=1e-5)
    assert sum(images) == 3


def test_registering_files_goes_through_the_masks_of_the_state():
    networks = {"segmentation": ByBrightness(NUM_CLASSES), "registration": Stacks()}
    image = torch.rand(1, SIDE, SIDE, SIDE)
    subject = Subject("only", None, _Volume(image))
    with torch.no_grad():
        register_pair(subject, subject, networks, partial(PerceptionState, num_classes=NUM_CLASSES))
    assert networks["registration"].seen[0].shape == (1, NUM_CLASSES - 1, SIDE, SIDE, SIDE)


class _Volume:
    """What a MetaTensor is to registering."""

    def __init__(self, image: torch.Tensor) -> None:
        self.image = image

    def as_tensor(self) -> torch.Tensor:
        return self.image


# ---- losses


def test_regional_ncc_is_the_sum_over_the_structures():
    warped, fixed = torch.rand(2, 2, 3, 10, 10, 10)
    alone = [LocalNCC(5)(warped[:, c : c + 1], fixed[:, c : c + 1]) for c in range(3)]
    assert float(RegionalNCC(5)(warped, fixed)) == pytest.approx(float(sum(alone)), rel=1e-5)


def test_an_absent_structure_costs_one_and_has_no_gradient():
    warped, fixed = torch.rand(2, 1, 2, 10, 10, 10)
    warped[:, 1] = 0
    warped.requires_grad_()
    loss = RegionalNCC(5)(warped, fixed)
    loss.backward()
    alone = LocalNCC(5)(warped[:, :1].detach(), fixed[:, :1])
    assert float(loss) == pytest.approx(1 + float(alone), rel=1e-5)
    assert warped.grad[:, 1].abs().max() == 0 < warped.grad[:, 0].abs().max()
    assert torch.isfinite(warped.grad).all()


def test_agreement_does_not_depend_on_how_much_of_the_volume_a_structure_fills():
    block = torch.rand(1, 1, 6, 6, 6)
    other = 0.5 * block + 0.5 * torch.rand(1, 1, 6, 6, 6)
    values, costs = [], []
    for margin in (4, 8):
        warped, fixed = (torch.nn.functional.pad(volume, [margin] * 6) for volume in (block, other))
        values.append(float(RegionalAgreement(5)(warped, fixed)))
        costs.append(float(RegionalNCC(5)(warped, fixed)))
    assert values[0] == pytest.approx(values[1], abs=1e-5) and 0.05 < values[0] < 0.95
    assert costs[1] > costs[0] + 0.05


def test_agreement_is_the_mean_over_the_structures_that_are_there():
    warped, fixed = torch.rand(2, 1, 1, 12, 12, 12)
    nothing = torch.zeros_like(warped)
    alone = float(RegionalAgreement(5)(warped, fixed))
    assert float(RegionalAgreement(5)(torch.cat([warped, nothing], 1), torch.cat([fixed, nothing], 1))) == alone
    assert float(RegionalAgreement(5)(nothing, nothing)) == 1
    assert float(RegionalAgreement(5)(warped, warped)) == pytest.approx(0, abs=1e-3)


def test_agreement_waits_for_no_device():
    with FakeTensorMode():  # whose tensors have no values
        volumes = torch.rand(2, 1, 2, 8, 8, 8)
        assert RegionalAgreement(5)(*volumes).shape == ()


# ---- who learns


@pytest.mark.parametrize("recipe", ["recipes/pc_reg.yaml", "recipes/pc_reg_rt.yaml"])
@ONE_LABEL
def test_each_loss_reaches_its_own_network_alone(recipe, role):
    learned = {}
    for names in (("registration",), ("segmentation",), ("registration", "segmentation")):
        networks = small_networks()
        trainer(recipe, networks, [make_pair((role,))], names).run()
        learned[names] = {name: weights(network) for name, network in networks.items()}
    start = {name: weights(network) for name, network in small_networks().items()}
    both = learned[("registration", "segmentation")]
    for name, other in (("registration", "segmentation"), ("segmentation", "registration")):
        assert same_bits(learned[(name,)][other], start[other])
        assert not same_bits(learned[(name,)][name], start[name])
        # what a network learns from a pair is the same whether or not the other one learns from it, too
        assert all(torch.allclose(both[name][key], learned[(name,)][name][key], atol=1e-6) for key in both[name])


@pytest.mark.parametrize("recipe", ["recipes/pc_reg.yaml", "recipes/pc_reg_rt.yaml"])
def test_a_pair_without_labels_teaches_registration_alone(recipe):
    networks = small_networks()
    before = {name: weights(network) for name, network in networks.items()}
    trainer(recipe, networks, [make_pair(())]).run()
    assert same_bits(weights(networks["segmentation"]), before["segmentation"])
    assert not same_bits(weights(networks["registration"]), before["registration"])


def test_reverse_teaching_is_by_the_field_that_registration_had_before_its_step():
    networks, batch = small_networks(), make_pair(("moving",))
    state = make_state(small_networks(), batch)
    run = trainer("recipes/pc_reg_rt.yaml", networks, [batch])
    run.run()
    with torch.no_grad():
        expected = -(state.warped_label * state.warped_pred.log_softmax(1)).sum(1).mean()
        weak = -(state.warped_label * state.fixed_pred.log_softmax(1)).sum(1).mean()
    losses = {name: (float(value), weight) for name, (value, weight) in run.state.losses.items()}
    assert losses["segmentation/structure"] == (pytest.approx(float(expected), rel=1e-4), 1.0)
    assert losses["segmentation/weak"] == (pytest.approx(float(weak), rel=1e-4), 0.5)
    assert not {"segmentation/fixed", "segmentation/style", "segmentation/moving"} & losses.keys()


def test_a_labelled_fixed_image_lends_its_label_to_what_is_warped_onto_it():
    networks, batch = small_networks(), make_pair(("fixed",))
    state = make_state(small_networks(), batch)
    run = trainer("recipes/pc_reg_rt.yaml", networks, [batch])
    run.run()
    with torch.no_grad():
        anchor, style = (
            torch.nn.functional.cross_entropy(pred, batch["fixed_label"][:, 0].long())
            for pred in (state.fixed_pred, state.warped_pred)
        )
    losses = {name: (float(value), weight) for name, (value, weight) in run.state.losses.items()}
    assert losses["segmentation/fixed"] == (pytest.approx(float(anchor), rel=1e-4), 1.0)
    assert losses["segmentation/style"] == (pytest.approx(float(style), rel=1e-4), 0.5)
    assert not {"segmentation/structure", "segmentation/weak"} & losses.keys()


def test_the_first_stage_registers_by_the_masks_from_before_the_step_of_segmentation():
    networks, batch = small_networks(), make_pair(("moving",))
    calls = count_forwards(networks)
    run = trainer("recipes/pc_reg.yaml", networks, [batch])
    run.run()
    state = make_state(small_networks(), batch)
    with torch.no_grad():
        expected = RegionalNCC(9)(state.warped_regions, state.fixed_regions)
    assert float(run.state.losses["registration/similarity"][0]) == pytest.approx(float(expected), rel=1e-4)
    assert calls == {"segmentation": 1, "registration": 1}


# ---- two stages


def test_the_second_stage_starts_from_the_weights_of_the_first(tmp_path):
    trained, networks = small_networks(seed=1), small_networks(seed=2)
    for name, network in trained.items():
        save_atomically(network.state_dict(), tmp_path / FILES[name])
    start_from(networks, str(tmp_path), "stage one")
    assert all(same_bits(weights(networks[name]), weights(trained[name])) for name in trained)


def test_a_second_stage_without_a_first_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"`--pretrained` is missing: .* goes on from what one.yaml trained"):
        start_from(small_networks(), None, "one.yaml")
    with pytest.raises(FileNotFoundError, match=r"--pretrained '/nowhere': no model.pt and no model_registration.pt"):
        start_from(small_networks(), "/nowhere", "one.yaml")
    save_atomically(small_networks()["segmentation"].state_dict(), tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match=r"no model_registration.pt there"):
        start_from(small_networks(), str(tmp_path), "one.yaml")


def test_registration_is_shown_two_stacks_of_as_many_channels_as_structures():
    for recipe in ("recipes/pc_reg.yaml", "recipes/pc_reg_rt.yaml"):
        for data in ([], ["data/hippocampus.yaml"], ["data/phantom.yaml"]):
            files = [str(CONFIGS / name) for name in ("train.yaml", *data, recipe)]
            parser = ConfigParser(ConfigParser.load_config_files(files))
            parser["num_classes"] = 6
            network = parser.get_parsed_content("registration_def")
            side = 2 * network.multiple
            with torch.no_grad():
                ddf = network(*torch.rand(2, 1, 5, side, side, side))
            assert ddf.shape == (1, 3, side, side, side) and ddf.abs().max() < 0.01


def test_best_segments_no_image_twice_by_the_same_weights():
    networks = small_networks()
    networks["registration"] = Stacks()
    networks["registration"].weight = torch.nn.Parameter(torch.zeros(1))
    batch = make_pair(("moving",))
    passed = []
    networks["segmentation"].register_forward_hook(lambda _, inputs, __: passed.append(len(inputs[0])))
    wanted = {"sampled_pred", "sampled_label", "fixed_pred", "warped_label", "confidence"}
    shared = Exchange(networks)
    for names, learning, moved in (
        ({"warped_moving_prob", "fixed_prob"}, {"registration"}, {"registration"}),
        (wanted, {"segmentation"}, {"segmentation"}),
        (wanted, {"segmentation"}, {"segmentation"}),
    ):
        state = GuidedState(
            batch,
            networks,
            num_classes=NUM_CLASSES,
            masks="soft",
            learning=learning,
            wanted=names,
            carried=shared.given(learning),
        )
        quantities = {name: getattr(state, name) for name in sorted(names)}
        shared.take(
            GuidedState,
            {**quantities, **{n: state.computed(n) for n in GuidedState.shared if state.computed(n) is not None}},
            moved,
        )
    # R's group sees both images; S's first step takes that over, and its second, of other weights, must see them again
    assert passed == [2, 2, 2, 2]
