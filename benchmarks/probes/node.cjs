// Measures a client in Node: its cold start, warm reads or calls. Usage: node.cjs TASK CLIENT [ARGUMENT...]
const { writeSync } = require("node:fs");

const [task, file, ...rest] = process.argv.slice(2);
const NAME = "secret-0";
const names = (count) => Array.from({ length: count }, (_, number) => `secret-${number}`);
const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function nanoseconds(get, count) {
  // CPU time, as in probes/hits.py.
  const began = process.cpuUsage();
  for (let number = 0; number < count; number++) await get(NAME);
  const { user, system } = process.cpuUsage(began);
  return ((user + system) * 1000) / count;
}

const tasks = {
  async cold({ get }) {
    await get(NAME);
    writeSync(1, "!");
  },

  // As probes/hits.py: pairs with a bare coroutine, the two swapped every other round.
  async hits({ get, getMany, statement }, [rounds, milliseconds]) {
    const map = new Map([[NAME, "value"]]);
    const bare = async (key) => map.get(key);
    const three = names(3);
    const candidates = { "one secret": get };
    if (getMany) candidates["three secrets"] = () => getMany(three);
    const counted = async (candidate) => {
      await nanoseconds(candidate, 5000);
      return Math.max(100, Math.round((milliseconds * 1e6) / (await nanoseconds(candidate, 5000))));
    };
    const bareCount = await counted(bare);
    const found = {};
    for (const [what, candidate] of Object.entries(candidates)) {
      const count = await counted(candidate);
      const pair = { ns: [], bare: [] };
      for (let round = 0; round < rounds; round++) {
        if (round % 2) pair.ns.push(await nanoseconds(candidate, count));
        pair.bare.push(await nanoseconds(bare, bareCount));
        if (!(round % 2)) pair.ns.push(await nanoseconds(candidate, count));
      }
      found[what] = { [statement]: pair };
    }
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
