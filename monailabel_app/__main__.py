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
"""Start the server: ``python monailabel_app --studies DIR``, on this machine only unless ``--host`` says otherwise.

All options of ``monailabel start_server`` are taken.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lib.stand_ins import provide

provide()

from monailabel.main import Main  # noqa: E402

if __name__ == "__main__":
    defaults = ["--app", str(Path(__file__).resolve().parent), "--host", "127.0.0.1", "--uvicorn_app", "server:app"]
    sys.argv[1:] = ["start_server", *defaults, *sys.argv[1:]]
    Main(actions="start_server").run()
