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
from torch import nn

from scripts.networks.weights import FILES, bundle_root, find_weights, load_all, load_weights, save_atomically


def network(seed=0, features=2):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, features), nn.Dropout(0.5))


def same(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class BreaksWhenSaved:
    """Stands for a full disk or a lost connection: the file is open and partly written when it raises."""

    def __reduce__(self):
        raise OSError("no space left on device")


def test_a_save_that_fails_midway_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path):
    path = tmp_path / "model.pt"
    save_atomically({"weight": torch.arange(3)}, path)
    old = path.read_bytes()
    with pytest.raises(OSError, match="no space left"):
        save_atomically({"weight": torch.zeros(1000), "rest": BreaksWhenSaved()}, path)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_a_save_replaces_the_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "model.pt"
    for value in (1, 2):
        save_atomically({"weight": torch.tensor(value)}, path)
        assert torch.load(path, weights_only=True)["weight"] == value
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]


def test_the_bundle_is_the_folder_of_scripts_and_configs(monkeypatch, tmp_path):
    expected = bundle_root()
    monkeypatch.chdir(tmp_path)
    assert bundle_root() == expected and expected.endswith("bundle")


def test_weights_are_found_in_the_first_folder_that_has_any(tmp_path):
    folders = [str(tmp_path / name) for name in ("empty", "trained", "shipped")]
    (tmp_path / "empty").mkdir()
    save_atomically({}, tmp_path / "trained" / "model_registration.pt")
    save_atomically({}, tmp_path / "shipped" / "model.pt")
    assert find_weights(folders) == folders[1]
    assert find_weights(folders[2:]) == folders[2]
    with pytest.raises(FileNotFoundError, match=r"(?s)model\.pt.*empty.*`training`.*--ckpt_dir"):
        find_weights(folders[:1])


def test_a_train_state_alone_does_not_count_as_weights(tmp_path):
    save_atomically({}, tmp_path / "train_state.pt")
    with pytest.raises(FileNotFoundError):
        find_weights([str(tmp_path)])


def test_weights_come_back_into_a_network_in_evaluation_mode(tmp_path):
    save_atomically(network(seed=1).state_dict(), tmp_path / "model.pt")
    loaded = network(seed=2).train()
    assert not same(loaded, network(seed=1))
    assert load_weights(loaded, str(tmp_path), "model.pt") is loaded
    assert same(loaded, network(seed=1)) and not loaded.training


def test_weights_of_another_structure_are_refused_with_the_difference_and_what_to_add(tmp_path):
    save_atomically(network(features=5).state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError) as caught:
        load_weights(network(features=2), str(tmp_path), "model.pt")
    message = str(caught.value)
    assert "model.pt' are of another network" in message and "`model.yaml`" in message
    assert "torch.Size([5])" in message and "torch.Size([2])" in message


def test_the_same_weights_are_the_same_file_whatever_its_name(tmp_path):
    for name in ("model.pt", "weights"):
        save_atomically(network().state_dict(), tmp_path / name)
    assert (tmp_path / "model.pt").read_bytes() == (tmp_path / "weights").read_bytes()


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04 cut off", b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"],
    ids=["cut off", "empty", "pointer"],
)
def test_a_file_that_is_no_weights_is_named_and_not_taken_for_another_network(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.pt' cannot be read.*git lfs pull"):
        load_weights(network(), str(tmp_path), "model.pt")


def test_a_missing_file_is_named_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model_registration\.pt'.*--ckpt_dir"):
        load_weights(network(), str(tmp_path), "model_registration.pt")


def test_load_all_leaves_out_what_has_no_file_unless_it_is_required(tmp_path):
    for name in ("segmentation", "registration"):
        save_atomically(network(seed=1).state_dict(), tmp_path / FILES[name])
    networks = {name: network(seed=2) for name in FILES}
    loaded = load_all(networks, str(tmp_path), required=["registration"])
    assert loaded.keys() == {"segmentation", "registration"}
    assert all(same(each, network(seed=1)) for each in loaded.values())
    with pytest.raises(FileNotFoundError, match="model_discriminator.pt"):
        load_all(networks, str(tmp_path), required=["discriminator"])


def test_networks_to_be_asked_on_a_processor_are_laid_out_for_it(tmp_path):
    network = torch.nn.Sequential(torch.nn.InstanceNorm3d(2), torch.nn.Conv3d(2, 3, 3))
    save_atomically(network.state_dict(), tmp_path / "model.pt")
    norm, convolution = load_all({"segmentation": network}, str(tmp_path))["segmentation"]
    assert type(norm) is not torch.nn.InstanceNorm3d and type(convolution) is torch.nn.Conv3d


def test_load_all_leaves_out_networks_that_served_in_training_alone(tmp_path):
    save_atomically(network(seed=1).state_dict(), tmp_path / FILES["segmentation"])
    networks = {"segmentation": network(seed=2), "teacher": network(seed=3)}
    assert load_all(networks, str(tmp_path)).keys() == {"segmentation"}
