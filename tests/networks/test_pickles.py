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
"""A file of weights that holds code: refused by that name, wherever weights are read, and nothing of it is run."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from scripts.label.rounds import load_fitting
from scripts.networks.pretrained import start_from
from scripts.networks.weights import FILES, load_all, load_weights, read_saved, save_atomically
from scripts.training.save_weights import LoadWeights
from scripts.training.train_state import TrainState


class Touches:
    """Would make a file, were it unpickled by a reader that trusts it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def by_pickle(protocol):
    return lambda content, path: path.write_bytes(pickle.dumps(content, protocol=protocol))


WRITERS = {"zip": torch.save, "legacy": legacy} | {f"protocol {number}": by_pickle(number) for number in range(6)}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_a_pickle_with_code_is_called_so_and_not_run(write, tmp_path):
    path, touched = tmp_path / "model.pt", tmp_path / "touched"
    write({"weight": torch.zeros(1), "more": Touches(touched)}, path)
    with pytest.raises(ValueError, match=r"model\.pt' holds code \(it calls `.+`\) and was refused"):
        read_saved(path)
    assert not touched.exists()
    pickle.loads(pickle.dumps(Touches(touched)))  # the same, in a reader that trusts it
    assert touched.exists()


def test_a_whole_network_and_a_torchscript_hold_code_too(tmp_path):
    network = torch.nn.Linear(2, 2)
    torch.save(network, tmp_path / "whole.pt")
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 2)), tmp_path / "script.pt")
    for name in ("whole.pt", "script.pt"):
        with pytest.raises(ValueError, match="holds code"):
            read_saved(tmp_path / name)


def test_a_text_and_a_cut_pickle_are_damaged_and_hold_no_code(tmp_path):
    whole = pickle.dumps({"weight": list(range(500))})
    for name, content in {"text": b"hello world", "cut": whole[:300], "compressed": b"\x1f\x8b" + b"0" * 50}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="cut short, damaged"):
            read_saved(tmp_path / name)


def test_weights_without_their_names_are_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "model.pt")
    with pytest.raises(ValueError, match="holds a list, expected weights"):
        read_saved(tmp_path / "model.pt")


def resume(folder, network):
    engine = Engine(lambda *_: None)
    TrainState(str(folder / "train_state.pt"), {"segmentation": network}, {}, resume=True).attach(engine)
    engine.run([0])


def load_at_start(folder, network):
    engine = Engine(lambda *_: None)
    LoadWeights(str(folder), {"model.pt": network}).attach(engine)
    engine.run([0])


READERS = {
    "load_weights": lambda folder, network: load_weights(network, str(folder), "model.pt"),
    "load_all": lambda folder, network: load_all({"segmentation": network}, str(folder)),
    "start_from": lambda folder, network: start_from({"segmentation": network}, str(folder), "a recipe"),
    "load_fitting": lambda folder, network: load_fitting({"segmentation": network}, folder),
    "LoadWeights": load_at_start,
    "TrainState": resume,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_every_reader_of_weights_refuses_code_by_its_name(read, tmp_path):
    network, touched = torch.nn.Linear(2, 2), tmp_path / "touched"
    for name in (FILES["segmentation"], "train_state.pt"):
        save_atomically({"weight": Touches(touched)}, tmp_path / name)
    with pytest.raises(ValueError, match="holds code .* and was refused"):
        read(tmp_path, network)
    assert not touched.exists()
