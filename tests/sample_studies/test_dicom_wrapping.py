"""What a wrapped film claims about itself is true, and what is not known is not claimed."""

from datetime import date

import pydicom
import pytest

from node.domain.findings import View
from node.errors import ConfigError
from sample_studies import SampleImage, SampleStudy, catalog

DAY = date(2026, 1, 5)
STUDIES = {study.key: study for study in catalog()}


@pytest.fixture
def written(tmp_path):
    """Write a study; give its data sets."""

    def write(key: str) -> list[pydicom.Dataset]:
        paths = STUDIES[key].write(
            tmp_path, accession="A1", study_instance_uid=None, study_date=DAY
        )
        return [pydicom.dcmread(path) for path in paths]

    return write


def test_a_film_of_jpeg_origin_is_marked_lossy(written):
    (panoramic,) = written("panoramic-real")
    assert panoramic.LossyImageCompression == "01"
    assert panoramic.LossyImageCompressionMethod == "ISO_10918_1"
    assert panoramic.LossyImageCompressionRatio > 1
    assert panoramic.Modality == "PX"


def test_a_film_of_unknown_history_is_not_called_lossless(written):
    (bitewing,) = written("bitewing-real")
    assert "LossyImageCompression" not in bitewing
    (synthetic,) = written("bitewing-1")
    assert synthetic.LossyImageCompression == "00"


def test_a_film_of_unknown_side_has_no_orientation(written):
    (bitewing,) = written("bitewing-real")
    assert not bitewing.PatientOrientation


def test_a_full_mouth_series_is_oriented_as_mounted(written):
    by_name = dict(
        zip(
            [image.path.stem for image in STUDIES["full-mouth-14"].images],
            [list(ds.PatientOrientation) for ds in written("full-mouth-14")],
            strict=True,
        )
    )
    assert by_name["RUM"] == by_name["RLP"] == ["A", "F"]
    assert by_name["LUM"] == by_name["LLP"] == ["P", "F"]
    assert by_name["UI"] == by_name["LI"] == by_name["RUC"] == ["L", "F"]


def test_stamped_films_say_that_something_is_burned_in(written):
    assert {ds.BurnedInAnnotation for ds in written("full-mouth-14")} == {"YES"}


@pytest.mark.parametrize("key", ["bitewings-4", "bitewing-1", "periapicals-2"])
def test_a_synthetic_film_carries_spacing_side_and_teeth_of_its_truth(written, key):
    for image, ds in zip(STUDIES[key].images, written(key), strict=True):
        truth = image.truth()
        assert [float(v) for v in ds.ImagerPixelSpacing] == pytest.approx(truth["spacing_mm"])
        assert ds.ImageLaterality == truth["side"]
        assert len(ds.PrimaryAnatomicStructureSequence) == len({t["tooth"] for t in truth["teeth"]})
        assert list(ds.ImageType) == ["ORIGINAL", "PRIMARY", ""]


def test_a_missing_film_is_named_when_written(tmp_path):
    real = STUDIES["bitewing-real"]
    broken = SampleStudy(
        real.key,
        real.patient,
        real.description,
        real.modality,
        real.cdt_codes,
        real.source,
        (SampleImage("films/gone/1.png", View.BITEWING),),
    )
    with pytest.raises(ConfigError, match="films/gone"):
        broken.write(tmp_path, accession="A1", study_instance_uid=None, study_date=DAY)
