// Key-value and object stores as the official Node client builds them.

import assert from "node:assert/strict";

export async function key_value(nc, { Kvm }) {
  const kv = await new Kvm(nc).create("bucket", { history: 5 });
  assert.equal(await kv.put("a", "1"), 1);
  assert.equal(await kv.create("b", "1"), 2);
  await assert.rejects(kv.create("b", "2"), { code: 10071 });
  assert.equal(await kv.update("b", "2", 2), 3);
  await assert.rejects(kv.update("b", "3", 2), { code: 10071 });
  assert.equal((await kv.get("b", { revision: 2 })).string(), "1");
  await kv.delete("a");
  assert.equal((await kv.get("a")).operation, "DEL");
  assert.equal(await kv.get("zzz"), null);
  const history = [];
  for await (const entry of await kv.history({ key: "b" })) history.push(entry.string());
  assert.deepEqual(history, ["1", "2"]);
  const keys = [];
  for await (const key of await kv.keys()) keys.push(key);
  assert.deepEqual(keys, ["b"]);
  await kv.purge("b");
  const status = await kv.status();
  assert.deepEqual([status.bucket, status.history], ["bucket", 5]);
  assert.ok(await kv.destroy());
}

export async function key_value_watch(nc, { Kvm }) {
  const kv = await new Kvm(nc).create("watched");
  await kv.put("a.1", "1");
  await kv.put("b.1", "2");
  const seen = [];
  for await (const entry of await kv.watch({ key: "a.>" })) {
    seen.push([entry.key, entry.operation, entry.string()]);
    if (seen.length === 1) await kv.put("a.2", "3");
    if (seen.length === 2) await kv.delete("a.1");
    if (seen.length === 3) break;
  }
  assert.deepEqual(seen, [["a.1", "PUT", "1"], ["a.2", "PUT", "3"], ["a.1", "DEL", ""]]);
}

export async function key_value_limit_markers(nc, { Kvm }) {
  const kv = await new Kvm(nc).create("expiring", { markerTTL: 2000 });
  await kv.create("k", "v", "1s");
  const seen = [];
  for await (const entry of await kv.watch()) {
    seen.push(entry.operation);
    if (seen.length === 2) break;
  }
  assert.deepEqual(seen, ["PUT", "PURGE"]);
}

export async function object_store(nc, { Objm }) {
  const store = await new Objm(nc).create("objects");
  const bytes = new Uint8Array(500_000).map((_, at) => (at * 31) & 0xff);
  const info = await store.putBlob({ name: "big", options: { max_chunk_size: 64 * 1024 } }, bytes);
  assert.deepEqual([info.size, info.chunks], [500_000, 8]);
  assert.deepEqual(await store.getBlob("big"), bytes);
  await store.putBlob({ name: "small" }, new TextEncoder().encode("s"));
  assert.deepEqual((await store.list()).map((each) => each.name).sort(), ["big", "small"]);
  await store.link("alias", await store.info("big"));
  assert.deepEqual(await store.getBlob("alias"), bytes);
  await store.update("small", { name: "tiny" });
  assert.equal((await store.delete("big")).success, true);
  assert.equal(await store.get("big"), null);
  assert.ok((await store.seal()).sealed);
  await assert.rejects(store.putBlob({ name: "x" }, bytes));
  assert.ok(await store.destroy());
}
