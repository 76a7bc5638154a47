// Whatever credential the environment offers opens the vault.

import assert from "node:assert/strict";
import { env } from "node:process";
import { test } from "node:test";
import { DefaultAzureCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";

test(`credential: ${env.E2E_CREDENTIAL}`, async () => {
  const credential = new DefaultAzureCredential();
  const client = new SecretClient(env.E2E_VAULT, credential);
  const stored = await client.setSecret(env.E2E_SECRET_NAME, "from JavaScript");
  assert.equal((await client.getSecret(env.E2E_SECRET_NAME)).properties.id, stored.properties.id);
});
