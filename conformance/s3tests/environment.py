"""The virtual environment of ceph/s3-tests: its own requirements, apart from Trivet's."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import venv
from pathlib import Path

# What the run itself needs: several tests at once, and an end for one that hangs.
OWN_REQUIREMENTS = ("pytest-timeout", "pytest-xdist")


class NoEnvironment(Exception):
    """The packages could not be installed."""


def environment_for(checkout: Path, folder: Path) -> Path:
    """The Python of the environment in `folder`, made anew when the checkout's requirements are other ones than those
    it was made from. Raises NoEnvironment.
    """
    requirements = checkout / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + repr(OWN_REQUIREMENTS).encode()).hexdigest()
    stamp = folder / ".requirements"
    python = folder / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making a virtual environment for s3-tests in {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    done = subprocess.run([*pip, "-r", str(requirements), *OWN_REQUIREMENTS], check=False)
    if done.returncode:
        raise NoEnvironment(f"pip could not install {requirements} (exit code {done.returncode})")
    stamp.write_text(wanted)
    return python
