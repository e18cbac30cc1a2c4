import os

import pytest

from orchestration import state_folder
from orchestration.problems import ProblemError
from orchestration.state_folder import StateFolder, default_path


def code_of(problem_error):
    return problem_error.value.problem.code


def test_default_folder_prefers_our_variable_over_the_desktops(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert default_path() == tmp_path / "xdg" / "cloudctl"

    monkeypatch.setenv("CLOUDCTL_STATE_DIR", str(tmp_path / "ours"))
    assert default_path() == tmp_path / "ours"


def test_prepared_folder_is_private_and_keeps_its_cookie(tmp_path):
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    cookie = folder.read_cookie()
    folder.prepare()

    assert len(bytes.fromhex(cookie.decode())) == 32
    assert folder.read_cookie() == cookie
    assert folder.cookie.stat().st_mode & 0o777 == 0o600
    assert folder.run.stat().st_mode & 0o777 == 0o700
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_cookie_cut_short_by_a_crash_is_made_anew(tmp_path):
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    folder.cookie.write_text("")

    folder.prepare()

    assert len(folder.read_cookie()) == 64


def test_deep_state_folder_gets_a_short_run_folder(tmp_path):
    folder = StateFolder(tmp_path / ("d" * 80))
    folder.prepare()

    assert len(str(folder.run / "zone-12345678.sock")) < 100
    assert (folder.path / "run").readlink() == folder.run
    assert folder.run.stat().st_mode & 0o777 == 0o700

    (folder.run / "api.sock").touch()
    folder.leave_run()
    assert not folder.run.exists()
    folder.prepare()
    folder.leave_run()


def test_run_folder_that_is_a_trap_is_refused(tmp_path):
    folder = StateFolder(tmp_path / ("e" * 80))
    folder.run.symlink_to(tmp_path)

    with pytest.raises(ProblemError) as refused:
        folder.prepare()

    assert code_of(refused) == "CLOUDCTL-E0276"
    folder.run.unlink()


def test_relative_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert StateFolder(state_folder.Path("here")).journal == tmp_path / "here" / "journal.db"


def test_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ProblemError) as refused:
        StateFolder(tmp_path / "file").prepare()

    assert code_of(refused) == "CLOUDCTL-E0276"


def test_folder_without_space_is_refused_with_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(state_folder, "NEEDED_BYTES", 1 << 60)

    with pytest.raises(ProblemError) as refused:
        StateFolder(tmp_path / "state").prepare()

    assert code_of(refused) == "CLOUDCTL-E0250"
    assert "KiB are needed" in refused.value.problem.detail


def test_second_holder_is_refused_and_told_the_first(tmp_path):
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    held = folder.lock()

    with pytest.raises(ProblemError) as refused:
        folder.lock()

    assert code_of(refused) == "CLOUDCTL-E0265"
    assert f"(pid {os.getpid()})" in refused.value.problem.detail
    os.close(held)
    os.close(folder.lock())


def test_folder_is_lost_with_its_lock_file_or_when_another_is_there(tmp_path):
    folder = StateFolder(tmp_path)
    held = folder.lock()
    was_lost = folder.is_lost()
    (folder.path / "lock").rename(folder.path / "old")
    is_gone = folder.is_lost()
    (folder.path / "lock").touch()

    assert (was_lost, is_gone, folder.is_lost()) == (False, True, True)
    os.close(held)
