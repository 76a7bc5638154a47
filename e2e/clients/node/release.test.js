// The release of keys to a program for which an attestation authority vouches, with @azure/keyvault-keys. E2E_AUTHORITY is
// that authority, E2E_ATTESTATION what it says of the program, and E2E_DEBUGGABLE_ATTESTATION what it says when somebody
// can look into it. E2E_TARGET_KEY is the file with the key that the program made.

import assert from "node:assert/strict";
import * as crypto from "node:crypto";
import { readFileSync } from "node:fs";
import { env } from "node:process";
import { test } from "node:test";
import { DefaultAzureCredential } from "@azure/identity";
import { KeyClient } from "@azure/keyvault-keys";

const importedKey = Buffer.from("strongroom-e2e-imported-oct-key!"); // known to the suite, which looks for it
const attestation = env.E2E_ATTESTATION;
const client = new KeyClient(env.E2E_VAULT, new DefaultAzureCredential());
const target = crypto.createPrivateKey(readFileSync(env.E2E_TARGET_KEY));
const hashes = { CKM_RSA_AES_KEY_WRAP: "sha1", RSA_AES_KEY_WRAP_256: "sha256", RSA_AES_KEY_WRAP_384: "sha384" };

const policy = (authority) => ({
  encodedPolicy: Buffer.from(
    JSON.stringify({
      version: "1.0.0",
      anyOf: [{ authority, allOf: [{ claim: "x-ms-sgx-is-debuggable", equals: "false" }] }],
    }),
  ),
});
const exportable = { exportable: true, releasePolicy: policy(env.E2E_AUTHORITY) };
const decode = (text) => Buffer.from(text, "base64url");

// released is the key that the program finds in the answer, after it has checked who gave it and for what.
async function released(key, algorithm) {
  const { version } = key.properties;
  const { value } = await client.releaseKey(key.name, attestation, { version, algorithm, nonce: "a nonce" });
  const [head, body, signature] = value.split(".");
  const [header, answer] = [head, body].map((part) => JSON.parse(decode(part)));
  const signer = new crypto.X509Certificate(Buffer.from(header.x5c[0], "base64"));
  assert.equal(header.alg, "RS256");
  assert.ok(crypto.verify("sha256", Buffer.from(`${head}.${body}`), signer.publicKey, decode(signature)));
  assert.deepEqual([answer.request.nonce, answer.request.enc], ["a nonce", algorithm]);
  const bundle = answer.response.key;
  assert.deepEqual([bundle.key.kid, bundle.key.kty], [key.id, key.keyType]);

  const wrapped = JSON.parse(decode(bundle.key.key_hsm));
  assert.deepEqual(wrapped.header, { kid: "target", alg: "dir", enc: algorithm });
  const ciphertext = decode(wrapped.ciphertext);
  const size = target.asymmetricKeyDetails.modulusLength / 8;
  const padding = { padding: crypto.constants.RSA_PKCS1_OAEP_PADDING, oaepHash: hashes[algorithm] };
  const aes = crypto.privateDecrypt({ key: target, ...padding }, ciphertext.subarray(0, size));
  const unwrap = crypto.createDecipheriv("id-aes256-wrap-pad", aes, Buffer.from("a65959a6", "hex"));
  return Buffer.concat([unwrap.update(ciphertext.subarray(size)), unwrap.final()]);
}

function publicJWK(der) {
  const key = crypto.createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return crypto.createPublicKey(key).export({ format: "jwk" });
}

const base64url = (bytes) => Buffer.from(bytes).toString("base64url");

for (const algorithm of Object.keys(hashes)) {
  test(`release with ${algorithm}`, async () => {
    for (const curve of ["P-256K", "P-521"]) {
      const key = await client.createEcKey("ec", { curve, hsm: true, ...exportable });
      const { x, y } = publicJWK(await released(key, algorithm));
      assert.deepEqual([x, y], [base64url(key.key.x), base64url(key.key.y)]);
    }
    const rsa = await client.createRsaKey("rsa", { hsm: true, ...exportable });
    assert.equal(publicJWK(await released(rsa, algorithm)).n, base64url(rsa.key.n));
    const oct = await client.importKey("oct", { kty: "oct-HSM", k: importedKey }, { hardwareProtected: true, ...exportable });
    assert.deepEqual(await released(oct, algorithm), importedKey);
  });
}

test("refused", async () => {
  const keys = {
    strict: await client.createEcKey("strict", { hsm: true, ...exportable }),
    elsewhere: await client.createEcKey("elsewhere", {
      hsm: true,
      exportable: true,
      releasePolicy: policy("https://attest.example"),
    }),
    stays: await client.createEcKey("stays"),
  };
  for (const [name, token, inner] of [
    ["strict", env.E2E_DEBUGGABLE_ATTESTATION, "AccessDenied"],
    ["elsewhere", attestation, "AccessDenied"],
    ["strict", `${attestation.slice(0, -8)}AAAAAAAA`, "AccessDenied"],
    ["strict", "no token", "AccessDenied"],
    ["stays", attestation, "KeyOperationForbidden"],
  ]) {
    const { version } = keys[name].properties;
    await assert.rejects(client.releaseKey(name, token, { version }), (error) => {
      assert.deepEqual([error.statusCode, error.code, error.details.error.innerError.code], [403, "Forbidden", inner]);
      return true;
    });
  }
});
