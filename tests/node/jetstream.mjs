// JetStream as the official Node client does it: one function per scenario.

import assert from "node:assert/strict";

const SECOND_NS = 1_000_000_000;

async function stream(nc, { jetstreamManager }, config) {
  const manager = await jetstreamManager(nc);
  await manager.streams.add({ name: "S", subjects: ["s.>"], ...config });
  return [manager, manager.jetstream()];
}

async function publish(js, count) {
  for (let number = 1; number <= count; number++) await js.publish(`s.${number % 2}`, String(number));
}

/// The first `count` messages of an iterator, each acknowledged.
async function take(messages, count) {
  const taken = [];
  for await (const message of messages) {
    message.ack();
    taken.push(message);
    if (taken.length === count) break;
  }
  return taken;
}

export async function streams(nc, client) {
  const [manager] = await stream(nc, client, { max_msgs: 10 });
  const info = await manager.streams.info("S");
  assert.equal(info.config.max_msgs, 10);
  await manager.streams.update("S", { max_msgs: 5, description: "less" });
  await publish(manager.jetstream(), 8);
  const after = await manager.streams.info("S", { subjects_filter: ">" });
  assert.deepEqual([after.state.first_seq, after.state.messages], [4, 5]);
  assert.deepEqual(after.state.subjects, { "s.0": 3, "s.1": 2 });
  assert.equal((await manager.streams.getMessage("S", { seq: 5 })).string(), "5");
  assert.equal((await manager.streams.getMessage("S", { last_by_subj: "s.1" })).seq, 7);
  assert.equal(await manager.streams.getMessage("S", { seq: 1 }), null);
  assert.ok(await manager.streams.deleteMessage("S", 5));
  assert.equal((await manager.streams.purge("S", { filter: "s.0" })).purged, 3);
  assert.deepEqual(await manager.streams.names().next(), ["S"]);
  assert.equal(await manager.streams.find("s.9"), "S");
  await assert.rejects(manager.streams.add({ name: "T", subjects: ["s.1"] }), { code: 10065 });
  assert.equal((await manager.getAccountInfo()).streams, 1);
  assert.ok(await manager.streams.delete("S"));
  await assert.rejects(manager.streams.info("S"), { code: 10059 });
}

export async function publishing(nc, client) {
  const [, js] = await stream(nc, client, {});
  assert.deepEqual(await js.publish("s.1", "a", { msgID: "m" }), { stream: "S", seq: 1, duplicate: false });
  assert.equal((await js.publish("s.1", "a", { msgID: "m" })).duplicate, true);
  const refused = (expect, code) => assert.rejects(js.publish("s.1", "b", { expect }), { code });
  await refused({ lastSequence: 7 }, 10071);
  await refused({ lastSubjectSequence: 7 }, 10071);
  await refused({ lastMsgID: "x" }, 10070);
  await refused({ streamName: "T" }, 10060);
  assert.equal((await js.publish("s.1", "b", { expect: { lastSequence: 1, lastMsgID: "m" } })).seq, 2);
  await assert.rejects(js.publish("nowhere"), /not enabled/); // no stream takes it
}

export async function atomic_batch(nc, client) {
  const [manager, js] = await stream(nc, client, { allow_atomic: true });
  const batch = await js.startBatch("s.1", "1");
  for (let number = 2; number < 100; number++) batch.add("s.1", String(number), { ack: number % 20 === 0 });
  assert.equal((await manager.streams.info("S")).state.messages, 0);
  const ack = await batch.commit("s.1", "100");
  assert.deepEqual([ack.seq, ack.count, ack.batch], [100, 100, batch.id]);
}

export async function fast_ingest(nc, client) {
  const [manager] = await stream(nc, client, { allow_batched: true });
  const ingest = await client.startFastIngest(nc, "s.1", "1", { allowGaps: false, ackInterval: 5 });
  for (let number = 2; number < 200; number++) await ingest.add("s.1", String(number));
  const ack = await ingest.last("s.1", "200");
  assert.deepEqual([ack.seq, ack.count], [200, 200]);
  assert.equal((await manager.streams.info("S")).state.messages, 200);
}

export async function pull_consumers(nc, client) {
  const [manager, js] = await stream(nc, client, {});
  await publish(js, 20);
  await manager.consumers.add("S", { durable_name: "all", ack_policy: "explicit" });
  await manager.consumers.add("S", { durable_name: "even", ack_policy: "explicit", filter_subject: "s.0" });
  const all = await js.consumers.get("S", "all");
  assert.deepEqual((await take(await all.fetch({ max_messages: 3 }), 3)).map((m) => m.seq), [1, 2, 3]);
  assert.equal((await all.next()).seq, 4);
  const even = await js.consumers.get("S", "even");
  const taken = await take(await even.consume(), 10);
  assert.deepEqual(taken.map((message) => message.string()).slice(0, 3), ["2", "4", "6"]);
  assert.equal(taken[9].info.pending, 0);
  assert.equal(await even.next({ expires: 1000 }), null);
  assert.ok(await all.delete());
  await assert.rejects(manager.consumers.info("S", "all"), { code: 10014 });
}

