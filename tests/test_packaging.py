"""What is installed: one name, with all its files; found from every folder."""

import os
import re
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "fedsciml"


@pytest.fixture(scope="module")
def settings() -> ConfigParser:
    """What setup.cfg says."""
    found = ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def files() -> set[str]:
    """All files of the library, by their places in the wheel."""
    walked = os.walk(LIBRARY, followlinks=True)
    return {
        str(Path(folder, name).relative_to(ROOT))
        for folder, _, names in walked
        for name in names
        if "__pycache__" not in folder
    }


def test_the_package_claims_one_name(settings: ConfigParser) -> None:
    include = settings["options.packages.find"]["include"]
    packages = find_packages(str(ROOT), include=[include])
    assert {name.partition(".")[0] for name in packages} == {"fedsciml"}
    folders = {str(Path(name).parent).replace("/", ".") for name in files()}
    assert {
        f for f in folders if (ROOT / f.replace(".", "/") / "__init__.py").exists()
    } == {*packages}


def test_no_file_of_the_library_is_left_out_of_the_wheel(
    settings: ConfigParser,
) -> None:
    patterns = settings["options.package_data"]["fedsciml"]
    patterns = re.split(r"[,\n]+", patterns.strip())
    matching = (p for pattern in patterns for p in LIBRARY.glob(pattern.strip()))
    listed = {path for path in matching if path.is_file()}
    paths = {ROOT / name for name in files()}
    packages = {path.parent for path in paths if path.name == "__init__.py"}
    modules = {p for p in paths if p.suffix == ".py" and p.parent in packages}
    assert listed == paths - modules


def test_the_console_command_is_there(settings: ConfigParser) -> None:
    line = settings["options.entry_points"]["console_scripts"].strip()
    name, module, function = re.split(r" = |:", line)
    assert name == "fedsciml"
    assert callable(getattr(import_module(module), function))


def test_the_package_is_found_beside_a_clone_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "fedsciml").mkdir()  # a folder without __init__.py, as a clone is
    program = "import fedsciml; print(fedsciml.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_wheel_is_all_that_is_needed(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    source, target = tmp_path / "source", tmp_path / "target"
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in tracked:  # a clean copy: setuptools leaves things where it builds
        place = source / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            place.symlink_to((ROOT / name).readlink())
        else:
            place.write_bytes((ROOT / name).read_bytes())
    apart = ["--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *apart, "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("fedsciml-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if "dist-info" not in name} == files()
    subprocess.run([*pip, "install", "--no-deps", "-t", target, wheel], check=True)
    program = "from fedsciml.command import main; import sys; sys.exit(main())"
    empty = tmp_path / "empty"
    empty.mkdir()
    for words in (["new", "problem", "rod"], ["run", "rod.py", "--rounds", "2"]):
        subprocess.run(
            [sys.executable, "-c", program, *words],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(target)},
            check=True,
        )
    assert (empty / "runs" / "rod-fipa-1" / "solution.png").exists()
