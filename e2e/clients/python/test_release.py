"""The release of keys to a program for which an attestation authority vouches, with the clients of test_keys.py.

E2E_AUTHORITY is that authority, E2E_ATTESTATION what it says of the program, and E2E_DEBUGGABLE_ATTESTATION what it says
when somebody can look into it. E2E_TARGET_KEY is the file with the key that the program made.
"""

import base64
import json
import os
import unittest

import test_keys
from azure.keyvault.keys import JsonWebKey, KeyExportEncryptionAlgorithm, KeyReleasePolicy
from cryptography import x509
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding

ATTESTATION = os.environ["E2E_ATTESTATION"]
HASHES = {
    KeyExportEncryptionAlgorithm.ckm_rsa_aes_key_wrap: hashes.SHA1(),
    KeyExportEncryptionAlgorithm.rsa_aes_key_wrap_256: hashes.SHA256(),
    KeyExportEncryptionAlgorithm.rsa_aes_key_wrap_384: hashes.SHA384(),
}


def policy(authority):
    not_debuggable = {"claim": "x-ms-sgx-is-debuggable", "equals": "false"}
    rules = {"version": "1.0.0", "anyOf": [{"authority": authority, "allOf": [not_debuggable]}]}
    return KeyReleasePolicy(json.dumps(rules).encode())


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Release(test_keys.KeysTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with open(os.environ["E2E_TARGET_KEY"], "rb") as file:
            cls.target = serialization.load_pem_private_key(file.read(), None)
        cls.policy = policy(os.environ["E2E_AUTHORITY"])

    def released(self, key, algorithm, **options):
        """The key that the program finds in the answer, after it has checked who gave it and for what."""
        value = self.client.release_key(key.name, ATTESTATION, algorithm=algorithm, nonce="a nonce", **options).value
        signed, signature = value.rsplit(".", 1)
        header, answer = (json.loads(decode(part)) for part in signed.split("."))
        self.assertEqual(header["alg"], "RS256")
        signer = x509.load_der_x509_certificate(base64.b64decode(header["x5c"][0]))
        signer.public_key().verify(decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        self.assertEqual((answer["request"]["nonce"], answer["request"]["enc"]), ("a nonce", algorithm.value))
        bundle = answer["response"]["key"]
        self.assertEqual((bundle["key"]["kid"], bundle["key"]["kty"]), (key.id, key.key_type))
        self.assertEqual(decode(bundle["release_policy"]["data"]), key.properties.release_policy.encoded_policy)

        wrapped = json.loads(decode(bundle["key"]["key_hsm"]))
        self.assertEqual(wrapped["header"], {"kid": "target", "alg": "dir", "enc": algorithm.value})
        ciphertext, size = decode(wrapped["ciphertext"]), self.target.key_size // 8
        kind = HASHES[algorithm]
        aes = self.target.decrypt(ciphertext[:size], padding.OAEP(padding.MGF1(kind), kind, None))
        return keywrap.aes_key_unwrap_with_padding(aes, ciphertext[size:])

    def test_every_type_and_algorithm(self):
        options = {"exportable": True, "release_policy": self.policy}
        for algorithm in HASHES:
            for public, key in (
                (test_keys.ec_public, self.client.create_ec_key("ec", hardware_protected=True, curve="P-521", **options)),
                (test_keys.ec_public, self.client.create_ec_key("ec-k", hardware_protected=True, curve="P-256K", **options)),
                (test_keys.rsa_public, self.client.create_rsa_key("rsa", hardware_protected=True, **options)),
            ):
                with self.subTest(algorithm=algorithm, key=key.name):
                    private = serialization.load_der_private_key(self.released(key, algorithm), None)
                    self.assertEqual(private.public_key(), public(key.key))
            with self.subTest(algorithm=algorithm, key="oct"):
                jwk = JsonWebKey(kty="oct-HSM", k=test_keys.IMPORTED_KEY)
                key = self.client.import_key("oct", jwk, hardware_protected=True, **options)
                self.assertEqual(self.released(key, algorithm), test_keys.IMPORTED_KEY)

    def test_an_earlier_version(self):
        options = {"exportable": True, "release_policy": self.policy, "hardware_protected": True}
        first = self.client.create_ec_key("versions", **options)
        self.client.create_ec_key("versions", **options)
        raw = self.released(first, KeyExportEncryptionAlgorithm.rsa_aes_key_wrap_256, version=first.properties.version)
        self.assertEqual(serialization.load_der_private_key(raw, None).public_key(), test_keys.ec_public(first.key))

    def test_refused(self):
        options = {"exportable": True, "hardware_protected": True}
        self.client.create_ec_key("strict", release_policy=self.policy, **options)
        self.client.create_ec_key("elsewhere", release_policy=policy("https://attest.example"), **options)
        self.client.create_ec_key("stays")
        for name, attestation, status, code, inner in (
            ("strict", os.environ["E2E_DEBUGGABLE_ATTESTATION"], 403, "Forbidden", "AccessDenied"),
            ("elsewhere", ATTESTATION, 403, "Forbidden", "AccessDenied"),
            ("strict", ATTESTATION[:-8] + "AAAAAAAA", 403, "Forbidden", "AccessDenied"),
            ("strict", "no token", 403, "Forbidden", "AccessDenied"),
            ("stays", ATTESTATION, 403, "Forbidden", "KeyOperationForbidden"),
            ("never-made", ATTESTATION, 404, "KeyNotFound", None),
        ):
            with self.subTest(name=name, inner=inner):
                error = self.refused(status, code, inner, self.client.release_key, name, attestation)
                if inner == "AccessDenied":
                    self.assertRegex(error.message, "Target environment attestation (statement cannot be verified|does not meet)")


if __name__ == "__main__":
    unittest.main(verbosity=2)
