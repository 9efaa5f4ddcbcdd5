// Runs one function of a scenario file against a server: run.mjs URL FILE FUNCTION.
//
// The client library is the official one, unmodified, from the folder CLIENT_PACKAGES; a failed
// assertion ends with its stack and exit code 1.

import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const PATIENCE_MS = 60_000;
const [url, file, name] = process.argv.slice(2);
const packages = createRequire(path.join(process.env.CLIENT_PACKAGES, "scenario.js"));
const client = {
  ...packages("@nats-io/transport-node"),
  ...packages("@nats-io/jetstream"),
  ...packages("@nats-io/kv"),
  ...packages("@nats-io/obj"),
  startFastIngest: packages("@nats-io/jetstream/internal").startFastIngest,
};

const scenario = await import(pathToFileURL(file));
setTimeout(() => {
  console.error(`${name} takes too long`);
  process.exit(2);
}, PATIENCE_MS).unref();
const connection = await client.connect({ servers: url });
await scenario[name](connection, client);
await connection.close();
