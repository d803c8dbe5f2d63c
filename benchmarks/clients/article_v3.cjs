// The article's flow on the v3 client: the environment variable, else GetSecretValue; bootstrap stores the secret there.
// The article is about one secret; here each secret has a variable of its own.
const { GetSecretValueCommand, SecretsManagerClient } = require("@aws-sdk/client-secrets-manager");

const client = new SecretsManagerClient({});

async function getSecret(name) {
  const stored = process.env[`STORED_SECRET_${name}`];
  if (stored) return stored;
  const { SecretString } = await client.send(new GetSecretValueCommand({ SecretId: name }));
  return SecretString;
}

async function bootstrap(name) {
  process.env[`STORED_SECRET_${name}`] = await getSecret(name);
}

exports.statement = "await bootstrap(), then process.env";
exports.get = async function get(name) {
  await bootstrap(name);
  return process.env[`STORED_SECRET_${name}`];
};
