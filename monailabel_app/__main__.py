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

All options of ``monailabel start_server`` are taken. Uploads, and results on their way, lie in a folder that no other
user can read and that goes when the server ends.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

from lib.stand_ins import provide

provide()

from monailabel.main import Main  # noqa: E402


def main() -> None:
    """Run MONAI Label's own command, with other defaults."""
    defaults = ["--app", str(Path(__file__).resolve().parent), "--host", "127.0.0.1", "--uvicorn_app", "server:app"]
    sys.argv[1:] = ["start_server", *defaults, *sys.argv[1:]]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # ends as after Ctrl+C, with the folder removed
    with tempfile.TemporaryDirectory(prefix="monai-lipcar-") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        Main(actions="start_server").run()


if __name__ == "__main__":
    main()
