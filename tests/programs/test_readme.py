"""The README's programs run as they stand, and its files and commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize(
    "program", PROGRAMS, ids=["ten_lines", "own_equation", "deepxde"]
)
def test_programs_of_the_readme_run(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import torch; torch.set_num_threads(1)\n{program}"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    numbers = re.search(r"(?:error|loss) (\S+)", done.stdout)
    assert numbers, done.stdout
    assert float(numbers[1]) < 1e-3


def test_files_that_the_readme_names_exist() -> None:
    names = re.findall(r"(?:figures|scripts|problems|fedsciml)/[\w./-]+\w", README)
    names += re.findall(r"\]\(([\w./-]+)\)", README)
    missing = [n for n in names if "NAME" not in n and not (ROOT / n).exists()]
    assert not missing
