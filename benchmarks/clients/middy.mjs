// @middy/secrets-manager as in its documentation: the secrets are in the context before the handler runs.
import middy from "@middy/core";
import secretsManager from "@middy/secrets-manager";

const cacheExpiry = Number(process.env.BENCH_TTL) * 1000;
const handlers = new Map();

function handlerFor(names) {
  const key = names.join();
  if (!handlers.has(key)) {
    const fetchData = Object.fromEntries(names.map((name) => [name, name]));
    handlers.set(
      key,
      middy(async (event, context) => context).use(
        secretsManager({ fetchData, cacheKey: key, cacheExpiry, setToContext: true }),
      ),
    );
  }
  return handlers.get(key);
}

const context = () => ({ getRemainingTimeInMillis: () => 30_000 });

export const statement = "a handler that middy wraps";
export const get = async (name) => (await handlerFor([name])({}, context()))[name];
export const getMany = (names) => handlerFor(names)({}, context());
