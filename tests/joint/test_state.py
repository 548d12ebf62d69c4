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

import pytest
import torch
from tiny_joint import NUM_CLASSES, FixedScale, count_forwards, make_networks, make_pair
from torch import nn

from scripts.fields.warping import warp
from scripts.joint.sampling import UniformScale
from scripts.joint.state import PairState

PREDICTIONS = ("moving_pred", "fixed_pred", "warped_pred", "sampled_pred")
SCORES = ("reference_logits", "alignment_logits", "sampled_alignment_logits")


def make_state(networks=None, batch=None, **options):
    networks = make_networks() if networks is None else networks
    return PairState(make_pair() if batch is None else batch, networks, num_classes=NUM_CLASSES, **options)


def in_float64(batch_size=1):
    networks = {name: network.double() for name, network in make_networks().items()}
    batch = {key: v.double() if v.is_floating_point() else v for key, v in make_pair(batch_size=batch_size).items()}
    return networks, batch


# ---- what the quantities are


def test_quantities_lists_every_name_a_term_may_read_those_of_a_subclass_too():
    class Stricter(PairState):
        @property
        def no_quantity(self):
            return None

        ddf = PairState.ddf

    assert PairState.quantities() == sorted(PairState.quantities())
    assert {*PREDICTIONS, *SCORES, "ddf", "moving_image", "confidence"} <= set(PairState.quantities())
    assert Stricter.quantities() == PairState.quantities()


def test_every_quantity_can_be_computed_and_has_the_shape_its_name_says():
    state = make_state(batch=make_pair(("moving", "fixed"), batch_size=2))
    channels = {"image": 1, "label": NUM_CLASSES, "pred": NUM_CLASSES, "prob": NUM_CLASSES, "ddf": 3}
    channels |= {"logits": 1, "confidence": 1, "agreement": 1}
    for name in PairState.quantities():
        value = getattr(state, name)
        if name == "sampling_factor":
            assert value.shape == (2, 1, 1, 1, 1)
        else:
            assert value.shape == (2, channels[name.split("_")[-1]], 16, 16, 16), name
        assert value.dtype == torch.float32, name
        if name.endswith("prob"):
            assert value.min() >= 0 and value.sum(1).max() <= 1 + 1e-5, name


def test_labels_are_one_hot_with_background_first():
    batch = make_pair()
    label = make_state(batch=batch).moving_label
    assert torch.equal(label.argmax(1, keepdim=True), batch["moving_label"].long())
    assert torch.equal(label.sum(1), torch.ones(1, 16, 16, 16))
    assert torch.equal(label[:, :1] == 1, batch["moving_label"] == 0)


def test_factor_0_gives_the_moving_image_and_label_to_the_bit():
    state = make_state(sampling=FixedScale(0.0))
    assert state.ddf.abs().max() > 0.1
    assert torch.equal(state.sampled_image, state.moving_image)
    assert torch.equal(state.sampled_label, state.moving_label)


def test_factor_1_is_the_plain_warp_to_the_bit_and_so_is_no_sampling():
    for sampling in (FixedScale(1.0), None):
        state = make_state(sampling=sampling)
        assert torch.equal(state.sampled_image, state.warped_image)
        assert torch.equal(state.sampled_label, state.warped_label)
        assert not torch.equal(state.sampled_image, state.moving_image)


def test_factors_differ_within_a_batch_and_image_and_label_share_theirs():
    state = make_state(batch=make_pair(batch_size=3), sampling=UniformScale())
    factors = state.sampling_factor.flatten().tolist()
    assert len(set(factors)) == 3
    for i, factor in enumerate(factors):
        field = factor * state.ddf[i : i + 1]
        torch.testing.assert_close(state.sampled_image[i : i + 1], warp(state.moving_image[i : i + 1], field))
        torch.testing.assert_close(state.sampled_label[i : i + 1], warp(state.moving_label[i : i + 1], field))


@pytest.mark.parametrize("blend", [0.0, 0.2, 1.0])
def test_the_reference_image_is_the_blend_of_the_two(blend):
    state = make_state(reference_blend=blend)
    expected = torch.lerp(state.fixed_image, state.moving_image, blend)
    torch.testing.assert_close(state.reference_image, expected)


def test_probabilities_and_confidence_are_those_of_the_logits():
    state = make_state()
    torch.testing.assert_close(state.warped_prob, state.warped_pred.softmax(1))
    torch.testing.assert_close(state.warped_moving_prob, warp(state.moving_pred.softmax(1), state.ddf))
    torch.testing.assert_close(state.confidence, state.alignment_logits.sigmoid())
    torch.testing.assert_close(state.sampled_confidence, state.sampled_alignment_logits.sigmoid())


def test_reading_a_label_that_the_pair_lacks_says_what_to_write():
    with pytest.raises(KeyError, match=r"no 'fixed_label'.*requires: \[fixed_label\]"):
        _ = make_state().fixed_label


# ---- how often they are computed


