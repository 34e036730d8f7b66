"""The table of values on the installation page agrees with the chart."""

from __future__ import annotations

import json
import re
from functools import reduce

import yaml

from tests.chart.helm import CHART, ROOT

PAGE = (ROOT / "docs" / "kubernetes" / "install.md").read_text("utf-8")


def test_the_values_of_the_page_have_these_defaults():
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    rows = re.findall(r"^\| (`\w+[\w.`, ]*) \| (`.*?`) \| ", PAGE, re.M)
    assert len(rows) > 10
    for names, defaults in rows:
        paths = re.findall(r"`(.*?)`", names)
        said = [yaml.safe_load(default) for default in re.findall(r"`(.*?)`", defaults)]
        found = [reduce(lambda node, name: node[name], path.split("."), values) for path in paths]
        assert json.dumps(found) == json.dumps(said), names


def test_the_page_names_the_way_out_of_a_missing_storage_class():
    notes = (CHART / "templates" / "NOTES.txt").read_text("utf-8")
    for text in (PAGE, notes):
        assert "--set global.storageClass=NAME" in text
