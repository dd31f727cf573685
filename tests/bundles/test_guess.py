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
"""The end-to-end network of ``ph2l_gentv``'s guess is made ready for use, and computes the same."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from monai_lipcar.bundle import bundle_root, load_operator, reported


@pytest.mark.parametrize("file", ["inference.json", "evaluate.json"])
def test_the_guess_has_its_batch_norms_folded_and_is_the_same(file: str) -> None:
    config = ConfigParser.load_config_file(f"{bundle_root('ph2l_gentv')}/configs/{file}")
    with reported():
        parser = ConfigParser({**config, "device": "$torch.device('cpu')"})
        prepared = parser.get_parsed_content("guess")
        definition, weights = (parser.get_parsed_content(name) for name in ("guess_def", "guess_checkpoint"))
    loaded = load_operator(definition, weights, "pl2h")
    assert any(isinstance(module, nn.BatchNorm2d) for module in loaded.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())
    inputs = torch.rand(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(prepared(inputs), loaded(inputs), rtol=0, atol=1e-5)
