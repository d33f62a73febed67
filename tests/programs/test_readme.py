"""The README's program runs as it stands, its files exist, and it stays short."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
(PROGRAM,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_program_of_the_readme_runs(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "MPLCONFIGDIR": matplotlib.get_configdir()}
    done = subprocess.run(
        [sys.executable, "-c", f"import torch; torch.set_num_threads(1)\n{PROGRAM}"],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            **home,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    numbers = re.search(r"(?:error|loss) (\S+)", done.stdout)
    assert numbers, done.stdout
    assert float(numbers[1]) < 1e-10


def test_files_that_the_readme_names_exist() -> None:
    names = re.findall(r"(?:figures|scripts|problems|fedsciml)/[\w./-]+\w", README)
    names += re.findall(r"\]\(([\w./-]+)\)", README)
    missing = [n for n in names if "NAME" not in n and not (ROOT / n).exists()]
    assert not missing


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150
    statements = [line for line in PROGRAM.splitlines() if line.strip()]
    assert len(statements) <= 10
