import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from latchflow.sdk import ServiceError, StorageUpload
from latchflow.services.local_files import LocalFiles


def upload(key: str, *chunks: bytes) -> StorageUpload:
    async def content() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return StorageUpload(key=key, chunks=content(), content_type="a/b")


async def read(files: LocalFiles, key: str) -> bytes:
    return b"".join([chunk async for chunk in files.get(key)])


async def test_content_comes_back_and_belongs_to_this_user_alone(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "a" / "b")
    former = os.umask(0)
    try:
        await files.put(upload("one/two", *[b"x" * 700_000] * 4))
    finally:
        os.umask(former)

    assert await read(files, "one/two") == b"x" * 2_800_000
    file = tmp_path / "a" / "b" / "one" / "two"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent, file.parent.parent)]
    assert modes == [0o600, 0o700, 0o700]


@pytest.mark.parametrize(
    "key",
    [
        "../x/y",
        "x/../y",
        "x/..",
        "/etc/passwd",
        "x",
        "x/y/z",
        "x//y",
        "x/.y",
        "x/y.part",
        "x/y\x00",
        "",
        "x/y\n",
        "ä/b",
    ],
)
async def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    files = LocalFiles(tmp_path / "store")

    for call in (files.put(upload(key, b"x")), read(files, key), files.delete(key)):
        with pytest.raises(ServiceError, match="cannot be the name"):
            await call
    assert list(tmp_path.iterdir()) == []


async def test_what_is_not_there_is_not_found_and_may_be_deleted(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    await files.delete("a/b")

    with pytest.raises(ServiceError) as caught:
        await read(files, "a/b")
    assert caught.value.kind == "not_found"


async def test_a_source_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield bytes(2_000_000)
        raise EOFError

    with pytest.raises(EOFError):
        await LocalFiles(tmp_path).put(StorageUpload(key="a/b", chunks=content(), content_type="a/b"))

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_what_a_killed_upload_left_goes_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.part").write_bytes(b"half")
    await LocalFiles(tmp_path).delete("a/b")

    assert list(tmp_path.iterdir()) == []


async def test_a_key_is_never_written_twice_at_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.part").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ServiceError) as caught:
        await LocalFiles(tmp_path).put(upload("a/b", b"x"))
    assert caught.value.kind == "retryable"
    assert not (tmp_path / "elsewhere").exists()


async def test_a_file_that_is_removed_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path)
    await files.put(upload("a/b", b"x" * 1_000_000))
    chunks = files.get("a/b")
    first = await anext(chunks)
    await files.delete("a/b")

    assert first + b"".join([chunk async for chunk in chunks]) == b"x" * 1_000_000
