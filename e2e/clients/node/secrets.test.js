// @azure/keyvault-secrets, as an application uses it: a URL and DefaultAzureCredential. Everything else comes from the
// environment. E2E_VAULT is a vault of this program's own that keeps what was deleted for seven days, E2E_OTHER_VAULT a
// second one, E2E_UNKNOWN_VAULT the address of none.

import assert from "node:assert/strict";
import { env } from "node:process";
import { test } from "node:test";
import { ClientSecretCredential, DefaultAzureCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";

const vault = env.E2E_VAULT;
const otherVault = env.E2E_OTHER_VAULT;
const credential = new DefaultAzureCredential();
const client = new SecretClient(vault, credential);
const other = new SecretClient(otherVault, credential);
const poll = { intervalInMs: 50 };

// refused checks status, code and inner code of what call is refused with, and returns the error.
async function refused(status, code, inner, call) {
  const error = await call().then(
    () => assert.fail(`the request was not refused with ${status} ${code}`),
    (e) => e,
  );
  assert.equal(error.name, "RestError", String(error.stack));
  assert.equal(error.statusCode, status, error.message);
  const wire = error.details.error;
  assert.deepEqual([wire.code, wire.innerError?.code], [code, inner], error.message);
  return error;
}

async function collect(iterable) {
  const all = [];
  for await (const item of iterable) all.push(item);
  return all;
}

test("round trip", async () => {
  const stored = await client.setSecret("round-trip", "first");
  assert.equal(stored.properties.id, `${vault}/secrets/round-trip/${stored.properties.version}`);
  assert.match(stored.properties.version, /^[0-9a-f]{32}$/);
  assert.equal(stored.properties.enabled, true);
  assert.equal(stored.properties.recoveryLevel, "CustomizedRecoverable+Purgeable");
  assert.equal(stored.properties.recoverableDays, 7);
  assert.ok(Math.abs(stored.properties.createdOn - Date.now()) < 60_000);
  const read = await client.getSecret("round-trip");
  assert.deepEqual([read.value, read.properties.id], ["first", stored.properties.id]);
});

test("properties", async () => {
  // This client writes times as 32-bit numbers, so it cannot go beyond January 2038.
  const expiresOn = new Date("2037-02-03T04:05:06Z");
  const notBefore = new Date("2001-02-03T04:05:06Z");
  const tags = { owner: "someone", Größe: "naïve", empty: "" };
  await client.setSecret("properties", "v", { contentType: "text/plain; charset=utf-8", tags, expiresOn, notBefore });
  const { properties } = await client.getSecret("properties");
  assert.equal(properties.contentType, "text/plain; charset=utf-8");
  assert.deepEqual({ ...properties.tags }, tags);
  assert.deepEqual([properties.expiresOn, properties.notBefore], [expiresOn, notBefore]);
});

test("outside its time it is still read", async () => {
  await client.setSecret("expired", "old", { expiresOn: new Date(Date.now() - 86400_000) });
  await client.setSecret("future", "new", { notBefore: new Date(Date.now() + 86400_000) });
  assert.equal((await client.getSecret("expired")).value, "old");
  assert.equal((await client.getSecret("future")).value, "new");
});

test("any text up to 25 kilobytes", async () => {
  const values = {
    unicode: 'naïve \u2603 \u{1f511} \u0000 \r\n\t "quoted" \\ </script> \u2028',
    empty: "",
    largest: "x".repeat(25600),
  };
  for (const [name, value] of Object.entries(values)) {
    await client.setSecret(`text-${name}`, value);
    assert.equal((await client.getSecret(`text-${name}`)).value, value, name);
  }
  await refused(400, "BadParameter", undefined, () => client.setSecret("text-too-large", "x".repeat(25601)));
});

test("versions", async () => {
  const stored = [];
  for (let n = 0; n < 3; n++) stored.push(await client.setSecret("versions", `value ${n}`));
  const listed = await collect(client.listPropertiesOfSecretVersions("versions"));
  assert.deepEqual(listed.map((p) => p.id).sort(), stored.map((s) => s.properties.id).sort());
  for (const [n, s] of stored.entries()) {
    const read = await client.getSecret("versions", { version: s.properties.version });
    assert.equal(read.value, `value ${n}`);
  }
  assert.equal((await client.getSecret("versions")).properties.id, stored[2].properties.id);
});

test("update and disable", async () => {
  const first = await client.setSecret("update", "v1", { tags: { a: "1" } });
  await client.setSecret("update", "v2");
  const { version } = first.properties;
  const changed = await client.updateSecretProperties("update", version, {
    contentType: "x/y",
    tags: { b: "2" },
    enabled: false,
  });
  assert.deepEqual([changed.version, changed.contentType, changed.enabled], [version, "x/y", false]);
  const error = await refused(403, "Forbidden", "SecretDisabled", () => client.getSecret("update", { version }));
  assert.match(error.message, /Operation get is not allowed on a disabled secret\./);
  assert.equal((await client.getSecret("update")).value, "v2");
  await client.updateSecretProperties("update", version, { enabled: true });
  const read = await client.getSecret("update", { version });
  assert.deepEqual([read.value, read.properties.contentType, { ...read.properties.tags }], ["v1", "x/y", { b: "2" }]);
});

test("paging", async () => {
  const names = Array.from({ length: 60 }, (_, n) => `page-${String(n).padStart(2, "0")}`);
  for (const name of names) await client.setSecret(name, "v", { tags: { n: name } });
  const pages = await collect(client.listPropertiesOfSecrets().byPage());
  assert.ok(pages.length >= 3 && pages.every((page) => page.length <= 25), `${pages.map((p) => p.length)}`);
  const listed = pages.flat();
  assert.equal(new Set(listed.map((p) => p.name)).size, listed.length);
  for (const name of names) {
    const p = listed.find((item) => item.name === name);
    assert.ok(p, `${name} is not listed`);
    assert.deepEqual([p.id, p.version, { ...p.tags }], [`${vault}/secrets/${name}`, undefined, { n: name }]);
  }

  const small = client.listPropertiesOfSecrets().byPage({ maxPageSize: 7 });
  const first = (await small.next()).value;
  assert.equal(first.length, 7);
  const rest = (await collect(small)).flat().map((p) => p.name);
  const seen = new Set([...first.map((p) => p.name), ...rest]);
  assert.equal(seen.size, first.length + rest.length);
  assert.ok(names.every((name) => seen.has(name)));
});

test("delete and recover", async () => {
  const versions = [];
  for (const value of ["one", "two"]) versions.push((await client.setSecret("recover", value)).properties.id);
  const deleting = await client.beginDeleteSecret("recover", poll);
  const deleted = await deleting.pollUntilDone();
  assert.equal(deleted.recoveryId, `${vault}/deletedsecrets/recover`);
  assert.equal(deleted.scheduledPurgeDate - deleted.deletedOn, 7 * 86400_000);
  await refused(404, "SecretNotFound", undefined, () => client.getSecret("recover"));
  await refused(409, "Conflict", "ObjectIsDeletedButRecoverable", () => client.setSecret("recover", "three"));
  assert.equal((await client.getDeletedSecret("recover")).name, "recover");
  assert.ok((await collect(client.listDeletedSecrets())).some((d) => d.name === "recover"));

  const recovering = await client.beginRecoverDeletedSecret("recover", poll);
  assert.equal((await recovering.pollUntilDone()).name, "recover");
  assert.equal((await client.getSecret("recover")).value, "two");
  const listed = await collect(client.listPropertiesOfSecretVersions("recover"));
  assert.deepEqual(listed.map((p) => p.id).sort(), versions.sort());
  await refused(404, "SecretNotFound", undefined, () => client.getDeletedSecret("recover"));
});

test("purge", async () => {
  const names = Array.from({ length: 12 }, (_, n) => `purge-${n}`);
  for (const name of names) {
    await client.setSecret(name, "v");
    await (await client.beginDeleteSecret(name, poll)).pollUntilDone();
  }
  const pages = await collect(client.listDeletedSecrets().byPage({ maxPageSize: 5 }));
  assert.ok(pages.every((page) => page.length <= 5));
  const listed = new Set(pages.flat().map((d) => d.name));
  assert.ok(names.every((name) => listed.has(name)));
  await client.purgeDeletedSecret("purge-0");
  await refused(404, "SecretNotFound", undefined, () => client.getDeletedSecret("purge-0"));
  await client.setSecret("purge-0", "again");
  assert.equal((await collect(client.listPropertiesOfSecretVersions("purge-0"))).length, 1);
});

test("backup and restore", async () => {
  const stored = [];
  for (let n = 0; n < 2; n++) stored.push(await client.setSecret("backup", `value ${n}`));
  const blob = await client.backupSecret("backup");
  assert.equal((await refused(409, "Conflict", undefined, () => client.restoreSecretBackup(blob))).statusCode, 409);
  await (await client.beginDeleteSecret("backup", poll)).pollUntilDone();
  await client.purgeDeletedSecret("backup");
  const altered = Uint8Array.from(blob);
  altered[altered.length >> 1] ^= 1;
  await refused(400, "BadParameter", undefined, () => client.restoreSecretBackup(altered));

  assert.equal((await client.restoreSecretBackup(blob)).id, stored[1].properties.id);
  for (const [n, s] of stored.entries()) {
    const read = await client.getSecret("backup", { version: s.properties.version });
    assert.deepEqual([read.properties.id, read.value], [s.properties.id, `value ${n}`]);
    assert.deepEqual(read.properties.createdOn, s.properties.createdOn);
  }
  const elsewhere = await other.restoreSecretBackup(blob);
  assert.equal(elsewhere.id, `${otherVault}/secrets/backup/${stored[1].properties.version}`);
  assert.equal((await other.getSecret("backup")).value, "value 1");
});

test("missing", async () => {
  const known = (await client.setSecret("known", "v")).properties.version;
  const error = await refused(404, "SecretNotFound", undefined, () => client.getSecret("never-set"));
  assert.equal(error.code, "SecretNotFound");
  assert.match(error.message, /was not found in this key vault/);
  for (const call of [
    () => client.getSecret("known", { version: "0".repeat(32) }),
    () => client.updateSecretProperties("never-set", "", {}),
    () => client.beginDeleteSecret("never-set", poll),
    () => client.beginRecoverDeletedSecret("never-set", poll),
    () => client.backupSecret("never-set"),
    () => other.getSecret("known"),
    () => other.getSecret("known", { version: known }),
  ]) {
    await refused(404, "SecretNotFound", undefined, call);
  }
});

test("unknown vault", async () => {
  const unknown = new SecretClient(env.E2E_UNKNOWN_VAULT, credential);
  await assert.rejects(unknown.getSecret("any"), { statusCode: 404 });
});

test("principal without rights", async () => {
  await client.setSecret("not-yours", "v");
  const stranger = new SecretClient(
    vault,
    new ClientSecretCredential(env.AZURE_TENANT_ID, env.E2E_STRANGER_ID, env.E2E_STRANGER_SECRET),
  );
  for (const call of [
    () => stranger.getSecret("not-yours"),
    () => stranger.setSecret("not-yours", "mine"),
    () => stranger.backupSecret("not-yours"),
  ]) {
    const error = await refused(403, "Forbidden", "ForbiddenByRbac", call);
    assert.ok(error.message.includes(env.E2E_STRANGER_ID), error.message);
  }
  await assert.rejects(collect(stranger.listPropertiesOfSecrets()), { statusCode: 403 });
  assert.equal((await client.getSecret("not-yours")).value, "v");
});
