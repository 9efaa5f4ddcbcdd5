// Clicks through the dashboard as a person would. Arguments: the browser, the address of the
// monitoring port, a folder for pictures. The server's users and streams are those of
// tests/tests/dashboard.rs.
import assert from "node:assert/strict";
import puppeteer from "puppeteer-core";

const [executablePath, address, pictures] = process.argv.slice(2);
const HOSTILE = '<img src=x onerror="document.title=1">';
const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox"] });

try {
  const page = await browser.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (line) => ["error", "warn"].includes(line.type()) && complaints.push(line.text()));
  page.on("request", (request) => {
    if (!request.url().startsWith(address + "/")) complaints.push("asks elsewhere: " + request.url());
  });
  const text = (selector) => page.$eval(selector, (found) => found.textContent);
  const shows = (selector, wanted) =>
    page.waitForFunction(
      (selector, wanted) => document.querySelector(selector)?.textContent.includes(wanted),
      { timeout: 30000 }, selector, wanted,
    ).catch(async () => assert.fail(`${selector} does not show ${wanted}: ${await text(selector)}`));
  const turnTo = async (name) => {
    await page.click(`nav a[href="#${name}"]`);
    await page.waitForFunction((name) => !document.getElementById(name).hidden, {}, name);
    assert.equal(await text("nav a[aria-current]"), await text(`nav a[href="#${name}"]`));
  };

  await page.authenticate({ username: "ann", password: "secret" });
  await page.setViewport({ width: 1280, height: 900 });
  await page.goto(address + "/dashboard");
  await shows("#state", "serving");
  await shows("#server", "mill");
  await shows("#tiles", "streams");
  // Three rounds: rates are there, and the graphs have lines.
  await page.waitForFunction(() => document.querySelectorAll("#graph-messages path").length >= 3, { timeout: 30000 });
  await shows("#attention", "Consumer C of S stands still with 3 pending: no pull request is waiting");

  await turnTo("streams");
  await shows("#stream-table", "S$G");
  await turnTo("consumers");
  await shows("#consumer-table .why .warn", "nobody asks for messages");
  await turnTo("connections");
  await shows("#connection-table", HOSTILE);
  await turnTo("accounts");
  await shows("#account-table", "$G");
  assert.equal(await page.$$eval("img", (found) => found.length), 0);

  // Publishing and peeking are what the user typed in may do, and nothing else.
  await turnTo("messages");
  const type = async (fields) => {
    for (const [id, value] of Object.entries(fields)) {
      await page.$eval("#" + id, (input) => (input.value = ""));
      await page.type("#" + id, value);
    }
  };
  await type({ user: "r", password: "wrong", subject: "s.new", payload: "from the page" });
  await page.click("#publish button");
  await shows("#published", "Authorization Violation");
  await type({ password: "r", subject: "forbidden" });
  await page.click("#publish button");
  await shows("#published", 'Permissions Violation for Publish to "forbidden"');
  await type({ subject: "s.new" });
  await page.click("#request");
  await page.click("#publish button");
  await shows("#published", '"seq":4');
  await type({ stream: "S", last: "s.new" });
  await page.click("#peek button");
  await shows("#peeked", "from the page");
  await type({ last: "", sequence: "99" });
  await page.click("#peek button");
  await shows("#peeked", "no message found");
  await turnTo("overview");
  await page.screenshot({ path: pictures + "/light.png" });

  const scheme = () => page.evaluate(() => getComputedStyle(document.documentElement).colorScheme);
  await page.click("#theme");
  const first = await scheme();
  await page.click("#theme");
  assert.notEqual(await scheme(), first);

  // On a phone nothing is wider than the screen.
  await page.setViewport({ width: 360, height: 740, isMobile: true, hasTouch: true });
  for (const name of ["overview", "streams", "consumers", "connections", "accounts", "messages"]) {
    await page.evaluate((name) => { location.hash = name; }, name);
    await page.waitForFunction((name) => !document.getElementById(name).hidden, {}, name);
    const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= screen, `${name} is ${wide} wide on a screen of ${screen}`);
    await page.screenshot({ path: `${pictures}/phone-${name}.png` });
  }
  assert.deepEqual(complaints, []);
} finally {
  await browser.close();
}
