// The article's flow on aws-sdk v2: what the environment holds, else GetSecretValue; bootstrap stores it.
// It is for one secret; here each secret has a variable of its own.
const AWS = require("aws-sdk");

// v2 knows no variable for the endpoint.
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

exports.get = async function get(name) {
  await bootstrap(name);
  return process.env[`STORED_SECRET_${name}`];
};
