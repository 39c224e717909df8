"""Real files: the seam to the disk, regions of segment files, and a process that is killed."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from kpybroker.storage.errors import DataDirRefused, StorageFailed
from kpybroker.storage.files import RealFiles
from kpybroker.storage.log import Log
from kpybroker.storage.region import FileRegion, SharedFile

from .making import CONFIG, NOW, TOPIC_ID, append, config, values


@pytest.fixture(params=[True, False], ids=["sync", "no sync"])
def files(request):
    return RealFiles(sync=request.param)


class TestFiles:
    def test_read_and_write(self, files, tmp_path):
        file = files.open(tmp_path / "f", create=True)
        file.write_at(0, b"hello")
        file.write_at(5, bytearray(b" world"))
        file.write_at(3, memoryview(b"p!"))
        assert file.read_at(0, 100) == b"help! world"
        assert file.read_at(6, 3) == b"wor"
        assert file.read_at(50, 3) == b""
        file.truncate(5)
        file.sync()
        assert file.size() == 5
        assert os.pread(file.fileno(), 10, 0) == b"help!"
        file.close()
        file.close()

    def test_a_part_of_a_file_that_may_only_be_read(self, files, tmp_path):
        files.write_whole(tmp_path / "f", b"hello world")
        os.chmod(tmp_path / "f", 0o400)
        assert files.read_part(tmp_path / "f", 6, 3) == b"wor"
        assert files.read_part(tmp_path / "f", 9, 100) == b"ld"
        assert files.read_part(tmp_path / "f", 50, 1) == b""
        with pytest.raises(StorageFailed) as failed:
            files.read_part(tmp_path / "none", 0, 1)
        assert failed.value.missing

    def test_open_a_missing_file(self, files, tmp_path):
        with pytest.raises(StorageFailed) as failed:
            files.open(tmp_path / "f")
        assert failed.value.missing
        assert str(tmp_path / "f") in str(failed.value)

    def test_write_whole(self, files, tmp_path):
        path = tmp_path / "f"
        assert files.read_whole(path) is None
        for sync in (True, False):
            files.write_whole(path, b"x" * 100, sync=sync)
            files.write_whole(path, b"new", sync=sync)
            assert files.read_whole(path) == b"new"
        assert files.names(tmp_path) == ["f"]

    def test_write_whole_into_a_folder_that_is_not_there(self, files, tmp_path):
        with pytest.raises(StorageFailed):
            files.write_whole(tmp_path / "no" / "f", b"x")

    def test_folders(self, files, tmp_path):
        folder = tmp_path / "a-0"
        files.make_folder(folder)
        files.make_folder(folder)
        files.make_folder(folder / "inside")
        files.write_whole(folder / "inside" / "f", b"x")
        files.write_whole(tmp_path / "plain", b"xyz")
        assert files.folders(tmp_path) == ["a-0"]
        assert sorted(files.names(tmp_path)) == ["a-0", "plain"]
        assert files.exists(folder)
        assert files.size(tmp_path / "plain") == 3
        assert files.modified_ms(tmp_path / "plain") == os.stat(tmp_path / "plain").st_mtime_ns // 10**6
        files.rename(folder, tmp_path / "b-0")
        files.sync_folder(tmp_path)
        files.remove_folder(tmp_path / "b-0")
        files.remove_folder(tmp_path / "b-0")
        files.remove(tmp_path / "plain")
        files.remove(tmp_path / "plain")
        assert files.names(tmp_path) == []

    def test_failures_name_the_path(self, files, tmp_path):
        (tmp_path / "f").write_bytes(b"")
        missing = tmp_path / "missing"
        for attempt in (
            lambda: files.names(missing),
            lambda: files.folders(missing),
            lambda: files.size(missing),
            lambda: files.modified_ms(missing),
            lambda: files.rename(missing, tmp_path / "x"),
            lambda: files.lock(missing / "x"),
            lambda: files.make_folder(missing / "x"),
        ):
            with pytest.raises(StorageFailed) as failed:
                attempt()
            assert "missing" in str(failed.value)
        for attempt in (
            lambda: files.make_folder(tmp_path / "f"),
            lambda: files.remove_folder(tmp_path / "f"),
            lambda: files.remove(tmp_path),
            lambda: files.read_whole(tmp_path),
        ):
            with pytest.raises(StorageFailed):
                attempt()

    def test_a_full_disk(self, files):
        file = files.open("/dev/full")
        with pytest.raises(StorageFailed) as failed:
            file.write_at(0, b"x")
        assert failed.value.full
        file.close()

    def test_a_closed_file_fails(self, files, tmp_path):
        file = files.open(tmp_path / "f", create=True)
        file.close()
        for attempt in (
            lambda: file.read_at(0, 1),
            lambda: file.write_at(0, b"x"),
            lambda: file.truncate(0),
            file.size,
        ):
            with pytest.raises(StorageFailed):
                attempt()

    def test_a_lock_excludes_other_processes(self, files, tmp_path):
        held = files.lock(tmp_path / ".lock")
        script = textwrap.dedent(
            """
            import sys
            from kpybroker.storage.errors import DataDirRefused
            from kpybroker.storage.files import RealFiles
            try:
                RealFiles().lock(sys.argv[1])
            except DataDirRefused as refused:
                print(refused)
            else:
                print("mine")
            """
        )

        def other() -> str:
            command = [sys.executable, "-c", script, str(tmp_path / ".lock")]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

        assert other() == f"{tmp_path} is in use by another process"
        with pytest.raises(DataDirRefused):  # a second node in this process; it must not cost the first one its lock
            RealFiles().lock(tmp_path / ".lock")
        assert other() == f"{tmp_path} is in use by another process"
        held.release()
        held.release()
        assert other() == "mine"


class TestRegion:
    def make(self, files, tmp_path, content=b"0123456789"):
        file = files.open(tmp_path / "f", create=True)
        file.write_at(0, content)
        return SharedFile(file)

    def test_it_reads_its_part(self, files, tmp_path):
        shared = self.make(files, tmp_path)
        region = FileRegion(shared, 2, 5)
        assert (len(region), region.read(), region.position) == (5, b"23456", 2)
        out, into = os.pipe()
        assert os.sendfile(into, region.fileno(), region.position, len(region)) == 5
        assert os.read(out, 10) == b"23456"
        os.close(out)
        os.close(into)
        region.release()
        shared.release()

    def test_the_file_is_closed_with_its_last_holder(self, files, tmp_path):
        shared = self.make(files, tmp_path)
        first, second = FileRegion(shared, 0, 1), FileRegion(shared, 1, 1)
        shared.release()
        os.unlink(tmp_path / "f")
        first.release()
        first.release()
        fd = second.fileno()
        assert second.read() == b"1"
        del second
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        for attempt in (first.read, first.fileno, first.is_warm, first.warm):
            with pytest.raises(ValueError, match="released"):
                attempt()
        assert first.stale

    def test_truncation_makes_it_stale(self, files, tmp_path):
        shared = self.make(files, tmp_path)
        region = FileRegion(shared, 0, 5)
        assert not region.stale
        shared.truncated()
        assert region.stale
        assert not FileRegion(shared, 0, 5).stale

    def test_warming(self, files, tmp_path):
        shared = self.make(files, tmp_path, b"x" * 3_000_000)
        region = FileRegion(shared, 5, 2_500_000)
        shared.file.sync()
        region.warm()
        assert region.is_warm()
        past_the_end = FileRegion(shared, 2_999_999, 100)
        past_the_end.warm()


def test_a_log_on_real_files(files, tmp_path):
    settings = config(segment_bytes=2000, index_interval_bytes=100)
    log = Log.create(tmp_path / "t-0", topic_id=TOPIC_ID, config=settings, files=files)
    for number in range(100):
        append(log, b"%d" % number)
    expected = [b"%d" % number for number in range(100)]
    assert values(log) == expected
    log.flush()
    assert log.recovery_point == 100
    log.truncate_to(50, now_ms=NOW)
    log.close()
    for clean in (True, False):
        log = Log.open(
            tmp_path / "t-0", config=settings, files=files, clean=clean, recovery_point=log.recovery_point, now_ms=NOW
        )
        assert values(log) == expected[:50]
        log.close()


def test_after_kill_minus_9_everything_acknowledged_is_there(tmp_path):
    """A process appends and says so, until it is killed between two appends or within one."""
    script = textwrap.dedent(
        """
        import sys
        from kpybroker.storage.files import RealFiles
        from kpybroker.storage.log import Log
        sys.path.insert(0, sys.argv[1])
        from tests.storage.making import TOPIC_ID, append, config
        log = Log.create(sys.argv[2], topic_id=TOPIC_ID, config=config(segment_bytes=20_000), files=RealFiles())
        for number in range(10**9):
            appended = append(log, b"%d" % number * 50)
            sys.stdout.write(f"{appended.last_offset}\\n")
            sys.stdout.flush()
        """
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    process = subprocess.Popen(
        [sys.executable, "-c", script, root, str(tmp_path / "t-0")], stdout=subprocess.PIPE, text=True
    )
    acknowledged = -1
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged == 500:
            process.send_signal(signal.SIGKILL)
        if acknowledged > 100_000:
            break
    process.wait()
    process.stdout.close()
    log = Log.open(
        tmp_path / "t-0", config=CONFIG, files=RealFiles(sync=False), clean=False, recovery_point=0, now_ms=NOW
    )
    assert 500 <= acknowledged < log.log_end_offset <= acknowledged + 2
    assert values(log) == [b"%d" % number * 50 for number in range(log.log_end_offset)]
    assert log.segment_count > 1
    log.close(clean=False)


def test_a_data_dir_refused_is_one_line():
    assert str(DataDirRefused("in use")) == "in use"
