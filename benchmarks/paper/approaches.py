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
"""The approaches that are compared, put together from the bundles' own configurations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from monai_lipcar.bundle import alpha_rule, bundle_root, checksum, find_weights, make_solver, reported
from monai_lipcar.errors import ConfigurationError
from monai_lipcar.networks import Bfloat16Operator, prepare_for_inversion
from monai_lipcar.physics import linear_extrapolation
from monai_lipcar.problem import AlphaRule, LearnedInverseProblem, TotalVariation

from .protocols import Protocol
from .settings import OPERATORS, Settings
from .training import folder_of

__all__ = ["APPROACHES", "BASELINES", "LEARNED", "OPERATORS", "Approach", "Networks"]


@dataclass(frozen=True)
class Approach:
    """One way from the observed low dose to a full-dose image.

    Args:
        label: as the paper calls it.
        networks: operators whose weights the image depends on.
        bundle: of an inverse problem: where operator, default alpha and solver are configured.
        guess: what the prior's guess is: ``"pre"``, an end-to-end operator, or None for total variation alone.
    """

    label: str
    networks: tuple[str, ...] = ()
    bundle: str | None = None
    guess: str | None = None


APPROACHES: dict[str, Approach] = {
    "low": Approach("low dose"),
    "linear_extrapolation": Approach("linear extrapolation"),
    "physics_tv": Approach("physics_tv", bundle="physics_tv", guess="pre"),
    "nn_l2h": Approach("NN-L2H", networks=("l2h",)),
    "nn_pl2h": Approach("NN-PL2H", networks=("pl2h",)),
    "lip_h2l_tv": Approach("LIP-H2L-TV", networks=("h2l",), bundle="h2l_tv"),
    "lip_ph2l_tv": Approach("LIP-PH2L-TV", networks=("ph2l",), bundle="ph2l_tv"),
    "lip_ph2l_gentv": Approach("LIP-PH2L-GenTV", networks=("ph2l", "pl2h"), bundle="ph2l_gentv", guess="pl2h"),
}
BASELINES = ("low", "linear_extrapolation", "physics_tv")
"""What is not learned."""
LEARNED = ("nn_l2h", "nn_pl2h", "lip_h2l_tv", "lip_ph2l_tv", "lip_ph2l_gentv")
"""The paper's five."""


