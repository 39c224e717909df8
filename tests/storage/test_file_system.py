"""Syncing a file system as a whole."""

import errno
import os
from types import SimpleNamespace

import pytest

from kpybroker.storage import file_system
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.file_system import RealFileSystem, tells_of_failures
from kpybroker.storage.files import RealFiles


@pytest.fixture
def opened(tmp_path):
    opened = RealFiles().file_system(tmp_path)
    yield opened
    opened.close()
    opened.close()


@pytest.mark.skipif(not tells_of_failures(), reason="needs Linux 5.8")
def test_it_is_synced(opened, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    assert opened.sync([str(tmp_path)])


@pytest.mark.skipif(not tells_of_failures(), reason="needs Linux 5.8")
def test_a_folder_of_another_file_system_is_not_covered(opened, tmp_path):
    assert not opened.sync([str(tmp_path), "/proc"])


@pytest.mark.parametrize(
    ("release", "told"),
    [("5.7.19", False), ("5.8.0-rc1", True), ("6.18.44-fc", True), ("4.19", False), ("5.10+", True)],
)
def test_before_linux_5_8_nobody_is_told_of_failures(monkeypatch, opened, tmp_path, release, told):
    monkeypatch.setattr(file_system.sys, "platform", "linux")
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(release=release))
    monkeypatch.setattr(file_system, "_syncfs", lambda: lambda _: 0)
    assert tells_of_failures() is told
    assert opened.sync([str(tmp_path)]) is told


@pytest.mark.parametrize(("number", "told"), [(0, True), (errno.ENOSYS, False), (errno.EPERM, False)])
def test_where_there_is_no_such_call(monkeypatch, opened, tmp_path, number, told):
    monkeypatch.setattr(file_system, "tells_of_failures", lambda: True)
    monkeypatch.setattr(file_system, "_syncfs", lambda: lambda _: number)
    assert opened.sync([str(tmp_path)]) is told
    monkeypatch.setattr(file_system, "_syncfs", lambda: None)
    assert not opened.sync([str(tmp_path)])


def test_what_could_not_be_written_is_told(monkeypatch, opened, tmp_path):
    monkeypatch.setattr(file_system, "tells_of_failures", lambda: True)
    monkeypatch.setattr(file_system, "_syncfs", lambda: lambda _: errno.EIO)
    with pytest.raises(StorageFailed, match="Input/output error"):
        opened.sync([str(tmp_path)])


def test_a_temporary_folder_is_never_synced(monkeypatch, tmp_path):
    monkeypatch.setattr(file_system, "_syncfs", lambda: pytest.fail("synced"))
    opened = RealFileSystem(str(tmp_path), sync=False)
    assert opened.sync([str(tmp_path)])
    opened.close()
    with pytest.raises(StorageFailed):
        RealFileSystem(str(tmp_path / "missing"), sync=True)
