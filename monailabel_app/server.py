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
"""MONAI Label's server, which answers mistakes in a request with 4xx where it would answer 500."""

from __future__ import annotations

import json

from fastapi import Request
from fastapi.responses import JSONResponse
from lib.stand_ins import provide

provide()

from monailabel.app import app  # noqa: E402
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException  # noqa: E402

__all__ = ["app"]


@app.exception_handler(json.JSONDecodeError)
async def not_json(request: Request, error: json.JSONDecodeError) -> JSONResponse:
    """Parameters that are no JSON."""
    return JSONResponse({"detail": f"params: expected a JSON object ({error})"}, status_code=400)


@app.exception_handler(ImageNotFoundException)
@app.exception_handler(LabelNotFoundException)
async def not_found(request: Request, error: ImageNotFoundException) -> JSONResponse:
    """An id that the datastore does not have."""
    return JSONResponse({"detail": error.msg}, status_code=404)
