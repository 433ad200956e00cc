"""Every rule is whole: log, benchmark, environment, threads, resources, message."""

import re

import pytest
from workflow_runner import ROOT

BLOCKS = {
    match[1]: block
    for path in sorted((ROOT / "workflow" / "rules").glob("*.smk"))
    for block in re.split(r"^(?=(?:use )?rule )", path.read_text(), flags=re.MULTILINE)
    if (match := re.match(r"rule (\w+)", block)) and "shell:" in block
}


@pytest.mark.parametrize("rule", BLOCKS)
def test_rule_declares_what_a_cluster_needs(rule):
    for directive in ("log", "benchmark|cache", "conda", "threads", "resources", "message"):
        assert re.search(rf"^    ({directive}):", BLOCKS[rule], re.MULTILINE), f"{rule} lacks {directive}:"
    assert "mem_mb=" in BLOCKS[rule]
    assert "runtime=" in BLOCKS[rule]
    assert "2> {log}" in BLOCKS[rule]


def test_no_rule_runs_python_inside_snakemake():
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        assert not re.search(r"^    (run|script|notebook):", path.read_text(), re.MULTILINE), path


def test_the_package_never_imports_snakemake():
    for path in (ROOT / "workflow" / "tally").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) snakemake", path.read_text(), re.MULTILINE), path
