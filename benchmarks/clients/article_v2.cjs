// The article's flow on aws-sdk v2: the environment variable, else GetSecretValue; bootstrap stores the secret there.
// The article is about one secret; here each secret has a variable of its own.
const AWS = require("aws-sdk");

// v2 reads no environment variable for the endpoint.
const client = new AWS.SecretsManager({ endpoint: process.env.AWS_ENDPOINT_URL_SECRETS_MANAGER });

async function getSecret(name) {
  const stored = process.env[`STORED_SECRET_${name}`];
  if (stored) return stored;
  const { SecretString } = await client.getSecretValue({ SecretId: name }).promise();
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
