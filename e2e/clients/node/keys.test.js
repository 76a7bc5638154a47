// @azure/keyvault-keys, as an application uses it: a URL and DefaultAzureCredential. CryptographyClient does some things
// locally and leaves the rest to the vault. So each algorithm is tried in all mixtures: the client alone, the server
// alone (see remote), and Node's own cryptography. The variables are those of secrets.test.js; E2E_OTHER_VAULT holds no
// keys of the types with -HSM.

import assert from "node:assert/strict";
import * as crypto from "node:crypto";
import { env } from "node:process";
import { test } from "node:test";
import { ClientSecretCredential, DefaultAzureCredential } from "@azure/identity";
import { CryptographyClient, KeyClient } from "@azure/keyvault-keys";

// Known to the suite, which looks for them in what the server leaves behind.
const importedKey = Buffer.from("strongroom-e2e-imported-oct-key!");
const plaintext = Buffer.from("32 bytes of nobody else's affair");

const vault = env.E2E_VAULT;
const otherVault = env.E2E_OTHER_VAULT;
const credential = new DefaultAzureCredential();
const client = new KeyClient(vault, credential);
const other = new KeyClient(otherVault, credential);
const poll = { intervalInMs: 50 };

// local is a client that does what it can by itself.
const local = (key) => new CryptographyClient(key, credential);

// remote is a client that leaves everything to the server, since it knows of the key nothing but its name.
const remote = (key) => new CryptographyClient({ name: key.name, id: key.id, properties: key.properties }, credential);

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

const equalBytes = (got, want) => assert.equal(Buffer.from(got).toString("hex"), Buffer.from(want).toString("hex"));
const opens = (got) => assert.equal(Buffer.from(got.result).toString(), plaintext.toString());
const digest = (bits) => crypto.createHash(`sha${bits}`).update(plaintext).digest();
const base64url = (bytes) => Buffer.from(bytes).toString("base64url");

function flipped(bytes) {
  const altered = Buffer.from(bytes);
  altered[altered.length - 1] ^= 1;
  return altered;
}

// members are those of a JWK that are bytes in the client.
const members = ["n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y", "k"];

// clientKey turns Node's form of a key into the client's, nodeKey the client's into Node's.
function clientKey(key, keyOps) {
  const jwk = { ...key.export({ format: "jwk" }), keyOps };
  for (const m of members) if (jwk[m]) jwk[m] = Buffer.from(jwk[m], "base64url");
  if (jwk.crv === "secp256k1") jwk.crv = "P-256K";
  return jwk;
}

function nodeKey({ kty, crv, n, e, x, y }) {
  const jwk = { kty: kty.replace("-HSM", ""), crv: crv === "P-256K" ? "secp256k1" : crv };
  for (const [m, value] of Object.entries({ n, e, x, y })) if (value) jwk[m] = base64url(value);
  return crypto.createPublicKey({ key: jwk, format: "jwk" });
}

function onlyPublic(key) {
  for (const m of ["d", "dp", "dq", "qi", "p", "q", "k", "t"]) assert.equal(key.key[m], undefined, m);
}

