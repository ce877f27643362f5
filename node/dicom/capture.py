"""The Secondary Capture around an annotated picture (PS3.3 A.8)."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.coding import Code
from pydicom.uid import SecondaryCaptureImageStorage

from node.dicom.derived import Composer, SourceImage, code_item, new_object, reference_item

SERIES_NUMBER = 903

_SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")

# Transfer syntaxes that always lose information (PS3.5 10, A.4).
_LOSSY_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
}


def new_capture(
    image: SourceImage,
    source: Dataset,
    pixels: npt.NDArray[np.uint8],
    composer: Composer,
    *,
    sop_instance_uid: str,
    series_instance_uid: str,
    instance_number: int,
    description: str,
    at: datetime,
) -> Dataset:
    """Make a capture of ``pixels``, ``(rows, cols, 3)``, that says it was made of `source`."""
    ds = new_object(
        image,
        composer,
        sop_class_uid=SecondaryCaptureImageStorage,
        sop_instance_uid=sop_instance_uid,
        series_instance_uid=series_instance_uid,
        series_number=SERIES_NUMBER,
        instance_number=instance_number,
        modality=_modality(source),
        series_description=description,
        at=at,
    )
    _set_derivation(ds, source, image)
    mark_lossy(ds, source)
    _set_pixels(ds, pixels)
    return ds


def _modality(source: Dataset) -> str:
    # Modality says what acquired the data: a dental viewer shows a copy beside the films.
    value = str(source.get("Modality") or "")
    is_code = value.isascii() and value.isalnum() and value.isupper()
    return value if is_code and len(value) <= 4 else "OT"


def _set_derivation(ds: Dataset, source: Dataset, image: SourceImage) -> None:
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.ConversionType = "WSD"
    ds.BodyPartExamined = "JAW"
    ds.PatientOrientation = orientation_of(source)
    ds.BurnedInAnnotation = "YES"
    ds.DerivationDescription = "Signed findings burned in; a strip with the signature added below"
    item = reference_item(image.sop_class_uid, image.sop_instance_uid)
    item.PurposeOfReferenceCodeSequence = [code_item(_SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "YES"
    ds.SourceImageSequence = [item]


def orientation_of(source: Dataset) -> list[str]:
    """Read how rows and columns lie to the patient; nothing where that is not validly said."""
    value = source.get("PatientOrientation")
    parts = [str(part) for part in value] if isinstance(value, MultiValue) else []
    is_valid = len(parts) == 2 and all(part and set(part) <= set("AFHLPR") for part in parts)
    return parts if is_valid else []


def mark_lossy(ds: Dataset, source: Dataset) -> None:
    """Say of what is made of `source` whether that was compressed with loss (C.7.6.1.1.5)."""
    meta = getattr(source, "file_meta", None) or Dataset()
    method = _LOSSY_METHODS.get(str(meta.get("TransferSyntaxUID", "")))
    if str(source.get("LossyImageCompression") or "") != "01" and method is None:
        ds.LossyImageCompression = "00"
        return
    ds.LossyImageCompression = "01"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if source.get(keyword):
            setattr(ds, keyword, source[keyword].value)
    if method and not ds.get("LossyImageCompressionMethod"):
        ds.LossyImageCompressionMethod = method


def _set_pixels(ds: Dataset, pixels: npt.NDArray[np.uint8]) -> None:
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated = 8
    ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    data = np.ascontiguousarray(pixels).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
