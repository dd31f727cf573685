# Copyright (c) monai_lipcar contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""An application for MONAI Deploy: a DICOM examination in, the simulated full dose as a derived DICOM series out.

    python examples/deploy/app.py -i EXAMINATION -o OUT [-m BUNDLE_FOLDER]

The work is done by ``monai_lipcar.dicom.run_folder``, as in ``python -m monai_lipcar run``: choice of the series,
sequence from the headers, checks, inversion, derived series. ``OUT`` gets the derived series, ``OUT/results`` what was
computed: volumes, residual, ``result.json``.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Fragment, InputContext, Operator, OperatorSpec, OutputContext

from monai_lipcar.bundle_folder import bundle_metadata
from monai_lipcar.dicom import run_folder

BUNDLE = "ph2l_gentv"
"""What is computed where no bundle's folder is given and the environment variable ``LIPCAR_BUNDLE`` is not set."""

logger = logging.getLogger(__name__)


class ContrastReductionOperator(Operator):
    """Runs a bundle over the examinations of a folder.

    Output ``results``: folder of the results. A study that cannot be used is named in the log with the reason; where
    none gave a result, or any had to be left out, the application fails.
    """

    def __init__(
        self, fragment: Fragment, *args: object, examination: Path, results: Path, model: Path, **kwargs: object
    ) -> None:
        self.examination, self.results, self.model = examination.resolve(), results.resolve(), model.resolve()
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.output("results")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: object) -> None:
        name = bundle_metadata(self.model).get("bundle")
        if name is not None:
            os.chdir(self.model)  # a bundle in the working directory is preferred to those of the checkout
        run = run_folder(name or os.environ.get("LIPCAR_BUNDLE", BUNDLE), self.examination, self.results, derived=True)
        if run.status:
            raise RuntimeError(f"not every study gave a result ({len(run.done)} did); the log above says why")
        op_output.emit(self.results, "results")


class DerivedSeriesOperator(Operator):
    """Copies the derived series to the output folder, ``<series>/<study>-*.dcm``, and nothing else."""

    def __init__(self, fragment: Fragment, *args: object, output: Path, **kwargs: object) -> None:
        self.output = output.resolve()
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("results")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: object) -> None:
        files = sorted(op_input.receive("results").glob("*/dicom/*/*.dcm"))
        if not files:
            raise RuntimeError("no derived series was written")
        for file in files:
            folder = self.output / file.parent.name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / f"{file.parents[2].name}-{file.name}")
        logger.info("%d DICOM images in %s", len(files), self.output)


class ContrastReductionApp(Application):
    """One operator computes, one hands over the derived series."""

    def compose(self) -> None:
        context = Application.init_app_context(self.argv)
        output = Path(context.output_path)
        compute = ContrastReductionOperator(
            self,
            CountCondition(self, 1),
            examination=Path(context.input_path),
            results=output / "results",
            model=Path(context.model_path),
            name="contrast_reduction",
        )
        hand_over = DerivedSeriesOperator(self, output=output, name="derived_series")
        self.add_flow(compute, hand_over, {("results", "results")})


if __name__ == "__main__":
    ContrastReductionApp().run()