const rsaPaddings = {
  RSA1_5: { padding: crypto.constants.RSA_PKCS1_PADDING },
  "RSA-OAEP": { padding: crypto.constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha1" },
  "RSA-OAEP-256": { padding: crypto.constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" },
};

// encryption and wrapping in the same form: how to seal and how to open.
const pairs = (c) => [
  [(alg, p) => c.encrypt(alg, p), (alg, p) => c.decrypt(alg, p)],
  [(alg, p) => c.wrapKey(alg, p), (alg, p) => c.unwrapKey(alg, p)],
];

// checkRSA goes through all algorithms. privateKey is the key as it was before it was imported.
async function checkRSA(key, privateKey) {
  const publicKey = nodeKey(key.key);
  const [here, there] = [local(key), remote(key)];
  for (const [alg, padding] of Object.entries(rsaPaddings)) {
    const sealedHere = crypto.publicEncrypt({ key: publicKey, ...padding }, plaintext);
    for (const [i, [seal, open]] of pairs(there).entries()) {
      const sealedThere = await seal(alg, plaintext);
      assert.equal(sealedThere.keyID, key.id);
      const byClient = await pairs(here)[i][0](alg, plaintext);
      for (const ciphertext of [sealedHere, sealedThere.result, byClient.result]) opens(await open(alg, ciphertext));
      // Node 20 does not decrypt RSA1_5 (CVE-2023-46809).
      if (privateKey && alg !== "RSA1_5") {
        equalBytes(crypto.privateDecrypt({ key: privateKey, ...padding }, Buffer.from(sealedThere.result)), plaintext);
      }
      await refused(400, "BadParameter", undefined, () => open(alg, sealedThere.result.subarray(1)));
    }
  }
  for (const kind of ["RS", "PS"]) {
    const padding = kind === "RS" ? crypto.constants.RSA_PKCS1_PADDING : crypto.constants.RSA_PKCS1_PSS_PADDING;
    for (const bits of [256, 384, 512]) {
      const [alg, options] = [`${kind}${bits}`, { padding, saltLength: bits / 8 }]; // RFC 7518, 3.5
      const verify = (s) => crypto.verify(`sha${bits}`, plaintext, { key: publicKey, ...options }, s);
      const signature = await checkSignature(there, alg, bits, verify);
      // The client's own verification takes all signatures for PKCS#1 v1.5.
      const verified = await here.verifyData(alg, plaintext, signature);
      assert.equal(verified.result, kind === "RS", alg);
      assert.equal((await here.verifyData(alg, flipped(plaintext), signature)).result, false);
      if (privateKey) {
        const ours = crypto.sign(`sha${bits}`, plaintext, { key: privateKey, ...options });
        assert.equal((await there.verify(alg, digest(bits), ours)).result, true);
        assert.equal(ours.equals(Buffer.from(signature)), kind === "RS");
      }
    }
  }
}

// checkSignature returns the server's signature, which it and Node accept, unless it is altered.
async function checkSignature(there, alg, bits, verify) {
  const { result: signature, keyID } = await there.sign(alg, digest(bits));
  assert.equal(keyID, there.keyID);
  const byData = await there.signData(alg, plaintext);
  for (const s of [signature, byData.result]) {
    assert.ok(verify(s), alg);
    assert.equal((await there.verify(alg, digest(bits), s)).result, true);
    assert.equal((await there.verifyData(alg, plaintext, s)).result, true);
  }
  assert.equal((await there.verify(alg, flipped(digest(bits)), signature)).result, false);
  assert.equal((await there.verify(alg, digest(bits), flipped(signature))).result, false);
  await refused(400, "BadParameter", undefined, () => there.sign(alg, digest(bits).subarray(1)));
  return signature;
}

for (const [keySize, hsm] of [[2048, false], [3072, true], [4096, false]]) {
  test(`RSA ${keySize}`, async () => {
    const key = await client.createRsaKey(`rsa-${keySize}`, { keySize, hsm });
    assert.equal(key.keyType, hsm ? "RSA-HSM" : "RSA");
    const { modulusLength, publicExponent } = nodeKey(key.key).asymmetricKeyDetails;
    assert.deepEqual([modulusLength, publicExponent], [keySize, 65537n]);
    await checkRSA(key);
  });
}

test("RSA, imported", async () => {
  const { privateKey } = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = clientKey(privateKey);
  const key = await client.importKey("rsa-imported", jwk, { hardwareProtected: true });
  assert.equal(key.keyType, "RSA-HSM");
  equalBytes(key.key.n, jwk.n);
  onlyPublic(key);
  await checkRSA(key, privateKey);
  // The client with nothing but a JWK.
  const alone = new CryptographyClient(clientKey(crypto.createPublicKey(privateKey), ["encrypt", "wrapKey", "verify"]));
  for (const alg of ["RSA1_5", "RSA-OAEP"]) {
    opens(await remote(key).decrypt(alg, (await alone.encrypt(alg, plaintext)).result));
    opens(await remote(key).unwrapKey(alg, (await alone.wrapKey(alg, plaintext)).result));
  }
  const { result } = await remote(key).signData("RS512", plaintext);
  assert.equal((await alone.verifyData("RS512", plaintext, result)).result, true);
});

const curves = {
  "P-256": { alg: "ES256", bits: 256, length: 32 },
  "P-256K": { alg: "ES256K", bits: 256, length: 32 },
  "P-384": { alg: "ES384", bits: 384, length: 48 },
  "P-521": { alg: "ES512", bits: 512, length: 66 },
};

async function checkEC(key, curve, privateKey) {
  const { alg, bits, length } = curves[curve];
  assert.deepEqual([key.key.crv, key.key.x.length, key.key.y.length], [curve, length, length]);
  const there = remote(key);
  const form = { dsaEncoding: "ieee-p1363" };
  const verify = (s) => crypto.verify(`sha${bits}`, plaintext, { key: nodeKey(key.key), ...form }, s);
  const signature = await checkSignature(there, alg, bits, verify);
  assert.equal(signature.length, 2 * length);
  if (privateKey) {
    const ours = crypto.sign(`sha${bits}`, plaintext, { key: privateKey, ...form });
    assert.equal((await there.verify(alg, digest(bits), ours)).result, true);
  }
  const wrong = alg === "ES256" ? "ES384" : "ES256";
  await refused(400, "BadParameter", undefined, () => there.sign(wrong, digest(bits)));
}

for (const curve of Object.keys(curves)) {
  test(`EC ${curve}`, async () => {
    for (const hsm of [false, true]) {
      const key = await client.createEcKey(`ec-${curve}-${hsm}`, { curve, hsm });
      assert.equal(key.keyType, hsm ? "EC-HSM" : "EC");
      await checkEC(key, curve);
    }
    const namedCurve = curve === "P-256K" ? "secp256k1" : curve;
    const { privateKey } = crypto.generateKeyPairSync("ec", { namedCurve });
    const jwk = clientKey(privateKey);
    const imported = await client.importKey(`ec-imported-${curve}`, jwk);
    equalBytes(imported.key.x, jwk.x);
    onlyPublic(imported);
    await checkEC(imported, curve, privateKey);
  });
}

async function importOct(name, k, keyOps) {
  const key = await client.importKey(name, { kty: "oct-HSM", k, keyOps }, { hardwareProtected: true });
  assert.deepEqual([key.keyType, key.keyOperations], ["oct-HSM", keyOps]);
  onlyPublic(key);
  return key;
}

async function checkGCM(there, algorithm, raw) {
  const additionalAuthenticatedData = Buffer.from("header");
  const sealed = await there.encrypt({ algorithm, plaintext, additionalAuthenticatedData });
  assert.deepEqual([sealed.iv.length, sealed.authenticationTag.length], [12, 16]);
  equalBytes(sealed.additionalAuthenticatedData, additionalAuthenticatedData);
  const name = `aes-${8 * raw.length}-gcm`;
  const decipher = crypto.createDecipheriv(name, raw, sealed.iv);
  decipher.setAAD(additionalAuthenticatedData).setAuthTag(sealed.authenticationTag);
  equalBytes(Buffer.concat([decipher.update(sealed.result), decipher.final()]), plaintext);

  const iv = crypto.randomBytes(12);
  const cipher = crypto.createCipheriv(name, raw, iv);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  const authenticationTag = cipher.getAuthTag();
  opens(await there.decrypt({ algorithm, ciphertext, iv, authenticationTag }));
  for (const altered of [
    { ciphertext: flipped(ciphertext) },
    { authenticationTag: flipped(authenticationTag) },
    { additionalAuthenticatedData },
  ]) {
    const parameters = { algorithm, ciphertext, iv, authenticationTag, ...altered };
    await refused(400, "BadParameter", undefined, () => there.decrypt(parameters));
  }
}

async function checkCBC(there, algorithm, raw, padded) {
  const iv = crypto.randomBytes(16);
  const cipher = crypto.createCipheriv(`aes-${8 * raw.length}-cbc`, raw, iv).setAutoPadding(padded);
  const want = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  equalBytes((await there.encrypt({ algorithm, plaintext, iv })).result, want);
  opens(await there.decrypt({ algorithm, ciphertext: want, iv }));
  if (padded) {
    const alone = new CryptographyClient({ kty: "oct", k: raw });
    equalBytes((await alone.encrypt({ algorithm, plaintext, iv })).result, want);
  } else {
    await refused(400, "BadParameter", undefined, () => there.encrypt({ algorithm, plaintext: plaintext.subarray(1), iv }));
  }
}

// The initial values of RFC 3394 and RFC 5649, which Node wants to be told.
const wrapIV = Buffer.alloc(8, 0xa6);
const wrapPadIV = Buffer.from("a65959a6", "hex");

async function checkWrap(there, alg, cipherName, iv, raw, message) {
  const cipher = crypto.createCipheriv(cipherName, raw, iv);
  const want = Buffer.concat([cipher.update(message), cipher.final()]);
  equalBytes((await there.wrapKey(alg, message)).result, want);
  equalBytes((await there.unwrapKey(alg, want)).result, message);
  await refused(400, "BadParameter", undefined, () => there.unwrapKey(alg, flipped(want)));
}

for (const bits of [128, 192, 256]) {
  test(`oct ${bits}`, async () => {
    const raw = importedKey.subarray(0, bits / 8);
    const key = await importOct(`oct-${bits}`, raw, ["encrypt", "decrypt", "wrapKey", "unwrapKey"]);
    const there = remote(key);
    await checkGCM(there, `A${bits}GCM`, raw);
    await checkCBC(there, `A${bits}CBC`, raw, false);
    await checkCBC(there, `A${bits}CBCPAD`, raw, true);
    for (const alg of [`A${bits}KW`, "CKM_AES_KEY_WRAP"]) {
      await checkWrap(there, alg, `id-aes${bits}-wrap`, wrapIV, raw, plaintext);
    }
    for (const size of [1, 8, 20, 32]) {
      await checkWrap(there, "CKM_AES_KEY_WRAP_PAD", `id-aes${bits}-wrap-pad`, wrapPadIV, raw, plaintext.subarray(0, size));
    }

    const made = await client.createOctKey(`oct-made-${bits}`, { keySize: bits, hsm: true });
    onlyPublic(made);
    const sealed = await local(made).encrypt({ algorithm: `A${bits}GCM`, plaintext });
    const { result: ciphertext, iv, authenticationTag } = sealed;
    opens(await local(made).decrypt({ algorithm: `A${bits}GCM`, ciphertext, iv, authenticationTag }));
    const wrapped = await local(made).wrapKey(`A${bits}KW`, plaintext);
    opens(await local(made).unwrapKey(`A${bits}KW`, wrapped.result));
  });
}

test("HMAC", async () => {
  for (const bits of [256, 384, 512]) {
    const raw = crypto.randomBytes(bits / 8);
    const there = remote(await importOct(`hmac-${bits}`, raw, ["sign", "verify"]));
    const want = crypto.createHmac(`sha${bits}`, raw).update(digest(bits)).digest();
    equalBytes((await there.sign(`HS${bits}`, digest(bits))).result, want);
    assert.equal((await there.verify(`HS${bits}`, digest(bits), want)).result, true);
    assert.equal((await there.verify(`HS${bits}`, digest(bits), flipped(want))).result, false);
  }
});

test("cryptography client of the key client", async () => {
  const first = await client.createRsaKey("shared", {});
  const sealed = await client.getCryptographyClient("shared").encrypt("RSA-OAEP-256", plaintext);
  assert.equal(sealed.keyID, first.id);
  await client.rotateKey("shared");
  const old = client.getCryptographyClient("shared", { keyVersion: first.properties.version });
  opens(await old.decrypt("RSA-OAEP-256", sealed.result));
  const latest = client.getCryptographyClient("shared");
  await refused(400, "BadParameter", undefined, () => latest.decrypt("RSA-OAEP-256", sealed.result));
});

test("what a key may not do", async () => {
  const day = 86400_000;
  for (const [name, options, inner] of [
    ["disabled", { enabled: false }, "KeyDisabled"],
    ["expired", { expiresOn: new Date(Date.now() - day) }, "KeyExpired"],
    ["not-yet-valid", { notBefore: new Date(Date.now() + day) }, "KeyNotYetValid"],
    ["verify-only", { keyOps: ["verify"] }, "KeyOperationForbidden"],
  ]) {
    const { id } = await client.createEcKey(name, options);
    // A client that knows the key's times and operations asks nobody.
    const there = remote({ name, id, properties: {} });
    const error = await refused(403, "Forbidden", inner, () => there.sign("ES256", digest(256)));
    assert.match(error.message, /Operation sign is not /);
  }
});

// A policy for releases, and how the service writes it.
const condition = '{"claim":"x-ms-sgx-is-debuggable","equals":"false"}';
const policyText = `{"version":"1.0.0","anyOf":[{"authority":"https://attest.example","allOf":[${condition}]}]}`;
const canonicalPolicy = `{"anyOf":[{"allOf":[${condition}],"authority":"https://attest.example/"}],"version":"1.0.0"}`;
const releasePolicy = { encodedPolicy: Buffer.from(policyText) };

test("create with all options", async () => {
  // This client writes times as 32-bit numbers, so it cannot go beyond January 2038.
  const expiresOn = new Date("2037-02-03T04:05:06Z");
  const notBefore = new Date("2001-02-03T04:05:06Z");
  const tags = { owner: "someone", Größe: "naïve", empty: "" };
  const made = await client.createKey("All-Options", "EC-HSM", {
    curve: "P-384", keyOps: ["sign"], enabled: false, tags, expiresOn, notBefore, exportable: true, releasePolicy,
  });
  const key = await client.getKey("all-options");
  const { properties: p } = key;
  assert.deepEqual([key.id, key.name], [made.id, "All-Options"]);
  assert.equal(key.id, `${vault}/keys/All-Options/${p.version}`);
  assert.match(p.version, /^[0-9a-f]{32}$/);
  assert.deepEqual([key.keyType, key.key.crv, key.keyOperations], ["EC-HSM", "P-384", ["sign"]]);
  assert.deepEqual([p.enabled, p.exportable, p.hsmPlatform, { ...p.tags }], [false, true, "0", tags]);
  assert.deepEqual([p.expiresOn, p.notBefore], [expiresOn, notBefore]);
  assert.deepEqual([p.recoveryLevel, p.recoverableDays], ["CustomizedRecoverable+Purgeable", 7]);
  assert.ok(Math.abs(p.createdOn - Date.now()) < 60_000);
  assert.equal(Buffer.from(p.releasePolicy.encodedPolicy).toString(), canonicalPolicy);

  const plain = (await client.createEcKey("plain")).properties;
  assert.equal(plain.exportable, false);
  for (const member of ["releasePolicy", "expiresOn", "notBefore"]) assert.equal(plain[member], undefined, member);
});

test("create refused", async () => {
  for (const [text, call] of [
    ["1024", () => client.createRsaKey("never", { keySize: 1024 })],
    ["P-224", () => client.createEcKey("never", { curve: "P-224" })],
    ["oct-HSM", () => client.createOctKey("never")],
    ["OKP", () => client.createKey("never", "OKP")],
    ["encrypt", () => client.createEcKey("never", { keyOps: ["encrypt"] })],
    ["premium", () => other.createRsaKey("never", { hsm: true })],
    ["premium", () => other.createOctKey("never", { hsm: true })],
    ["AKV.SKR.1004", () => client.createEcKey("never", { hsm: true, exportable: true })],
    ["AKV.SKR.1005", () => client.createEcKey("never", { releasePolicy })],
    ["invalid name", () => client.createEcKey("under_score")],
  ]) {
    const error = await refused(400, "BadParameter", undefined, call);
    assert.ok(error.message.includes(text), error.message);
  }
  await refused(404, "KeyNotFound", undefined, () => client.getKey("never"));
});

test("import refused", async () => {
  const [one, two] = [0, 1].map(() => clientKey(crypto.generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey));
  for (const jwk of [{ ...one, d: undefined }, { ...one, d: two.d }, { ...one, x: one.y, y: one.x }, { ...one, crv: "P-384" }]) {
    await refused(400, "BadParameter", undefined, () => client.importKey("never-imported", jwk));
  }
});

test("versions", async () => {
  const made = [];
  for (let n = 0; n < 3; n++) made.push(await client.createEcKey("versions"));
  const listed = await collect(client.listPropertiesOfKeyVersions("versions"));
  assert.deepEqual(listed.map((p) => p.id).sort(), made.map((k) => k.id).sort());
  for (const key of made) {
    equalBytes((await client.getKey("versions", { version: key.properties.version })).key.x, key.key.x);
  }
  assert.equal((await client.getKey("versions")).id, made[2].id);
});

test("update", async () => {
  const first = await client.createEcKey("update", { tags: { a: "1" } });
  const second = await client.createEcKey("update");
  const { version } = first.properties;
  const expiresOn = new Date("2036-01-01T00:00:00Z");
  const change = { tags: { b: "2" }, keyOps: ["verify"], enabled: false, expiresOn };
  const changed = await client.updateKeyProperties("update", version, change);
  assert.deepEqual([changed.id, changed.keyOperations], [first.id, ["verify"]]);
  await client.updateKeyProperties("update", version, { enabled: true });
  const { properties: p } = await client.getKey("update", { version });
  assert.deepEqual([p.enabled, p.expiresOn, { ...p.tags }], [true, expiresOn, { b: "2" }]);
  assert.equal((await client.getKey("update")).properties.tags, undefined);
  await client.updateKeyProperties("update", { tags: { c: "3" } });
  const latest = await client.getKey("update", { version: second.properties.version });
  assert.deepEqual({ ...latest.properties.tags }, { c: "3" });
});

test("paging", async () => {
  const names = Array.from({ length: 30 }, (_, n) => `page-${String(n).padStart(2, "0")}`);
  for (const name of names) await client.createEcKey(name, { tags: { n: name } });
  const pages = await collect(client.listPropertiesOfKeys().byPage());
  assert.ok(pages.length >= 2 && pages.every((page) => page.length <= 25), `${pages.map((p) => p.length)}`);
  const listed = pages.flat();
  assert.equal(new Set(listed.map((p) => p.name)).size, listed.length);
  for (const name of names) {
    const p = listed.find((item) => item.name === name);
    assert.ok(p, `${name} is not listed`);
    assert.deepEqual([p.id, p.version, { ...p.tags }], [`${vault}/keys/${name}`, undefined, { n: name }]);
  }

  const small = await collect(client.listPropertiesOfKeys().byPage({ maxPageSize: 7 }));
  assert.ok(small.every((page) => page.length <= 7));
  const seen = new Set(small.flat().map((p) => p.name));
  assert.ok(names.every((name) => seen.has(name)));
});

test("delete and recover", async () => {
  const made = [];
  for (let n = 0; n < 2; n++) made.push(await client.createEcKey("recover"));
  const deleting = await client.beginDeleteKey("recover", poll);
  const deleted = await deleting.pollUntilDone();
  assert.deepEqual([deleted.id, deleted.properties.recoveryId], [made[1].id, `${vault}/deletedkeys/recover`]);
  assert.equal(deleted.properties.scheduledPurgeDate - deleted.properties.deletedOn, 7 * 86400_000);
  await refused(404, "KeyNotFound", undefined, () => client.getKey("recover"));
  await refused(409, "Conflict", "ObjectIsDeletedButRecoverable", () => client.createEcKey("recover"));
  assert.equal((await client.getDeletedKey("recover")).name, "recover");
  assert.ok((await collect(client.listDeletedKeys())).some((d) => d.name === "recover"));

  const recovering = await client.beginRecoverDeletedKey("recover", poll);
  assert.equal((await recovering.pollUntilDone()).name, "recover");
  const listed = await collect(client.listPropertiesOfKeyVersions("recover"));
  assert.deepEqual(listed.map((p) => p.id).sort(), made.map((k) => k.id).sort());
  await checkEC(made[0], "P-256");
  await refused(404, "KeyNotFound", undefined, () => client.getDeletedKey("recover"));
});

test("purge", async () => {
  const names = Array.from({ length: 6 }, (_, n) => `purge-${n}`);
  for (const name of names) {
    await client.createEcKey(name);
    await (await client.beginDeleteKey(name, poll)).pollUntilDone();
  }
  const pages = await collect(client.listDeletedKeys().byPage({ maxPageSize: 4 }));
  assert.ok(pages.every((page) => page.length <= 4));
  const listed = new Set(pages.flat().map((d) => d.name));
  assert.ok(names.every((name) => listed.has(name)));
  await client.purgeDeletedKey("purge-0");
  await refused(404, "KeyNotFound", undefined, () => client.getDeletedKey("purge-0"));
  await client.createEcKey("purge-0");
  assert.equal((await collect(client.listPropertiesOfKeyVersions("purge-0"))).length, 1);
});

test("backup and restore", async () => {
  const made = [];
  for (let n = 0; n < 2; n++) made.push(await client.createEcKey("backup", { tags: { n: `${n}` } }));
  const blob = await client.backupKey("backup");
  await refused(409, "Conflict", undefined, () => client.restoreKeyBackup(blob));
  await (await client.beginDeleteKey("backup", poll)).pollUntilDone();
  await client.purgeDeletedKey("backup");
  const altered = Uint8Array.from(blob);
  altered[altered.length >> 1] ^= 1;
  await refused(400, "BadParameter", undefined, () => client.restoreKeyBackup(altered));

  assert.equal((await client.restoreKeyBackup(blob)).id, made[1].id);
  for (const [n, key] of made.entries()) {
    const read = await client.getKey("backup", { version: key.properties.version });
    assert.deepEqual([read.id, { ...read.properties.tags }], [key.id, { n: `${n}` }]);
    assert.deepEqual(read.properties.createdOn, key.properties.createdOn);
    await checkEC(key, "P-256");
  }
  const elsewhere = await other.restoreKeyBackup(blob);
  assert.equal(elsewhere.id, `${otherVault}/keys/backup/${made[1].properties.version}`);
  equalBytes(elsewhere.key.x, made[1].key.x);
});

test("rotate", async () => {
  const old = await client.createEcKey("rotate", { curve: "P-521", hsm: true, keyOps: ["sign"], tags: { a: "1" } });
  const next = await client.rotateKey("rotate");
  assert.notEqual(next.id, old.id);
  assert.notDeepEqual(next.key.x, old.key.x);
  assert.deepEqual([next.keyType, next.key.crv, next.keyOperations], ["EC-HSM", "P-521", ["sign"]]);
  assert.deepEqual({ ...next.properties.tags }, { a: "1" });
  assert.equal((await client.getKey("rotate")).id, next.id);
});

test("rotation policy", async () => {
  const actions = (p) => p.lifetimeActions.map((a) => [a.action, a.timeAfterCreate, a.timeBeforeExpiry]);
  await client.createEcKey("policy");
  const none = await client.getKeyRotationPolicy("policy");
  assert.deepEqual([none.id, none.expiresIn], [`${vault}/keys/policy/rotationpolicy`, undefined]);
  assert.deepEqual(actions(none), [["Notify", undefined, "P30D"]]);
  const lifetimeActions = [{ action: "Rotate", timeAfterCreate: "P2M" }];
  const stored = await client.updateKeyRotationPolicy("policy", { expiresIn: "P90D", lifetimeActions });
  for (const policy of [stored, await client.getKeyRotationPolicy("policy")]) {
    assert.equal(policy.expiresIn, "P90D");
    // The service has a Notify in every policy.
    assert.deepEqual(actions(policy), [["Rotate", "P2M", undefined], ["Notify", undefined, "P30D"]]);
    assert.ok(Math.abs(policy.updatedOn - Date.now()) < 60_000);
  }
  const { properties } = await client.rotateKey("policy");
  assert.equal(properties.expiresOn - properties.createdOn, 90 * 86400_000);
  // What was read can be written back.
  assert.deepEqual(actions(await client.updateKeyRotationPolicy("policy", stored)), actions(stored));
  await refused(400, "BadParameter", undefined, () => client.updateKeyRotationPolicy("policy", { expiresIn: "P27D" }));
});

test("release policy", async () => {
  const key = await client.createEcKey("exportable", { hsm: true, exportable: true, releasePolicy });
  const policy = key.properties.releasePolicy;
  assert.equal(Buffer.from(policy.encodedPolicy).toString(), canonicalPolicy);
  assert.deepEqual([policy.contentType, policy.immutable], ["application/json; charset=utf-8", false]);
  // What was read can be written back.
  const changed = await client.updateKeyProperties("exportable", { releasePolicy: { ...policy, immutable: true } });
  assert.equal(changed.properties.releasePolicy.immutable, true);
  const encodedPolicy = Buffer.from(policyText.replace("attest.example", "attest.test"));
  const error = await refused(400, "BadParameter", undefined, () =>
    client.updateKeyProperties("exportable", { releasePolicy: { encodedPolicy } }),
  );
  assert.match(error.message, /AKV\.SKR\.1020: Immutable Key Release Policy cannot be modified\./);
  // No authority is trusted with the keys of this server.
  const { version } = key.properties;
  await refused(403, "Forbidden", "KeyOperationForbidden", () => client.releaseKey("exportable", "a.b.c", { version }));
});

test("managed HSM only", async () => {
  await refused(400, "BadParameter", undefined, () => client.getRandomBytes(16));
  const { properties } = await client.createEcKey("no-attestation");
  await refused(400, "BadParameter", undefined, () => client.getKeyAttestation("no-attestation", { version: properties.version }));
});

test("missing", async () => {
  const known = (await client.createEcKey("known")).properties.version;
  const error = await refused(404, "KeyNotFound", undefined, () => client.getKey("never-made"));
  assert.equal(error.code, "KeyNotFound");
  assert.match(error.message, /was not found in this key vault/);
  for (const call of [
    () => client.getKey("known", { version: "0".repeat(32) }),
    () => client.updateKeyProperties("never-made", {}),
    () => client.beginDeleteKey("never-made", poll),
    () => client.beginRecoverDeletedKey("never-made", poll),
    () => client.backupKey("never-made"),
    () => client.rotateKey("never-made"),
    () => client.getKeyRotationPolicy("never-made"),
    () => other.getKey("known"),
    () => other.getKey("known", { version: known }),
    () => local(`${vault}/keys/never-made`).sign("ES256", digest(256)),
  ]) {
    await refused(404, "KeyNotFound", undefined, call);
  }
});

test("unknown vault", async () => {
  const unknown = new KeyClient(env.E2E_UNKNOWN_VAULT, credential);
  await assert.rejects(unknown.getKey("any"), { statusCode: 404 });
});

test("principal without rights", async () => {
  const key = await client.createEcKey("not-yours");
  const nobody = new ClientSecretCredential(env.AZURE_TENANT_ID, env.E2E_STRANGER_ID, env.E2E_STRANGER_SECRET);
  const stranger = new KeyClient(vault, nobody);
  for (const call of [
    () => stranger.getKey("not-yours"),
    () => stranger.createEcKey("not-yours"),
    () => stranger.backupKey("not-yours"),
    () => stranger.rotateKey("not-yours"),
    () => new CryptographyClient(key.id, nobody).sign("ES256", digest(256)),
  ]) {
    const error = await refused(403, "Forbidden", "ForbiddenByRbac", call);
    assert.ok(error.message.includes(env.E2E_STRANGER_ID), error.message);
  }
  await assert.rejects(collect(stranger.listPropertiesOfKeys()), { statusCode: 403 });
  assert.equal((await collect(client.listPropertiesOfKeyVersions("not-yours"))).length, 1);
});

test("every version of the API", async () => {
  for (const serviceVersion of ["7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01"]) {
    const old = new KeyClient(vault, credential, { serviceVersion });
    const name = `at-${serviceVersion.replace(".", "-")}`;
    const key = await old.createEcKey(name, { tags: { v: serviceVersion } });
    assert.equal(key.properties.exportable, ["7.0", "7.1", "7.2"].includes(serviceVersion) ? undefined : false, serviceVersion);
    const c = new CryptographyClient(key, credential, { serviceVersion });
    const { result } = await c.signData("ES256", plaintext);
    assert.equal((await c.verifyData("ES256", plaintext, result)).result, true);
    assert.ok((await collect(old.listPropertiesOfKeys())).some((p) => p.name === name));
    assert.equal((await (await old.beginDeleteKey(name, poll)).pollUntilDone()).name, name);
    const recovered = await (await old.beginRecoverDeletedKey(name, poll)).pollUntilDone();
    assert.deepEqual({ ...recovered.properties.tags }, { v: serviceVersion });
  }
});
