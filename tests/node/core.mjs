// Core messaging as the official Node client does it.

import assert from "node:assert/strict";

export async function publish_and_subscribe(nc, { headers }) {
  const all = nc.subscribe("a.>", { max: 3 });
  const group = ["one", "two"].map(() => nc.subscribe("a.*", { queue: "workers" }));
  const marked = headers();
  marked.set("Kind", "test");
  nc.publish("a.1", "1");
  nc.publish("a.2", "2", { headers: marked });
  nc.publish("a.3");
  const heard = [];
  for await (const message of all) {
    heard.push([message.subject, message.string(), message.headers?.get("Kind") ?? ""]);
  }
  assert.deepEqual(heard, [["a.1", "1", ""], ["a.2", "2", "test"], ["a.3", "", ""]]);
  await nc.flush();
  assert.equal(group.reduce((sum, each) => sum + each.getReceived(), 0), 3);
}

export async function request_and_reply(nc, { RequestStrategy }) {
  nc.subscribe("double", {
    callback: (_, message) => message.respond(String(2 * Number(message.string()))),
  });
  const answers = await Promise.all([1, 2, 3].map((n) => nc.request("double", String(n))));
  assert.deepEqual(answers.map((answer) => answer.string()), ["2", "4", "6"]);
  await assert.rejects(nc.request("nobody"), /no responders/);
  const many = await nc.requestMany("double", "21", {
    strategy: RequestStrategy?.Count ?? "count",
    maxMessages: 1,
  });
  for await (const answer of many) assert.equal(answer.string(), "42");
  assert.ok((await nc.rtt()) >= 0);
}
