// What is measured in Node: the cold start, warm hits, and calls. node.cjs TASK CLIENT [ARGUMENT...]
const { writeSync } = require("node:fs");
const { performance } = require("node:perf_hooks");

const [task, file, ...rest] = process.argv.slice(2);
const NAME = "secret-0";
const names = (count) => Array.from({ length: count }, (_, number) => `secret-${number}`);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function nanoseconds(get, count) {
  const began = performance.now();
  for (let number = 0; number < count; number++) await get(NAME);
  return ((performance.now() - began) * 1e6) / count;
}

const tasks = {
  async cold({ get }) {
    await get(NAME);
    writeSync(1, "!");
  },

  async hits({ get }, [rounds, milliseconds]) {
    const map = new Map([[NAME, "value"]]);
    const bare = async (key) => map.get(key);
    const found = { bare: [], get: [] };
    const candidates = { bare, get };
    const counts = {};
    for (const [name, candidate] of Object.entries(candidates)) {
      await nanoseconds(candidate, 5000);
      counts[name] = Math.max(100, Math.round((milliseconds * 1e6) / (await nanoseconds(candidate, 5000))));
    }
    for (let round = 0; round < rounds; round++)
      for (const [name, candidate] of Object.entries(candidates))
        found[name].push(await nanoseconds(candidate, counts[name]));
    console.log(JSON.stringify(found));
  },

  async calls(client, [scenario, count, ttl]) {
    const { get, getMany } = client;
    if (scenario === "first") await get(NAME);
    if (scenario === "expired") {
      await get(NAME);
      await sleep(Number(ttl) + 0.3);
      await get(NAME);
    }
    if (scenario === "many") {
      if (getMany) await getMany(names(Number(count)));
      else for (const name of names(Number(count))) await get(name);
    }
    if (scenario === "at once") await Promise.all(names(Number(count)).map(() => get(NAME)));
    if (scenario === "invocations") for (const _ of names(Number(count))) await get(NAME);
    console.log(JSON.stringify({ count: Number(count) }));
  },
};

(async () => {
  const client = file.endsWith(".cjs") ? require(file) : await import(file);
  await tasks[task](client, rest);
  // middy sets a timer for the expiry, which would keep the process alive until then.
  process.exit(0);
})();