export async function acknowledgements(nc, client) {
  const [manager, js] = await stream(nc, client, {});
  await publish(js, 2);
  await manager.consumers.add("S", { durable_name: "c", ack_policy: "explicit", ack_wait: 30 * SECOND_NS });
  const consumer = await js.consumers.get("S", "c");
  const first = await consumer.next();
  first.working();
  first.nak();
  // A message given back comes before what was not delivered yet.
  const again = await consumer.next();
  assert.deepEqual([again.seq, again.info.deliveryCount, again.redelivered], [1, 2, true]);
  assert.ok(await again.ackAck());
  (await consumer.next()).term("of no use");
  await nc.flush();
  const info = await manager.consumers.info("S", "c");
  assert.deepEqual([info.num_ack_pending, info.ack_floor.stream_seq], [0, 2]);
}

export async function push_consumers(nc, client) {
  const [manager, js] = await stream(nc, client, {});
  await manager.consumers.add("S", {
    durable_name: "p", deliver_subject: "to.me", ack_policy: "explicit",
    flow_control: true, idle_heartbeat: 5 * SECOND_NS,
  });
  const consumer = await js.consumers.getPushConsumer("S", "p");
  const messages = await consumer.consume();
  await publish(js, 50);
  const taken = await take(messages, 50);
  assert.deepEqual(taken.map((message) => message.seq), Array.from({ length: 50 }, (_, at) => at + 1));
}

export async function ordered_consumers(nc, client) {
  const [manager, js] = await stream(nc, client, {});
  await publish(js, 40);
  const pulled = await js.consumers.get("S", { filter_subjects: ["s.1"] });
  const messages = await pulled.consume();
  const seen = [];
  for await (const message of messages) {
    seen.push(message.seq);
    // The client notices that its consumer is gone and makes another where it stood.
    if (seen.length === 5) await manager.consumers.delete("S", (await pulled.info(true)).name);
    if (seen.length === 20) break;
  }
  assert.deepEqual(seen, Array.from({ length: 20 }, (_, at) => 2 * at + 1));
  const pushed = await js.consumers.getPushConsumer("S");
  const all = await pushed.consume();
  let count = 0;
  for await (const message of all) {
    assert.equal(message.seq, ++count);
    if (count === 40) break;
  }
}

export async function consumer_administration(nc, client) {
  const [manager, js] = await stream(nc, client, {});
  await publish(js, 3);
  await manager.consumers.add("S", { name: "c", ack_policy: "explicit", metadata: { owner: "me" } });
  const updated = await manager.consumers.update("S", "c", { max_ack_pending: 7 });
  assert.equal(updated.config.max_ack_pending, 7);
  assert.equal(updated.config.metadata.owner, "me");
  const paused = await manager.consumers.pause("S", "c", new Date(Date.now() + 60_000));
  assert.equal(paused.paused, true);
  assert.equal((await manager.consumers.info("S", "c")).paused, true);
  assert.equal((await manager.consumers.resume("S", "c")).paused, false);
  const consumer = await js.consumers.get("S", "c");
  await take(await consumer.fetch({ max_messages: 3 }), 3);
  await nc.flush();
  await manager.consumers.reset("S", "c", 2);
  assert.equal((await consumer.next()).seq, 2);
  assert.deepEqual((await manager.consumers.list("S").next()).map((each) => each.name), ["c"]);
}

export async function priority_groups(nc, client) {
  const [manager, js] = await stream(nc, client, {});
  await publish(js, 4);
  await manager.consumers.add("S", {
    durable_name: "c", ack_policy: "explicit",
    priority_policy: "overflow", priority_groups: ["g"],
  });
  const consumer = await js.consumers.get("S", "c");
  const waits = await consumer.fetch({ max_messages: 1, expires: 1000, group: "g", min_pending: 100 });
  for await (const message of waits) assert.fail(`${message.seq} was delivered below min_pending`);
  const served = await consumer.fetch({ max_messages: 1, expires: 5000, group: "g", min_pending: 2 });
  assert.equal((await take(served, 1))[0].seq, 1);
}

export async function schedules(nc, client) {
  const [manager, js] = await stream(nc, client, { allow_msg_schedules: true, allow_msg_ttl: true });
  await js.publish("s.plan", "later", { schedule: { specification: new Date(Date.now() + 1500), target: "s.out", ttl: "5m" } });
  const consumer = await js.consumers.get("S", { filter_subjects: ["s.out"] });
  const message = await consumer.next({ expires: 20_000 });
  assert.equal(message.string(), "later");
  assert.equal(message.headers.get("Nats-Scheduler"), "s.plan");
  assert.equal(message.headers.get("Nats-TTL"), "5m");
  await js.publish("s.tick", "t", { schedule: { specification: { every: "1s" }, target: "s.beat" } });
  const beats = await js.consumers.get("S", { filter_subjects: ["s.beat"] });
  assert.equal((await take(await beats.consume(), 2)).length, 2);
}

export async function direct_reads(nc, client) {
  const [manager, js] = await stream(nc, client, { allow_direct: true });
  await publish(js, 10);
  assert.equal((await manager.direct.getMessage("S", { seq: 3 })).string(), "3");
  assert.equal((await manager.direct.getMessage("S", { last_by_subj: "s.0" })).seq, 10);
  const batch = [];
  for await (const message of await manager.direct.getBatch("S", { seq: 2, batch: 4 })) batch.push(message.seq);
  assert.deepEqual(batch, [2, 3, 4, 5]);
  const last = [];
  const found = await manager.direct.getLastMessagesFor("S", { multi_last: ["s.0", "s.1"] });
  for await (const message of found) last.push(message.seq);
  assert.deepEqual(last, [9, 10]);
}
