// The official client for browsers, in a browser: publishes, subscribes, asks, and works with a stream.
// Arguments: the browser, the address of a page, the WebSocket's address.
import assert from "node:assert/strict";
import { build } from "esbuild";
import puppeteer from "puppeteer-core";

const [executablePath, address, socket] = process.argv.slice(2);
const bundle = await build({
  stdin: { contents: 'export * from "@nats-io/nats-core"', resolveDir: process.cwd() },
  bundle: true, write: false, format: "iife", globalName: "nats", platform: "browser",
});
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });

try {
  const page = await browser.newPage();
  await page.goto(address + "/");
  await page.addScriptTag({ content: bundle.outputFiles[0].text });
  const seen = await page.evaluate(async (servers) => {
    const seen = {};
    const refused = await nats.wsconnect({ servers, user: "a", pass: "wrong", reconnect: false }).catch((error) => error.name);
    seen.refused = refused;
    const nc = await nats.wsconnect({ servers, user: "a", pass: "a", name: "browser" });
    seen.server = nc.getServer();

    // A thousand messages come in order, one with headers and a payload that takes many frames.
    const received = [];
    const subscription = nc.subscribe("browser.>", { max: 1001 });
    const reading = (async () => { for await (const message of subscription) received.push(message); })();
    for (let number = 0; number < 1000; number++) nc.publish("browser.number", String(number));
    const headers = nats.headers();
    headers.set("Who", "a browser");
    nc.publish("browser.large", "x".repeat(200000), { headers });
    await reading;
    seen.inOrder = received.slice(0, 1000).every((message, number) => message.string() === String(number));
    seen.large = [received[1000].data.length, received[1000].headers.get("Who")];

    nc.subscribe("ask", { callback: (_, message) => message.respond("answer to " + message.string()) });
    seen.answer = (await nc.request("ask", "me")).string();
    seen.nobody = await nc.request("nobody", "").catch((error) => error.isNoResponders?.());

    const api = async (call, body) => (await nc.request("$JS.API." + call, JSON.stringify(body))).json();
    await api("STREAM.CREATE.W", { name: "W", subjects: ["w.>"] });
    seen.acknowledged = (await nc.request("w.1", "stored")).json().seq;
    await api("CONSUMER.DURABLE.CREATE.W.C", { stream_name: "W", config: { durable_name: "C", ack_policy: "explicit" } });
    // What a consumer delivers has the subject of the stream: an inbox of its own, not that of requests.
    const reply = nats.createInbox();
    const pulled = nc.subscribe(reply, { max: 1 });
    nc.publish("$JS.API.CONSUMER.MSG.NEXT.W.C", "1", { reply });
    const message = (await pulled[Symbol.asyncIterator]().next()).value;
    seen.consumed = message.string();
    await nc.request(message.reply, "+ACK");
    seen.left = (await api("CONSUMER.INFO.W.C", {})).num_ack_pending;
    await nc.drain();
    return seen;
  }, socket);
  assert.deepEqual(seen, {
    refused: "AuthorizationError",
    server: socket.replace("ws://", ""),
    inOrder: true,
    large: [200000, "a browser"],
    answer: "answer to me",
    nobody: true,
    acknowledged: 1,
    consumed: "stored",
    left: 0,
  });
} finally {
  await browser.close();
}
