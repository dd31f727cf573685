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
"""The heads that rules for alpha are measured on, and what is computed for each."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser

from monai_lipcar.bundle import bundle_root, checksum, reported
from monai_lipcar.data import Study, find_studies, slice_axis
from monai_lipcar.data.atomic import write_text
from monai_lipcar.data.phantom import write_cohort
from monai_lipcar.engines import prepare_study
from monai_lipcar.inferers import LIPInferer
from monai_lipcar.inferers.automatic import choose_alpha, observed_noise
from monai_lipcar.metrics import psnr
from monai_lipcar.networks import Bfloat16Operator, in_bfloat16
from monai_lipcar.physics import add_gaussian_noise
from monai_lipcar.problem import AlphaRule, DiscrepancyPrinciple, LearnedInverseProblem, discrepancy
from monai_lipcar.transforms import EstimateNoise
from monai_lipcar.transforms.foreground import head_mask

from .alpha_rules import Curve

LEVELS = (0.0, 0.011, 0.022, 0.033, 0.044, 0.055, 0.066)
CLEAN = "no noise at all"
CONDITIONS = {
    CLEAN: (0.0, 0.0),
    **{f"noise {level}": (level, 0.0) for level in LEVELS},
    "noise 0.022 in pre too": (0.022, 0.022),
}
"""Noise that is added to low and to pre, which have noise of 0.005 to 0.01 already, but for the first."""
ALPHAS = tuple(float(f"{alpha:.3g}") for alpha in np.geomspace(2.4e-2, 1e-4, 16))
"""Large ones first: each solution is the start of the next."""
COHORTS: dict[str, tuple[int, dict[str, Any]]] = {
    "mni152": (6301, {"shape": (96, 112, 4), "spacing": (2.0, 2.0, 25.0)}),
    "random": (6302, {"shape": (96, 96, 4)}),
}
"""Seed and size of the heads of each anatomy."""
SLICES = 2


class Calibration:
    """What is measured for one bundle.

    Args:
        bundle: an inverse problem.
        output: where cohorts and curves are kept.
        studies: heads of each anatomy.
        cohorts: seed and size of these heads.
        options: of the bundle, where they are not its own.
        precision: of the operator's convolutions, as for :class:`~monai_lipcar.inferers.LIPInferer`.
    """

    def __init__(
        self,
        bundle: str,
        output: Path,
        studies: int,
        cohorts: Mapping[str, tuple[int, dict[str, Any]]] = COHORTS,
        options: Mapping[str, Any] | None = None,
        precision: str = "float32",
    ) -> None:
        self.precision = precision
        self.bundle, self.output, self.studies, self.cohorts = bundle, output, studies, cohorts
        config = ConfigParser.load_config_file(f"{bundle_root(bundle)}/configs/inference.json")
        self.default, self.dose_fraction = float(config["alpha"]), float(config["dose_fraction"])
        with reported():
            # the rule that is to be measured must not be asked for
            parser = ConfigParser({**config, "alpha_rule": None, "device": "$torch.device('cpu')", **(options or {})})
            self.network = parser.get_parsed_content("network")
            self.inferer: LIPInferer = parser.get_parsed_content("inferer")
            self.preprocessing = parser.get_parsed_content("preprocessing")
            weights = parser.get_parsed_content("checkpoint") if "checkpoint" in config else None
        self.inferer.progress = False
        self.weights = None if weights is None else checksum(weights)

    def volumes(self, anatomy: str, noise: bool) -> dict[str, dict[str, torch.Tensor]]:
        """Study to member to preprocessed volume (S, H, W), with ``"head"``."""
        seed, options = self.cohorts[anatomy]
        folder = self.output / "cohorts" / f"{anatomy}-{'noisy' if noise else 'clean'}"
        acquisition = {} if noise else {"noise_level": 0.0}
        write_cohort(folder, anatomy, self.studies, seed=seed, anatomy_options=options, acquisition=acquisition)
        studies = find_studies(folder, ("pre", "low", "high"))[: self.studies]
        return {study.study_id: self.prepared(study) for study in studies}

    def prepared(self, study: Study) -> dict[str, torch.Tensor]:
        """Member to preprocessed volume (S, H, W), the slices with most signal of each, and their ``"head"``."""
        prepared = prepare_study(study, self.preprocessing, ("pre", "low", "high"))
        axis = slice_axis(np.asarray(prepared["low"].affine), tuple(prepared["low"].shape[1:]))
        members = {name: prepared[name].as_tensor()[0].movedim(axis, 0).float() for name in ("pre", "low", "high")}
        head = torch.from_numpy(np.ascontiguousarray(head_mask(members["low"].numpy(), axis=0)))
        signal = (members["low"] * head).flatten(1).sum(dim=1)
        chosen = signal.argsort(descending=True)[:SLICES].sort().values
        whole = {f"all_{name}": volume for name, volume in members.items()}
        chosen_members = {name: volume[chosen][:, None].contiguous() for name, volume in members.items()}
        return {**whole, **chosen_members, "head": head[chosen][:, None], "chosen": chosen}

    def operator(self, inputs: torch.Tensor) -> Any:
        """The operator, in bfloat16 where that is asked for and these inputs show that it changes little."""
        if self.precision == "float32" or self.weights is None:
            return self.network
        strongest = int(inputs[:, -1].flatten(1).sum(dim=1).argmax())
        return in_bfloat16(self.network, inputs[strongest : strongest + 1])

    def problem(self, pre: torch.Tensor, observed: torch.Tensor) -> LearnedInverseProblem:
        """The bundle's inverse problem for some slices."""
        inputs = observed if self.bundle == "h2l_tv" else torch.cat([pre, observed], dim=1)
        return self.inferer.problem(inputs, self.operator(inputs), 0.0)

    def operator_error(self) -> float:
        """Rho: root mean square over heads of Psi(x_H) - x_L without noise."""
        squares = [
            discrepancy(self.problem(study["pre"], study["low"]), study["high"], study["head"]) ** 2
            for anatomy in self.cohorts
            for study in self.volumes(anatomy, noise=False).values()
        ]
        return math.sqrt(float(np.mean(squares)))

    def inputs(self, name: str, study: dict[str, torch.Tensor], condition: str) -> torch.Tensor:
        """Channels (pre, low) of all slices with added noise: at every level the same, times the level."""
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        low_level, pre_level = CONDITIONS[condition]
        low = add_gaussian_noise(study["all_low"], low_level, generator)
        pre = add_gaussian_noise(study["all_pre"], pre_level, generator)
        return torch.stack([pre, low], dim=1)

    def curve(self, name: str, study: dict[str, torch.Tensor], condition: str) -> Curve:
        """PSNR and discrepancy of the solutions for every alpha."""
        inputs = self.inputs(name, study, condition)
        sigma = EstimateNoise(0)(inputs[None, :, 1])
        chosen = inputs[study["chosen"]]
        problem = self.problem(chosen[:, :1], chosen[:, 1:])
        image, rows = problem.observed, []
        for alpha in ALPHAS:
            image = self.inferer.solver.solve(problem.at_alpha(alpha), image).image
            left = discrepancy(problem, image, study["head"])
            rows.append([alpha, round(psnr(image, study["high"], study["head"]), 4), round(left, 6)])
            if condition != CLEAN and left < 0.6 * sigma:
                break  # all noise from here on
        computed = "bfloat16" if isinstance(problem.operator, Bfloat16Operator) else "float32"
        return {"sigma": round(sigma, 6), "precision": computed, "rows": rows}

    def automatic(self, name: str, study: dict[str, torch.Tensor], condition: str, rule: AlphaRule) -> dict[str, Any]:
        """What a search by ``--alpha auto`` finds: noise, head and slices are those that the inferer sees."""
        inputs = self.inputs(name, study, condition)
        batch = inputs[:, 1:] if self.bundle == "h2l_tv" else inputs
        operator = self.operator(batch)
        choice = choose_alpha(
            batch,
            observed_noise(batch, axis=0),
            rule=rule,
            make_problem=lambda samples: self.inferer.problem(samples, operator, 0.0),
            solver=self.inferer.solver,
            principle=DiscrepancyPrinciple(),
            count=SLICES,
        )
        return choice.describe()


class Parts:
    """Results of one bundle on disk, one JSON file for all; stored after each.

    Args:
        file: where.
        key: what they depend on; other results there are not used.
    """

    def __init__(self, file: Path, key: dict[str, Any]) -> None:
        self.file, self.key = file, key
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.values: dict[str, Any] = content["values"] if content.get("key") == key else {}

    def get(self, name: str, compute: Any) -> Any:
        """The value of this name, computed if it is not there."""
        if name not in self.values:
            self.put({name: compute()})
        return self.values[name]

    def put(self, values: Mapping[str, Any]) -> None:
        """Keep some values."""
        self.values |= values
        write_text(self.file, json.dumps({"key": self.key, "values": self.values}))
