"""Key-value and object stores as the official Python client builds them."""

import asyncio
import io

from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import (
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
)


async def key_value(nc):
    js = nc.jetstream()
    for storage in (StorageType.FILE, StorageType.MEMORY):
        bucket = f"KV_{storage.value}"
        kv = await js.create_key_value(KeyValueConfig(bucket=bucket, history=5, storage=storage))
        assert await kv.put("a", b"1") == 1
        assert (await kv.get("a")).value == b"1"
        assert await kv.create("b", b"1") == 2
        try:
            await kv.create("b", b"2")
            raise AssertionError("created twice")
        except KeyWrongLastSequenceError:
            pass
        assert await kv.update("b", b"2", last=2) == 3
        try:
            await kv.update("b", b"3", last=2)
            raise AssertionError("updated with an old revision")
        except KeyWrongLastSequenceError:
            pass
        assert (await kv.get("b", revision=2)).value == b"1"
        await kv.delete("a")
        for key in ("a", "zzz"):
            try:
                await kv.get(key)
                raise AssertionError("found a key that is not there")
            except KeyNotFoundError:
                pass
        assert await kv.create("a", b"again") > 0
        assert [entry.value for entry in await kv.history("b")] == [b"1", b"2"]
        assert sorted(await kv.keys()) == ["a", "b"]
        await kv.purge("b")
        assert await kv.keys() == ["a"]
        status = await kv.status()
        assert status.bucket == bucket and status.history == 5
        await js.delete_key_value(bucket)
        try:
            await js.key_value(bucket)
            raise AssertionError("the bucket is still there")
        except BucketNotFoundError:
            pass


async def key_value_watch(nc):
    js = nc.jetstream()
    kv = await js.create_key_value(bucket="WATCH", history=1)
    await kv.put("a.1", b"1")
    await kv.put("b.1", b"2")
    watcher = await kv.watch("a.*")
    assert (await watcher.updates(timeout=5)).key == "a.1"
    assert await watcher.updates(timeout=5) is None
    await kv.put("b.1", b"3")
    await kv.put("a.2", b"4")
    entry = await watcher.updates(timeout=5)
    assert (entry.key, entry.value) == ("a.2", b"4")
    await kv.delete("a.1")
    entry = await watcher.updates(timeout=5)
    assert (entry.key, entry.operation) == ("a.1", "DEL")
    await watcher.stop()


async def key_value_many_keys(nc):
    js = nc.jetstream()
    kv = await js.create_key_value(bucket="MANY")
    for start in range(0, 2000, 100):
        await asyncio.gather(
            *(kv.put(f"key.{number}", str(number).encode()) for number in range(start, start + 100))
        )
    assert len(await kv.keys()) == 2000
    assert (await kv.get("key.1234")).value == b"1234"


async def object_store(nc):
    js = nc.jetstream()
    store = await js.create_object_store("OBJ")
    data = bytes(range(256)) * 2000
    info = await store.put("file", io.BytesIO(data))
    assert info.size == len(data) and info.chunks == 4, info
    got = await store.get("file")
    assert got.data == data and got.info.digest == info.digest
    await store.put("small", b"tiny")
    assert (await store.get("small")).data == b"tiny"
    assert sorted(entry.name for entry in await store.list()) == ["file", "small"]
    await store.delete("file")
    assert [entry.name for entry in await store.list(ignore_deletes=True)] == ["small"]
    status = await store.status()
    assert status.bucket == "OBJ"
    await js.delete_object_store("OBJ")
