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

"""Runs in the environment of MONAI Label: takes steps on its standard input, has the app or a server carry them out.

.venv-label/bin/python tests/label_steps.py APP STUDIES < steps.json
.venv-label/bin/python tests/label_steps.py URL < steps.json
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from typing import Any


class App:
    """The app itself, in this process."""

    def __init__(self, app_dir: str, studies: str) -> None:
        from monailabel.config import settings
        from monailabel.interfaces.utils.app import app_instance

        settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD = False
        models = ",".join(sorted(os.listdir(os.path.join(app_dir, "model"))))
        self.app = app_instance(app_dir, studies, {"models": models, "zoo_source": "local"})

    def info(self) -> dict:
        """What the server would answer to GET /info/."""
        return self.app.info()

    def train(self, model: str, **options: Any) -> dict:
        """Train until it is over."""
        return self.app.train({"model": model, "device": "cpu", **options})

    def infer(self, model: str, image: str, to: str) -> None:
        """Segment an image of the datastore."""
        shutil.move(self.app.infer({"model": model, "image": image, "device": "cpu"})["file"], to)

    def submit(self, image: str, label: str) -> None:
        """Give an image its label."""
        self.app.datastore().save_label(image, label, "final", {})


class Server:
    """A server, through MONAI Label's own client, which is also that of its module for 3D Slicer."""

    def __init__(self, url: str) -> None:
        from monailabel.client import MONAILabelClient

        self.client = MONAILabelClient(url)

    def info(self) -> dict:
        """GET /info/."""
        return self.client.info()

    def train(self, model: str, **options: Any) -> dict:
        """POST /train/MODEL, and wait; the answer is the status and the last lines that the training wrote."""
        self.client.train_start(model, {"device": "cpu", **options})
        while (task := self.client.train_status())["status"] in ("SUBMITTED", "RUNNING"):
            time.sleep(1)
        return {"status": task["status"], "details": task["details"]}

    def infer(self, model: str, image: str, to: str) -> None:
        """POST /infer/MODEL?image=IMAGE."""
        shutil.move(self.client.infer(model, image, {"device": "cpu"})[0], to)

    def submit(self, image: str, label: str) -> None:
        """PUT /datastore/label?image=IMAGE&tag=final."""
        self.client.save_label(image, label, "final", {})


def carry_out(target: App | Server, call: str, arguments: dict[str, Any]) -> Any:
    """One step; what goes wrong in it is its answer."""
    try:
        return getattr(target, call)(**arguments)
    except Exception as error:  # an answer like any other, to a test that expects it
        while error.__cause__ is not None:
            error = error.__cause__
        return {"error": f"{type(error).__name__}: {error}"}


def main(*where: str) -> None:
    """Answer the steps by one line of JSON, the last on standard output; the log goes to standard error."""
    logging.basicConfig(level=logging.INFO)
    target = Server(*where) if where[0].startswith("http") else App(*where)
    answers = [carry_out(target, call, arguments) for call, arguments in json.load(sys.stdin)]
    print(json.dumps(answers, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
