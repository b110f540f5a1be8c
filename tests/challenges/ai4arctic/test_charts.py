"""Ice charts: codes to classes, by hand from the tables of the data manual."""

from __future__ import annotations

import numpy as np
import pytest

from swath.challenges.ai4arctic.charts import COLUMNS, charts_of, polygon_classes
from swath.errors import RasterError

HEADER = ";".join(COLUMNS)
NONE = ";-9;-9;-9"


def classes(line: str) -> tuple[int, int, int]:
    return polygon_classes([HEADER, f"7;{line}"], "a chart")[7]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        # CT  CA  SA  FA   CB  SB  FB   CC  SC  FC   CN  CD  CF   type
        (f"0{NONE * 4};I", (0, 0, 0)),
        (f"1{NONE * 4};I", (0, 0, 0)),
        (f"2{NONE * 4};I", (0, 0, 0)),
        (f"55{NONE * 4};W", (0, 0, 0)),
        (f"-9{NONE * 4};I", (255, 255, 255)),
        (f"99{NONE * 4};I", (255, 255, 255)),
        (f"91;91;95;5;{NONE[1:]}{NONE * 2};I", (10, 5, 4)),
        (f"92;-9;91;6;{NONE[1:]}{NONE * 2};I", (10, 4, 5)),  # an empty first part takes the total
        (f"50;-9;83;3{NONE * 3};I", (5, 2, 2)),
        (f"60;-9;93;7{NONE * 3};i", (6, 4, 5)),
        (f"90;60;87;4;30;91;5{NONE * 2};I", (9, 3, 3)),  # 6 of 9 is 67 %
        (f"90;50;87;4;40;91;5{NONE * 2};I", (9, 255, 255)),  # 5 of 9 is 56 %
        (f"90;50;87;4;40;88;5{NONE * 2};I", (9, 3, 255)),  # 87 and 88 are one class: 9 of 9
        (f"90;30;91;6;40;95;4;20;93;7{NONE};I", (9, 255, 255)),  # first and third: 5 of 9
        (f"91;40;91;6;30;95;4;30;93;7{NONE};I", (10, 4, 5)),  # first and third: 7 of 10
        (f"90;20;95;6;40;91;4;30;93;4{NONE};I", (9, 4, 3)),  # second and third: 7 of 9
        (f"90;30;81;2;30;82;2;30;81;2{NONE};I", (9, 1, 1)),  # all three
        (f"92;92;91;8;{NONE[1:]}{NONE * 2};I", (10, 4, 255)),  # fast ice
        (f"90;70;91;5;20;87;8{NONE * 2};I", (9, 4, 255)),  # any fast ice
        (f"80;-9;98;10{NONE * 3};I", (8, 255, 6)),  # ice of land origin
        (f"80;-9;99;1{NONE * 3};I", (8, 255, 255)),
        (f"80;-9;80;0{NONE * 3};I", (8, 0, 0)),
        (f"40;-9;-9;-9{NONE * 3};I", (4, 255, 255)),
        (f"70;-9;89;21{NONE * 3};I", (7, 3, 255)),
        (f"10;-9;85;9{NONE * 3};I", (1, 2, 6)),
        (f"90;-9;91;5{NONE * 3};W", (0, 0, 0)),  # water polygons are water, whatever else they say
    ],
)
def test_c26_codes_become_classes(codes: str, expected: tuple[int, int, int]) -> None:
    assert classes(codes.replace(";;", ";")) == expected


@pytest.mark.parametrize(("chart", "column", "table"), [
    (0, "CT", {0: 0, 1: 0, 2: 0, 55: 0, 10: 1, 20: 2, 30: 3, 40: 4, 50: 5, 60: 6, 70: 7, 80: 8, 90: 9, 91: 10, 92: 10}),
    (1, "SA", {0: 0, 80: 0, 81: 1, 82: 1, 83: 2, 84: 2, 85: 2, 86: 4, 87: 3, 88: 3, 89: 3, 91: 4, 93: 4, 95: 5, 96: 5, 97: 5}),
    (2, "FA", {0: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 5, 9: 6, 10: 6}),
])  # fmt: skip
def test_c26_every_code_of_the_tables_and_no_other_has_a_class(chart: int, column: str, table: dict[int, int]) -> None:
    for code in (*range(100), -9):
        fields = (
            dict.fromkeys(COLUMNS, "-9") | {"CT": "91", "SA": "91", "FA": "5", "POLY_TYPE": "I"} | {column: str(code)}
        )
        found = polygon_classes([HEADER, ";".join(fields.values())], "a chart")[-9]
        expected = table.get(code, 255)
        assert found[chart] == expected, code
        if chart == 0 and expected in (0, 255):
            assert found == (expected,) * 3  # open water is open water in all charts


def test_c26_polygons_become_maps() -> None:
    table = polygon_classes([HEADER, f"3;91;91;95;5{NONE * 3};I", f"12;0{NONE * 4};W"], "a chart")
    polygons = np.array([[3, 3, 12], [np.nan, 12, 4], [-1, 1000, 3.0]])
    expected = np.array([[[10, 10, 0], [255, 0, 255], [255, 255, 10]]])
    charts = charts_of(polygons, table)
    np.testing.assert_array_equal(charts[:1], expected)
    np.testing.assert_array_equal(charts[2][charts[0] == 10], 4)
    assert charts.dtype == np.uint8
    assert (charts_of(polygons, {}) == 255).all()


def test_c26_columns_are_found_by_name() -> None:
    order = [*reversed(COLUMNS)]
    fields = dict.fromkeys(COLUMNS, " -9") | {"id": "5", "CT": "70", "SA": " 91", "FA": "4", "POLY_TYPE": " I"}
    assert polygon_classes([";".join(order), ";".join(fields[c] for c in order)], "x") == {5: (7, 4, 3)}


def test_c26_tables_that_cannot_be_read_name_the_line() -> None:
    with pytest.raises(RasterError, match=r"scene\.nc: its table of codes lacks CT, CA"):
        polygon_classes(["id;POLY_TYPE"], "scene.nc")
    with pytest.raises(RasterError, match=r"scene\.nc: '7;many.*no line of codes id;CT"):
        polygon_classes([HEADER, f"7;many{NONE * 4};I"], "scene.nc")
    with pytest.raises(RasterError, match="no line of codes"):
        polygon_classes([HEADER, "7;91;91"], "scene.nc")
    with pytest.raises(RasterError, match="lacks id"):
        polygon_classes([], "scene.nc")
