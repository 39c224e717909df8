"""What a failure of the disk means: try again, one file is missing, or the folder has failed."""

import errno
import os

import pytest

from kpybroker.storage.errors import StorageFailed, SyncFailed

TEMPORARY = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM]
OF_FOLDER = [errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTDIR]


def failed(number: int, kind: type[StorageFailed] = StorageFailed) -> StorageFailed:
    return kind("/data/t-0/00.log", OSError(number, os.strerror(number)))


@pytest.mark.parametrize("number", TEMPORARY, ids=errno.errorcode.get)
def test_what_passes(number):
    failure = failed(number)
    assert (failure.temporary, failure.missing, failure.of_folder) == (True, False, False)
    assert failure.full is (number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@pytest.mark.parametrize("number", OF_FOLDER, ids=errno.errorcode.get)
def test_what_is_the_folders_failure(number):
    failure = failed(number)
    assert (failure.temporary, failure.missing, failure.of_folder) == (False, False, True)


def test_a_missing_file_is_a_matter_of_its_own():
    failure = failed(errno.ENOENT)
    assert (failure.temporary, failure.missing, failure.of_folder) == (False, True, False)


@pytest.mark.parametrize("number", [errno.EIO, *TEMPORARY], ids=errno.errorcode.get)
def test_a_failed_sync_never_passes(number):
    failure = failed(number, SyncFailed)
    assert (failure.temporary, failure.of_folder) == (False, True)


def test_an_error_without_a_number_is_the_folders():
    assert StorageFailed("/data", OSError("odd")).of_folder
