// Keys on a managed HSM, with @azure/keyvault-keys and DefaultAzureCredential. There is no client for administration here: the roles that
// this program needs are given with requests as that client would send them, with three slashes at the beginning of the path.
//
// E2E_HSM is an active managed HSM of this program's own, E2E_OTHER_HSM another with the same security domain, E2E_OBJECT the object id of
// their administrator.
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { before, test } from "node:test";
import { ClientSecretCredential, DefaultAzureCredential } from "@azure/identity";
import { CryptographyClient, KeyClient } from "@azure/keyvault-keys";

const hsm = process.env.E2E_HSM;
const other = process.env.E2E_OTHER_HSM;
const credential = new DefaultAzureCredential();
const keys = new KeyClient(hsm, credential);
const plaintext = Buffer.from("32 bytes of nobody else's affair");
const digest = createHash("sha256").update(plaintext).digest();

const roles = { cryptoOfficer: "515eb02d-2335-4d2d-92f2-b1cbdf9c3778", cryptoUser: "21dbd100-6940-42c2-9190-5d6cb909625b" };

async function send(method, url, path, body) {
  const scope = `https://${new URL(url).host.replace(/^[^.]+\./, "")}/.default`;
  const { token } = await credential.getToken(scope);
  const response = await fetch(`${url}///providers/Microsoft.Authorization/${path}?api-version=7.6`, {
    method,
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

before(async () => {
  for (const url of [hsm, other]) {
    for (const role of Object.values(roles)) {
      const roleDefinitionId = `Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/${role}`;
      const made = await send("PUT", url, `roleAssignments/${randomUUID()}`, {
        properties: { roleDefinitionId, principalId: process.env.E2E_OBJECT },
      });
      assert.equal(made.status, 201, JSON.stringify(made.body));
      assert.equal(made.body.properties.scope, "/");
    }
  }
});

async function refused(promise, status, code) {
  await assert.rejects(promise, (e) => {
    assert.equal(e.statusCode, status, e.message);
    assert.equal(e.code, code, e.message);
    return true;
  });
}

test("three slashes", async () => {
  const listed = await send("GET", hsm, "roleDefinitions");
  assert.equal(listed.status, 200);
  assert.equal(listed.body.value.filter((d) => d.properties.type === "AKVBuiltInRole").length, 9);
});

test("sign and verify", async () => {
  for (const [name, make, algorithm] of [
    ["rsa", () => keys.createRsaKey("rsa", { keySize: 2048, hsm: true }), "RS256"],
    ["rsa-soft", () => keys.createRsaKey("rsa-soft", { keySize: 2048 }), "PS256"],
    ["ec", () => keys.createEcKey("ec", { curve: "P-256", hsm: true }), "ES256"],
    ["koblitz", () => keys.createEcKey("koblitz", { curve: "P-256K", hsm: true }), "ES256K"],
  ]) {
    const key = await make();
    assert.match(key.keyType, /-HSM$/, name);
    const crypto = new CryptographyClient(key.id, credential);
    const { result } = await crypto.sign(algorithm, digest);
    assert.equal((await crypto.verify(algorithm, digest, result)).result, true, name);
    assert.equal((await crypto.verify(algorithm, Buffer.alloc(32), result)).result, false, name);
  }
});

test("encrypt, decrypt, wrap and unwrap", async () => {
  const rsa = new CryptographyClient(await keys.createRsaKey("rsa-encrypt", { keySize: 2048, hsm: true }), credential);
  const sealed = await rsa.encrypt({ algorithm: "RSA-OAEP-256", plaintext });
  assert.deepEqual(Buffer.from((await rsa.decrypt({ algorithm: "RSA-OAEP-256", ciphertext: sealed.result })).result), plaintext);

  const key = await keys.createOctKey("oct", { keySize: 256, hsm: true });
  assert.equal(key.keyType, "oct-HSM");
  const oct = new CryptographyClient(key.id, credential);
  const gcm = await oct.encrypt({ algorithm: "A256GCM", plaintext });
  const opened = await oct.decrypt({ algorithm: "A256GCM", ciphertext: gcm.result, iv: gcm.iv, authenticationTag: gcm.authenticationTag });
  assert.deepEqual(Buffer.from(opened.result), plaintext);
  const wrapped = await oct.wrapKey("A256KW", plaintext);
  assert.deepEqual(Buffer.from((await oct.unwrapKey("A256KW", wrapped.result)).result), plaintext);
});

test("random bytes", async () => {
  const first = await keys.getRandomBytes(32);
  assert.equal(first.length, 32);
  assert.notDeepEqual(await keys.getRandomBytes(32), first);
  await refused(keys.getRandomBytes(129), 400, "BadParameter");
});

test("delete, recover and purge", async () => {
  const made = await keys.createEcKey("lifetime", { hsm: true });
  await (await keys.beginDeleteKey("lifetime", { intervalInMs: 50 })).pollUntilDone();
  await refused(keys.getKey("lifetime"), 404, "KeyNotFound");
  await (await keys.beginRecoverDeletedKey("lifetime", { intervalInMs: 50 })).pollUntilDone();
  assert.equal((await keys.getKey("lifetime")).id, made.id);
  await (await keys.beginDeleteKey("lifetime", { intervalInMs: 50 })).pollUntilDone();
  await keys.purgeDeletedKey("lifetime");
  await refused(keys.getDeletedKey("lifetime"), 404, "KeyNotFound");
});

test("a key's backup goes to the HSM with the same security domain", async () => {
  const made = await keys.createEcKey("backup", { hsm: true });
  const { result } = await new CryptographyClient(made.id, credential).sign("ES256", digest);
  const blob = await keys.backupKey("backup");
  const there = new KeyClient(other, credential);
  const restored = await there.restoreKeyBackup(blob);
  assert.ok(restored.id.startsWith(other), restored.id);
  assert.equal((await new CryptographyClient(restored.id, credential).verify("ES256", digest, result)).result, true);
  await refused(there.restoreKeyBackup(blob), 409, "Conflict");
});

test("nobody else", async () => {
  const { AZURE_TENANT_ID, E2E_STRANGER_ID, E2E_STRANGER_SECRET } = process.env;
  const stranger = new KeyClient(hsm, new ClientSecretCredential(AZURE_TENANT_ID, E2E_STRANGER_ID, E2E_STRANGER_SECRET));
  await refused(stranger.createEcKey("nobodys", { hsm: true }), 403, "AccessDenied");
});