def test_a_quantity_is_computed_when_first_read_and_never_again():
    networks, sampling = make_networks(), FixedScale(0.5)
    counted = count_forwards(networks)
    state = make_state(networks, sampling=sampling)
    assert state.computed("ddf") is None and not counted
    for _ in range(2):
        _ = (state.warped_image, state.warped_label, state.sampled_image, state.sampled_label)
    assert counted == {"registration": 1} and sampling.draws == 1
    assert state.computed("ddf") is state.ddf
    assert state.computed("warped_pred") is None


def test_what_is_carried_over_is_taken_as_it_is():
    networks = make_networks()
    counted = count_forwards(networks)
    field = torch.full((1, 3, 16, 16, 16), 1.5)
    state = make_state(
        networks, carried={"ddf": field, "fixed_pred": torch.zeros(1, 3, 16, 16, 16)}, wanted=PREDICTIONS
    )
    assert state.ddf is field
    assert torch.equal(state.warped_image, warp(state.moving_image, field))
    assert state.sampled_pred.shape == (1, 3, 16, 16, 16) and not state.fixed_pred.any()
    assert counted == {"segmentation": 1}


@pytest.mark.parametrize(("network", "names"), [("segmentation", PREDICTIONS), ("discriminator", SCORES)])
def test_predictions_that_will_be_read_are_made_in_one_call_and_others_not_at_all(network, names):
    networks = make_networks()
    counted = count_forwards(networks)
    state = make_state(networks, wanted=names[:2])
    first = getattr(state, names[0])
    assert state.computed(names[1]) is not None and state.computed(names[2]) is None
    assert getattr(state, names[0]) is first and counted[network] == 1
    getattr(state, names[2])
    assert counted[network] == 2


def test_a_prediction_is_known_to_be_read_by_its_probabilities_or_confidence_too():
    networks = make_networks()
    counted = count_forwards(networks)
    wanted = ("warped_prob", "fixed_prob", "sampled_pred", "confidence", "reference_logits", "sampled_confidence")
    state = make_state(networks, wanted=wanted)
    for name in wanted:
        getattr(state, name)
    assert counted == {"registration": 1, "segmentation": 1, "discriminator": 1}


@pytest.mark.parametrize(
    ("network", "names", "inputs"),
    [
        ("segmentation", PREDICTIONS, ("moving_image", "fixed_image", "warped_image", "sampled_image")),
        ("discriminator", SCORES, ("reference_image", "warped_image", "sampled_image")),
    ],
)
def test_one_batch_equals_one_call_each_and_so_do_the_gradients(network, names, inputs):
    networks, batch = in_float64(batch_size=2)
    state = make_state(networks, batch, sampling=FixedScale(0.5), learning=networks, wanted=names)
    fixed = (state.fixed_image,) if network == "discriminator" else ()
    separate = {
        name: networks[network](getattr(state, image), *fixed) for name, image in zip(names, inputs, strict=True)
    }
    parameters = [*networks[network].parameters(), *networks["registration"].parameters()]
    # a different weight for each prediction, or a mixed-up order would go unnoticed
    together = sum((i + 1) * getattr(state, name).pow(3).mean() for i, name in enumerate(names))
    alone = sum((i + 1) * separate[name].pow(3).mean() for i, name in enumerate(names))
    for name in names:
        torch.testing.assert_close(getattr(state, name), separate[name], rtol=0, atol=1e-10)
    found = torch.autograd.grad(together, parameters, retain_graph=True)
    expected = torch.autograd.grad(alone, parameters)
    for first, second in zip(found, expected, strict=True):
        assert second.abs().max() > 0
        torch.testing.assert_close(first, second, rtol=0, atol=1e-10)


# ---- what keeps a graph


def test_only_networks_that_learn_keep_a_graph_and_those_between_them_and_the_loss():
    state = make_state(learning={"registration"})
    assert state.ddf.requires_grad
    assert state.warped_pred.requires_grad and state.alignment_logits.requires_grad  # a way back to the field
    assert not state.fixed_pred.requires_grad and not state.reference_logits.requires_grad
    state = make_state(learning={"segmentation"})
    assert state.fixed_pred.requires_grad
    assert not state.ddf.requires_grad and not state.alignment_logits.requires_grad
    with torch.no_grad():
        assert not make_state(learning={"registration"}).ddf.requires_grad


# ---- mixed precision


class Widths(nn.Module):
    """A network that notes the type its convolution worked in."""

    def __init__(self, out_channels, in_channels=1):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 1)
        self.seen = []

    def forward(self, *images):
        output = self.conv(torch.cat(images, dim=1))
        self.seen.append(output.dtype)
        return output


def test_networks_run_in_bfloat16_while_fields_warps_and_predictions_stay_float32():
    networks = {"registration": Widths(3, 2), "segmentation": Widths(NUM_CLASSES), "discriminator": Widths(1, 2)}
    state = make_state(networks, amp_dtype=torch.bfloat16, learning=networks)
    for name in PairState.quantities():
        if name != "fixed_label":
            assert getattr(state, name).dtype == torch.float32, name
    for network in networks.values():
        assert set(network.seen) == {torch.bfloat16}
    expected = networks["registration"].float()(state.moving_image, state.fixed_image)
    torch.testing.assert_close(state.ddf, expected, rtol=0.02, atol=0.02)
    state.warped_image.mean().backward()
    assert networks["registration"].conv.weight.grad.dtype == torch.float32
