"""Who holds a data directory; files that are there whole or not at all."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from compose.data_dir import DataDir, write_private
from compose.refusal import StartRefused


def test_only_one_holder_and_the_second_is_told_who_it_is(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "new" / "data")
    lock = data.hold(0.0)
    data.pid_file("supervisor").write_text(f"{os.getpid()}\n")
    with pytest.raises(StartRefused, match=rf"in use by a running trivet \(process {os.getpid()}\)"):
        data.hold(60.0)
    os.close(lock)
    os.close(data.hold(0.0))
    assert stat.S_IMODE(data.root.stat().st_mode) == 0o700


def test_children_of_a_killed_supervisor_are_waited_for(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    lock = data.hold(0.0)
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(lock,)
    ) as child:
        os.close(lock)
        with pytest.raises(StartRefused, match="left of a killed one"):
            data.hold(0.2)
        assert child.stdin is not None
        child.stdin.write(b"\n")
        child.stdin.close()
        os.close(data.hold(60.0))


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartRefused, match="can't be used"):
        DataDir(tmp_path / "file" / "data").hold(0.0)


def test_write_private_replaces_whole_files_and_survives_a_left_draft(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    (tmp_path / ".secret.new").write_text("half of an earlier wri")
    write_private(path, "one\n")
    write_private(path, "two\n")
    assert path.read_text() == "two\n"
    assert os.listdir(tmp_path) == ["secret"]
