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
import traceback

from fastapi import HTTPException, Request
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


@app.exception_handler(TypeError)
@app.exception_handler(ValueError)
async def not_an_object(request: Request, error: Exception) -> JSONResponse:
    """Parameters that are JSON but no object, which MONAI Label's endpoint adds to the request before anything else."""
    if traceback.extract_tb(error.__traceback__)[-1].name != "run_inference":
        raise error
    return JSONResponse({"detail": 'params: expected a JSON object, such as {"alpha": 0.004}'}, status_code=400)


@app.exception_handler(HTTPException)
async def mistaken(request: Request, error: HTTPException) -> JSONResponse:
    """No image at all, and DICOM SEG, for which MONAI Label has 500."""
    detail, status = error.detail, error.status_code
    if str(detail).startswith("Neither Image nor File"):
        detail, status = "image: expected the id of an image of the datastore, got nothing", 400
    elif str(detail).startswith("DICOM SEG"):
        detail, status = "output: expected 'image', 'json' or 'all': a volume of numbers is no DICOM SEG", 400
    return JSONResponse({"detail": detail}, status_code=status, headers=error.headers)


@app.exception_handler(ImageNotFoundException)
@app.exception_handler(LabelNotFoundException)
async def not_found(request: Request, error: ImageNotFoundException) -> JSONResponse:
    """An id that the datastore does not have."""
    return JSONResponse({"detail": error.msg}, status_code=404)