class Networks:
    """The operators, loaded when they are first needed.

    Args:
        settings: where the weights are, and the device.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loaded: dict[tuple[str, str], Any] = {}
        self._checksums: dict[Path, str] = {}

    def config(self, bundle: str) -> dict[str, Any]:
        """Content of the bundle's ``inference.json``."""
        content: dict[str, Any] = ConfigParser.load_config_file(f"{bundle_root(bundle)}/configs/inference.json")
        return content

    def dose_fraction(self) -> float:
        """f of the bundles."""
        return float(self.config("physics_tv")["dose_fraction"])

    def variant(self, operator: str, protocol: Protocol) -> str:
        """The training whose weights a protocol asks for.

        As in the authors' code: forward operators are trained on the denoised low dose where the data are denoised, the
        end-to-end networks never are. The shipped ones were trained once, towards low doses without noise.
        """
        forward = operator.endswith("h2l")
        return protocol.before if self.settings.weights == "paper" and forward and protocol.before else "none"

    def weights(self, operator: str, variant: str = "none") -> Path:
        """Weights file of an operator."""
        if self.settings.weights != "shipped":
            return folder_of(self.settings, operator, variant) / "model.pt"
        return Path(find_weights(bundle_root(operator), operator))

    def sha256(self, operator: str, variant: str = "none") -> str:
        """Checksum of an operator's weights."""
        file = self.weights(operator, variant)
        if file not in self._checksums:
            self._checksums[file] = checksum(file)
        return self._checksums[file]

    def operator(self, name: str, variant: str = "none") -> Any:
        """The operator of this bundle (or ``"physics_tv"``), ready for many evaluations."""
        if (name, variant) not in self._loaded:
            overrides: dict[str, Any] = {"device": f"$torch.device('{self.settings.device}')"}
            if name in OPERATORS:
                overrides["checkpoint"] = str(self.weights(name, variant))
            parser = ConfigParser({**self.config(name), **overrides})
            if name in OPERATORS and self.settings.weights == "paper":
                parser["network_def::skeleton"] = "none"
            with reported():
                network = parser.get_parsed_content("network")
            self._loaded[name, variant] = prepare_for_inversion(network)
        return self._loaded[name, variant]

    def default_alpha(self, bundle: str) -> float:
        """The alpha that a bundle ships with."""
        alpha = self.config(bundle)["alpha"]
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
            raise ConfigurationError(f"bundle {bundle}: expected a number as the default alpha, got {alpha!r}")
        return float(alpha)

    def alpha_rule(self, approach: str) -> AlphaRule | None:
        """What ``--alpha auto`` chooses by; None where it was not measured for these weights, or alpha is searched for.

        Args:
            approach: key of :data:`APPROACHES`, an inverse problem.
        """
        details = APPROACHES[approach]
        assert details.bundle is not None
        weights = self.weights(details.networks[0]) if details.networks else None
        try:
            found = alpha_rule("auto", bundle_root(details.bundle), self.dose_fraction(), weights)
        except ConfigurationError:
            return None
        rule = AlphaRule(**(found or {}))
        return None if rule.ratio is None else rule

    def solver(self, bundle: str) -> Any:
        """The solver that a bundle ships with."""
        config = self.config(bundle)
        return make_solver(config["solver"], config["max_iterations"])

    def image(
        self,
        name: str,
        pre: torch.Tensor,
        observed: torch.Tensor,
        protocol: Protocol,
        alpha: float | torch.Tensor | None = None,
        precision: str = "float32",
    ) -> torch.Tensor:
        """The full-dose images of one approach.

        Args:
            name: key of :data:`APPROACHES`.
            pre: (B, 1, H, W).
            observed: same shape.
            protocol: where ``observed`` comes from.
            alpha: weight of the prior, one or one for each image; inverse problems need it.
            precision: ``"float32"``, or ``"bfloat16"`` for the convolutions of the forward operator.

        Returns:
            (B, 1, H, W), on the CPU.
        """
        approach = APPROACHES[name]
        device = torch.device(self.settings.device)
        pre, observed = pre.to(device).float(), observed.to(device).float()
        if name == "low":
            return observed.cpu()
        if name == "linear_extrapolation":
            return linear_extrapolation(pre, observed, self.dose_fraction()).cpu()
        if approach.bundle is None:
            return self._end_to_end(approach.networks[0], pre, observed, protocol).cpu()
        if alpha is None:
            raise ValueError(f"{name} needs an alpha")
        prior = TotalVariation()
        if approach.guess == "pre":
            prior = prior.around(pre)
        elif approach.guess is not None:
            prior = prior.around(self._end_to_end(approach.guess, pre, observed, protocol))
        forward = approach.networks[0] if approach.networks else approach.bundle
        operator = self.operator(forward, self.variant(forward, protocol) if approach.networks else "none")
        if precision == "bfloat16":
            operator = Bfloat16Operator(operator)
        problem = LearnedInverseProblem(operator, observed, prior, alpha, None if forward == "h2l" else pre)
        image: torch.Tensor = self.solver(approach.bundle).solve(problem, observed).image
        return image.cpu()

    def _end_to_end(self, operator: str, pre: torch.Tensor, observed: torch.Tensor, protocol: Protocol) -> torch.Tensor:
        inputs = torch.cat([pre, observed], dim=1) if operator == "pl2h" else observed
        with torch.no_grad():
            image: torch.Tensor = self.operator(operator, self.variant(operator, protocol))(inputs)
        return image
