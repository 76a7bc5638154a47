"""The synchronous clients of azure-keyvault-keys, as an application uses them: a URL and DefaultAzureCredential.

The CryptographyClient does locally what it can with what the vault tells about a key, and leaves the rest to the vault. So each
algorithm is tried in all mixtures: the client alone, the server alone (see remote), and Python's own cryptography
package. The variables are those of test_secrets.py; E2E_OTHER_VAULT holds no keys of the types with -HSM.
"""

import hashlib
import hmac
import logging
import os
import unittest
from datetime import datetime, timedelta, timezone

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.keyvault.keys import (
    ApiVersion, JsonWebKey, KeyClient, KeyCurveName, KeyOperation, KeyReleasePolicy, KeyRotationLifetimeAction,
    KeyRotationPolicy, KeyRotationPolicyAction, KeyType, KeyVaultKey,
)
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7

VAULT = os.environ["E2E_VAULT"]
OTHER_VAULT = os.environ["E2E_OTHER_VAULT"]

# Known to the suite, which looks for them in what the server leaves behind.
IMPORTED_KEY = b"strongroom-e2e-imported-oct-key!"
PLAINTEXT = b"32 bytes of nobody else's affair"

HASHES = {256: hashes.SHA256(), 384: hashes.SHA384(), 512: hashes.SHA512()}
RSA_PADDINGS = {
    "RSA1_5": padding.PKCS1v15(),
    "RSA-OAEP": padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None),
    "RSA-OAEP-256": padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
}
# The algorithm and curve of each curve's name, and how long a coordinate is.
CURVES = {
    KeyCurveName.p_256: (SignatureAlgorithm.es256, ec.SECP256R1(), 32),
    KeyCurveName.p_256_k: (SignatureAlgorithm.es256_k, ec.SECP256K1(), 32),
    KeyCurveName.p_384: (SignatureAlgorithm.es384, ec.SECP384R1(), 48),
    KeyCurveName.p_521: (SignatureAlgorithm.es512, ec.SECP521R1(), 66),
}
CURVE_HASHES = {KeyCurveName.p_256: 256, KeyCurveName.p_256_k: 256, KeyCurveName.p_384: 384, KeyCurveName.p_521: 512}

RELEASE_POLICY = (
    b'{"version":"1.0.0","anyOf":[{"authority":"https://attest.example",'
    b'"allOf":[{"claim":"x-ms-sgx-is-debuggable","equals":"false"}]}]}'
)
# How the service writes it.
CANONICAL_RELEASE_POLICY = (
    b'{"anyOf":[{"allOf":[{"claim":"x-ms-sgx-is-debuggable","equals":"false"}],'
    b'"authority":"https://attest.example/"}],"version":"1.0.0"}'
)

# The local part of the client says so when it leaves something to the server.
logging.getLogger("azure.keyvault.keys.crypto").setLevel(logging.ERROR)


def inner_code(error):
    return (error.error.innererror or {}).get("code")


def digest(bits):
    return hashlib.new(f"sha{bits}", PLAINTEXT).digest()


def flipped(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def number(data):
    return int.from_bytes(data, "big")


def to_bytes(n, length=None):
    return n.to_bytes(length or (n.bit_length() + 7) // 8, "big")


def rsa_public(jwk):
    return rsa.RSAPublicNumbers(number(jwk.e), number(jwk.n)).public_key()


def rsa_jwk(private):
    n = private.private_numbers()
    return JsonWebKey(
        kty="RSA", n=to_bytes(n.public_numbers.n), e=to_bytes(n.public_numbers.e), d=to_bytes(n.d), p=to_bytes(n.p),
        q=to_bytes(n.q), dp=to_bytes(n.dmp1), dq=to_bytes(n.dmq1), qi=to_bytes(n.iqmp),
        key_ops=["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"],
    )


def ec_public(jwk):
    return ec.EllipticCurvePublicNumbers(number(jwk.x), number(jwk.y), CURVES[jwk.crv][1]).public_key()


def ec_jwk(private, curve):
    n, length = private.private_numbers(), CURVES[curve][2]
    return JsonWebKey(
        kty="EC", crv=curve.value, x=to_bytes(n.public_numbers.x, length), y=to_bytes(n.public_numbers.y, length),
        d=to_bytes(n.private_value, length), key_ops=["sign", "verify"],
    )


def rsa_signature_padding(algorithm, bits):
    """The salt is as long as the hash (RFC 7518, 3.5)."""
    return padding.PSS(padding.MGF1(HASHES[bits]), bits // 8) if algorithm.startswith("PS") else padding.PKCS1v15()


def aes_cbc(key, iv, plaintext):
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(plaintext) + encryptor.finalize()


def pkcs7(data):
    padder = PKCS7(128).padder()
    return padder.update(data) + padder.finalize()


def stand_in(jwk):
    """The public members of some key of the same kind as jwk."""
    if jwk.kty in (KeyType.rsa, KeyType.rsa_hsm):
        return {"n": to_bytes(2**2048 - 1), "e": jwk.e}
    if jwk.kty in (KeyType.ec, KeyType.ec_hsm):
        _, kind, length = CURVES[jwk.crv]
        point = ec.derive_private_key(1, kind).public_key().public_numbers()
        return {"crv": jwk.crv, "x": to_bytes(point.x, length), "y": to_bytes(point.y, length)}
    return {}


class KeysTestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.credential = cls.default_credential()
        cls.client = cls.key_client(VAULT, cls.credential)
        cls.other = cls.key_client(OTHER_VAULT, cls.credential)
        for closing in (cls.other, cls.client, cls.credential):
            cls.addClassCleanup(closing.close)

    # test_keys_async.py has these as well, with the asynchronous clients behind them.

    @classmethod
    def default_credential(cls):
        return DefaultAzureCredential()

    @classmethod
    def client_secret_credential(cls, *args):
        return ClientSecretCredential(*args)

    @classmethod
    def key_client(cls, *args, **kwargs):
        return KeyClient(*args, **kwargs)

    @classmethod
    def cryptography_client(cls, *args, **kwargs):
        return CryptographyClient(*args, **kwargs)

    @classmethod
    def without_server(cls, jwk):
        return CryptographyClient.from_jwk(jwk)

    def refused(self, status, code, inner, call, *args, **kwargs):
        with self.assertRaises(HttpResponseError) as caught:
            call(*args, **kwargs)
        error = caught.exception
        self.assertEqual((error.status_code, error.error.code, inner_code(error)), (status, code, inner), error)
        return error

    def local(self, key):
        """A client that does what it can by itself."""
        return self.enterContext(self.cryptography_client(key, self.credential))

    def remote(self, key):
        """A client that leaves everything to the server, since the key that it has may do nothing. It is another key, besides.

        The only way, too, to use an oct-HSM key for A…CBCPAD and A…KW: with those, the client makes up random bytes for the
        key that it does not have, and encrypts with them.
        """
        jwk = {"kid": key.id, "kty": key.key.kty, "key_ops": [], **stand_in(key.key)}
        return self.enterContext(self.cryptography_client(KeyVaultKey(key.id, jwk), self.credential))


class Cryptography(KeysTestCase):
    def encryption(self, client):
        return (
            ("encrypt", lambda a, p: client.encrypt(EncryptionAlgorithm(a), p).ciphertext,
             lambda a, c: client.decrypt(EncryptionAlgorithm(a), c).plaintext),
            ("wrap", lambda a, p: client.wrap_key(KeyWrapAlgorithm(a), p).encrypted_key,
             lambda a, c: client.unwrap_key(KeyWrapAlgorithm(a), c).key),
        )

    def check_rsa(self, key, private=None):
        """With private, the key as it was before it was imported."""
        public = rsa_public(key.key)
        local, remote = self.local(key), self.remote(key)
        for algorithm, pad in RSA_PADDINGS.items():
            sealed_here = public.encrypt(PLAINTEXT, pad)
            for (name, by_client, _), (_, by_server, opened) in zip(self.encryption(local), self.encryption(remote)):
                with self.subTest(key=key.name, algorithm=algorithm, operation=name):
                    at_server = by_server(algorithm, PLAINTEXT)
                    for ciphertext in (sealed_here, at_server, by_client(algorithm, PLAINTEXT)):
                        self.assertEqual(opened(algorithm, ciphertext), PLAINTEXT)
                    if private:
                        self.assertEqual(private.decrypt(at_server, pad), PLAINTEXT)
                    self.refused(400, "BadParameter", None, opened, algorithm, at_server[1:])
        for kind in ("RS", "PS"):
            for bits, algorithm in ((b, SignatureAlgorithm(f"{kind}{b}")) for b in HASHES):
                with self.subTest(key=key.name, algorithm=algorithm):
                    pad, prehashed = rsa_signature_padding(algorithm, bits), Prehashed(HASHES[bits])
                    signature = self.check_signature(local, remote, algorithm, digest(bits))
                    public.verify(signature, digest(bits), pad, prehashed)
                    if private:
                        here = private.sign(digest(bits), pad, prehashed)
                        self.assertTrue(remote.verify(algorithm, digest(bits), here).is_valid)
                        self.assertEqual(here == signature, kind == "RS")

    def check_signature(self, local, remote, algorithm, value):
        """Returns the server's signature, which client and server accept, unless it is altered."""
        signed = remote.sign(algorithm, value)
        self.assertEqual((signed.key_id, signed.algorithm), (remote.key_id, algorithm))
        for verifier in (local, remote):
            self.assertTrue(verifier.verify(algorithm, value, signed.signature).is_valid)
            self.assertFalse(verifier.verify(algorithm, flipped(value), signed.signature).is_valid)
            self.assertFalse(verifier.verify(algorithm, value, flipped(signed.signature)).is_valid)
        self.refused(400, "BadParameter", None, remote.sign, algorithm, value + b"0")
        return signed.signature

    def test_rsa(self):
        for size, hardware in ((2048, False), (3072, True), (4096, False)):
            key = self.client.create_rsa_key(f"rsa-{size}", size=size, hardware_protected=hardware)
            self.assertEqual(key.key_type, KeyType.rsa_hsm if hardware else KeyType.rsa)
            self.assertEqual((rsa_public(key.key).key_size, number(key.key.e)), (size, 65537))
            self.check_rsa(key)

    def test_imported_rsa(self):
        private = rsa.generate_private_key(65537, 2048)
        jwk = rsa_jwk(private)
        key = self.client.import_key("rsa-imported", jwk, hardware_protected=True)
        self.assertEqual(key.key_type, KeyType.rsa_hsm)
        self.assertEqual((key.key.n, key.key.e), (jwk.n, jwk.e))
        self.assertFalse(any(getattr(key.key, m) for m in ("d", "p", "q", "dp", "dq", "qi", "k", "t")))
        self.check_rsa(key, private)
        # The client with the whole key does everything by itself.
        alone, remote = self.without_server(jwk), self.remote(key)
        for (_, seal, unseal), (_, seal_there, unseal_there) in zip(self.encryption(alone), self.encryption(remote)):
            for algorithm in RSA_PADDINGS:
                self.assertEqual(unseal(algorithm, seal_there(algorithm, PLAINTEXT)), PLAINTEXT)
                self.assertEqual(unseal_there(algorithm, seal(algorithm, PLAINTEXT)), PLAINTEXT)
        for algorithm in (SignatureAlgorithm.rs384, SignatureAlgorithm.ps384):
            signature = alone.sign(algorithm, digest(384)).signature
            self.assertTrue(remote.verify(algorithm, digest(384), signature).is_valid)

    def check_ec(self, key, curve, private=None):
        algorithm, _, length = CURVES[curve]
        bits = CURVE_HASHES[curve]
        self.assertEqual((key.key.crv, len(key.key.x), len(key.key.y)), (curve, length, length))
        local, remote = self.local(key), self.remote(key)
        signature = self.check_signature(local, remote, algorithm, digest(bits))
        self.assertEqual(len(signature), 2 * length)
        der = encode_dss_signature(number(signature[:length]), number(signature[length:]))
        ec_public(key.key).verify(der, digest(bits), ec.ECDSA(Prehashed(HASHES[bits])))
        if private:
            r, s = decode_dss_signature(private.sign(digest(bits), ec.ECDSA(Prehashed(HASHES[bits]))))
            self.assertTrue(remote.verify(algorithm, digest(bits), to_bytes(r, length) + to_bytes(s, length)).is_valid)
            by_client = self.without_server(ec_jwk(private, curve)).sign(algorithm, digest(bits)).signature
            self.assertTrue(remote.verify(algorithm, digest(bits), by_client).is_valid)
        other = SignatureAlgorithm.es384 if algorithm == SignatureAlgorithm.es256 else SignatureAlgorithm.es256
        self.refused(400, "BadParameter", None, remote.sign, other, digest(bits))

    def test_ec(self):
        for curve in CURVES:
            for hardware in (False, True):
                with self.subTest(curve=curve, hardware=hardware):
                    name = f"ec-{curve.value}-{hardware}"
                    key = self.client.create_ec_key(name, curve=curve, hardware_protected=hardware)
                    self.assertEqual(key.key_type, KeyType.ec_hsm if hardware else KeyType.ec)
                    self.check_ec(key, curve)

    def test_imported_ec(self):
        for curve, (_, kind, _) in CURVES.items():
            with self.subTest(curve=curve):
                private = ec.generate_private_key(kind)
                jwk = ec_jwk(private, curve)
                key = self.client.import_key(f"ec-imported-{curve.value}", jwk)
                self.assertEqual((key.key.x, key.key.y, key.key.d), (jwk.x, jwk.y, None))
                self.check_ec(key, curve, private)

    def import_oct(self, name, raw, operations):
        jwk = JsonWebKey(kty="oct-HSM", k=raw, key_ops=operations)
        key = self.client.import_key(name, jwk, hardware_protected=True)
        self.assertEqual((key.key_type, key.key.k, key.key_operations), (KeyType.oct_hsm, None, operations))
        return key, jwk

    def test_oct(self):
        for bits in (128, 192, 256):
            raw = IMPORTED_KEY[: bits // 8]
            key, jwk = self.import_oct(f"oct-{bits}", raw, ["encrypt", "decrypt", "wrapKey", "unwrapKey"])
            remote, alone = self.remote(key), self.without_server(jwk)
            with self.subTest(bits=bits, mode="GCM"):
                self.check_gcm(remote, EncryptionAlgorithm(f"A{bits}GCM"), raw)
            with self.subTest(bits=bits, mode="CBC"):
                self.check_cbc(remote, EncryptionAlgorithm(f"A{bits}CBC"), raw)
            with self.subTest(bits=bits, mode="CBCPAD"):
                self.check_cbc_padded(remote, alone, EncryptionAlgorithm(f"A{bits}CBCPAD"), raw)
            with self.subTest(bits=bits, mode="KW"):
                self.check_wrap(remote, KeyWrapAlgorithm(f"A{bits}KW"), raw, PLAINTEXT, keywrap.aes_key_wrap)
                by_client = alone.wrap_key(KeyWrapAlgorithm(f"A{bits}KW"), PLAINTEXT).encrypted_key
                self.assertEqual(remote.unwrap_key(KeyWrapAlgorithm(f"A{bits}KW"), by_client).key, PLAINTEXT)
                self.check_wrap(remote, KeyWrapAlgorithm.ckm_aes_key_wrap, raw, PLAINTEXT, keywrap.aes_key_wrap)
            for size in (1, 8, 20, 32):
                with self.subTest(bits=bits, mode="KWP", size=size):
                    self.check_wrap(
                        remote, KeyWrapAlgorithm.ckm_aes_key_wrap_pad, raw, PLAINTEXT[:size], keywrap.aes_key_wrap_with_padding
                    )

    def test_oct_made_by_the_server(self):
        for bits in (128, 192, 256):
            key = self.client.create_oct_key(f"oct-made-{bits}", size=bits, hardware_protected=True)
            self.assertEqual((key.key_type, key.key.k), (KeyType.oct_hsm, None))
            client = self.local(key)
            algorithm = EncryptionAlgorithm(f"A{bits}GCM")
            sealed = client.encrypt(algorithm, PLAINTEXT, additional_authenticated_data=b"header")
            opened = client.decrypt(
                algorithm, sealed.ciphertext, iv=sealed.iv, authentication_tag=sealed.tag, additional_authenticated_data=b"header"
            )
            self.assertEqual(opened.plaintext, PLAINTEXT)

    def check_gcm(self, client, algorithm, raw):
        sealed = client.encrypt(algorithm, PLAINTEXT, additional_authenticated_data=b"header")
        self.assertEqual((len(sealed.iv), len(sealed.tag), sealed.aad), (12, 16, b"header"))
        self.assertEqual(AESGCM(raw).decrypt(sealed.iv, sealed.ciphertext + sealed.tag, b"header"), PLAINTEXT)
        iv = os.urandom(12)
        ours = AESGCM(raw).encrypt(iv, PLAINTEXT, None)
        opened = client.decrypt(algorithm, ours[:-16], iv=iv, authentication_tag=ours[-16:])
        self.assertEqual((opened.plaintext, opened.key_id), (PLAINTEXT, client.key_id))
        for ciphertext, parts in (
            (ours[:-16], {"iv": iv, "authentication_tag": flipped(ours[-16:])}),
            (sealed.ciphertext, {"iv": sealed.iv, "authentication_tag": sealed.tag}),
        ):
            self.refused(400, "BadParameter", None, client.decrypt, algorithm, ciphertext, **parts)

    def check_cbc(self, client, algorithm, raw):
        iv = os.urandom(16)
        want = aes_cbc(raw, iv, PLAINTEXT)
        self.assertEqual(client.encrypt(algorithm, PLAINTEXT, iv=iv).ciphertext, want)
        self.assertEqual(client.decrypt(algorithm, want, iv=iv).plaintext, PLAINTEXT)
        self.refused(400, "BadParameter", None, client.encrypt, algorithm, PLAINTEXT[1:], iv=iv)

    def check_cbc_padded(self, client, alone, algorithm, raw):
        for message in (PLAINTEXT, PLAINTEXT[:1], PLAINTEXT[:31]):
            iv = os.urandom(16)
            want = aes_cbc(raw, iv, pkcs7(message))
            self.assertEqual(client.encrypt(algorithm, message, iv=iv).ciphertext, want)
            self.assertEqual(alone.encrypt(algorithm, message, iv=iv).ciphertext, want)
            self.assertEqual(client.decrypt(algorithm, want, iv=iv).plaintext, message)

    def check_wrap(self, client, algorithm, raw, message, oracle):
        want = oracle(raw, message)
        self.assertEqual(client.wrap_key(algorithm, message).encrypted_key, want)
        self.assertEqual(client.unwrap_key(algorithm, want).key, message)
        self.refused(400, "BadParameter", None, client.unwrap_key, algorithm, flipped(want))

    def test_hmac(self):
        for bits in HASHES:
            with self.subTest(bits=bits):
                raw = os.urandom(bits // 8)
                key, _ = self.import_oct(f"hmac-{bits}", raw, ["sign", "verify"])
                client, algorithm = self.local(key), SignatureAlgorithm(f"HS{bits}")
                want = hmac.digest(raw, digest(bits), f"sha{bits}")
                self.assertEqual(client.sign(algorithm, digest(bits)).signature, want)
                self.assertTrue(client.verify(algorithm, digest(bits), want).is_valid)
                self.assertFalse(client.verify(algorithm, digest(bits), flipped(want)).is_valid)

    def test_cryptography_client_of_the_key_client(self):
        first = self.client.create_rsa_key("shared")
        sealed = self.client.get_cryptography_client("shared").encrypt(EncryptionAlgorithm.rsa_oaep_256, PLAINTEXT)
        self.assertEqual(sealed.key_id, first.id)
        self.client.rotate_key("shared")
        old = self.client.get_cryptography_client("shared", key_version=first.properties.version)
        self.assertEqual(old.decrypt(sealed.algorithm, sealed.ciphertext).plaintext, PLAINTEXT)
        new = self.client.get_cryptography_client("shared")
        self.refused(400, "BadParameter", None, new.decrypt, sealed.algorithm, sealed.ciphertext)

    def test_what_a_key_may_not_do(self):
        day = timedelta(days=1)
        now = datetime.now(timezone.utc)
        for name, options, inner in (
            ("disabled", {"enabled": False}, "KeyDisabled"),
            ("expired", {"expires_on": now - day}, "KeyExpired"),
            ("not-yet-valid", {"not_before": now + day}, "KeyNotYetValid"),
            ("verify-only", {"key_operations": [KeyOperation.verify]}, "KeyOperationForbidden"),
        ):
            with self.subTest(name):
                key = self.client.create_ec_key(name, **options)
                # A client that knows the key's times asks nobody, so this one knows its id alone.
                client = self.local(key.id)
                error = self.refused(403, "Forbidden", inner, client.sign, SignatureAlgorithm.es256, digest(256))
                self.assertRegex(error.message, "Operation sign is not ")


class Management(KeysTestCase):
    def test_create_with_all_options(self):
        before = datetime.now(timezone.utc).replace(microsecond=0)
        expires = datetime(2041, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
        not_before = datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
        tags = {"owner": "someone", "Größe": "naïve", "empty": ""}
        made = self.client.create_key(
            "All-Options", KeyType.rsa_hsm, size=2048, public_exponent=65537, key_operations=[KeyOperation.sign], enabled=False,
            tags=tags, not_before=not_before, expires_on=expires, exportable=True, release_policy=KeyReleasePolicy(RELEASE_POLICY),
        )
        key = self.client.get_key("all-options")
        self.assertEqual((key.id, key.name, key.key.n), (made.id, "All-Options", made.key.n))
        self.assertEqual(key.id, f"{VAULT}/keys/All-Options/{key.properties.version}")
        self.assertRegex(key.properties.version, "^[0-9a-f]{32}$")
        self.assertEqual((key.key_type, key.key_operations), (KeyType.rsa_hsm, [KeyOperation.sign]))
        p = key.properties
        self.assertEqual((p.vault_url, p.enabled, p.exportable, p.hsm_platform), (VAULT, False, True, "0"))
        self.assertEqual((p.expires_on, p.not_before, p.tags), (expires, not_before, tags))
        self.assertGreaterEqual(p.created_on, before)
        self.assertEqual(p.created_on, p.updated_on)
        self.assertEqual((p.recovery_level, p.recoverable_days), ("CustomizedRecoverable+Purgeable", 7))
        self.assertIsNone(p.managed)
        self.assertEqual(p.release_policy.encoded_policy, CANONICAL_RELEASE_POLICY)

        plain = self.client.create_ec_key("plain").properties
        self.assertEqual((plain.exportable, plain.release_policy, plain.expires_on, plain.not_before), (False, None, None, None))

    def test_create_refused(self):
        for text, call, args, kwargs in (
            ("1024", self.client.create_rsa_key, ("never",), {"size": 1024}),
            ("P-224", self.client.create_ec_key, ("never",), {"curve": "P-224"}),
            ("oct-HSM", self.client.create_oct_key, ("never",), {}),
            ("OKP", self.client.create_key, ("never", "OKP"), {}),
            ("encrypt", self.client.create_ec_key, ("never",), {"key_operations": ["encrypt"]}),
            ("premium", self.other.create_rsa_key, ("never",), {"hardware_protected": True}),
            ("premium", self.other.create_oct_key, ("never",), {"hardware_protected": True}),
            ("AKV.SKR.1004", self.client.create_ec_key, ("never",), {"hardware_protected": True, "exportable": True}),
            ("AKV.SKR.1005", self.client.create_ec_key, ("never",), {"release_policy": KeyReleasePolicy(RELEASE_POLICY)}),
            ("invalid name", self.client.create_ec_key, ("under_score",), {}),
            ("invalid name", self.client.create_ec_key, ("n" * 128,), {}),
        ):
            with self.subTest(text=text, args=args, kwargs=kwargs):
                error = self.refused(400, "BadParameter", None, call, *args, **kwargs)
                self.assertIn(text, error.message)
        with self.assertRaises(ResourceNotFoundError):
            self.client.get_key("never")

    def test_import_refused(self):
        private = ec.generate_private_key(ec.SECP256R1())
        good, other = ec_jwk(private, KeyCurveName.p_256), ec_jwk(ec.generate_private_key(ec.SECP256R1()), KeyCurveName.p_256)
        for name, members in (
            ("no private part", {"d": None}),
            ("another point", {"x": other.x, "y": other.y}),
            ("no point", {"x": good.y, "y": good.x}),
            ("another curve", {"crv": "P-384"}),
        ):
            with self.subTest(name):
                jwk = ec_jwk(private, KeyCurveName.p_256)
                for member, value in members.items():
                    setattr(jwk, member, value)
                self.refused(400, "BadParameter", None, self.client.import_key, "never-imported", jwk)
        mixed = rsa_jwk(rsa.generate_private_key(65537, 2048))
        mixed.n = rsa_jwk(rsa.generate_private_key(65537, 2048)).n
        self.refused(400, "BadParameter", None, self.client.import_key, "never-imported", mixed)

    def test_versions(self):
        made = [self.client.create_ec_key("versions") for _ in range(3)]
        listed = list(self.client.list_properties_of_key_versions("versions"))
        self.assertEqual(sorted(p.id for p in listed), sorted(k.id for k in made))
        for key in made:
            self.assertEqual(self.client.get_key("versions", key.properties.version).key.x, key.key.x)
        self.assertEqual(self.client.get_key("versions").id, made[2].id)

    def test_update(self):
        first = self.client.create_rsa_key("update", tags={"a": "1"})
        second = self.client.create_rsa_key("update")
        expires = datetime(2042, 1, 1, tzinfo=timezone.utc)
        changed = self.client.update_key_properties(
            "update", first.properties.version, key_operations=[KeyOperation.decrypt], enabled=False, tags={"b": "2"},
            expires_on=expires, not_before=datetime(2002, 1, 1, tzinfo=timezone.utc),
        )
        self.assertEqual((changed.id, changed.key_operations), (first.id, [KeyOperation.decrypt]))
        read = self.client.get_key("update", first.properties.version).properties
        self.assertEqual((read.enabled, read.tags, read.expires_on, read.not_before.year), (False, {"b": "2"}, expires, 2002))
        self.client.update_key_properties("update", first.properties.version, enabled=True)
        read = self.client.get_key("update", first.properties.version).properties
        self.assertEqual((read.enabled, read.tags, read.expires_on), (True, {"b": "2"}, expires))
        self.assertIsNone(self.client.get_key("update").properties.tags)
        self.client.update_key_properties("update", tags={"c": "3"})
        self.assertEqual(self.client.get_key("update", second.properties.version).properties.tags, {"c": "3"})

    def test_paging(self):
        names = {f"page-{n:02}" for n in range(30)}
        for name in names:
            self.client.create_ec_key(name, tags={"n": name})
        pages = [list(page) for page in self.client.list_properties_of_keys().by_page()]
        listed = [p for page in pages for p in page]
        self.assertTrue(len(pages) >= 2 and all(len(page) <= 25 for page in pages))
        self.assertEqual(len({p.name for p in listed}), len(listed))
        self.assertLessEqual(names, {p.name for p in listed})
        for p in listed:
            if p.name in names:
                self.assertEqual((p.id, p.version, p.tags), (f"{VAULT}/keys/{p.name}", None, {"n": p.name}))

        pager = self.client.list_properties_of_keys(max_page_size=7).by_page()
        first = list(next(pager))
        self.assertEqual(len(first), 7)
        resumed = self.client.list_properties_of_keys(max_page_size=7).by_page(pager.continuation_token)
        rest = [p.name for page in resumed for p in page]
        self.assertFalse({p.name for p in first} & set(rest))
        self.assertLessEqual(names, {p.name for p in first} | set(rest))

        for _ in range(5):
            self.client.create_ec_key("many-versions")
        pages = [list(page) for page in self.client.list_properties_of_key_versions("many-versions", max_page_size=2).by_page()]
        self.assertEqual([len(page) for page in pages if page], [2, 2, 1])

    def test_delete_and_recover(self):
        made = [self.client.create_ec_key("recover") for _ in range(2)]
        deleting = self.client.begin_delete_key("recover")
        deleting.wait()
        deleted = deleting.result()
        self.assertEqual((deleted.id, deleted.recovery_id), (made[1].id, f"{VAULT}/deletedkeys/recover"))
        self.assertEqual(deleted.scheduled_purge_date - deleted.deleted_date, timedelta(days=7))
        self.refused(404, "KeyNotFound", None, self.client.get_key, "recover")
        with self.assertRaises(ResourceExistsError) as caught:
            self.client.create_ec_key("recover")
        self.assertEqual(inner_code(caught.exception), "ObjectIsDeletedButRecoverable")
        self.assertIn("is currently in a deleted but recoverable state", caught.exception.message)
        self.assertEqual(self.client.get_deleted_key("recover").key.x, made[1].key.x)
        self.assertIn("recover", {d.name for d in self.client.list_deleted_keys()})
        with self.assertRaises(HttpResponseError):
            self.local(made[1]).sign(SignatureAlgorithm.es256, digest(256))

        recovering = self.client.begin_recover_deleted_key("recover")
        recovering.wait()
        self.assertEqual(recovering.result().id, made[1].id)
        self.assertEqual({p.id for p in self.client.list_properties_of_key_versions("recover")}, {k.id for k in made})
        self.refused(404, "KeyNotFound", None, self.client.get_deleted_key, "recover")
        signature = self.remote(made[0]).sign(SignatureAlgorithm.es256, digest(256)).signature
        self.assertTrue(self.local(made[0]).verify(SignatureAlgorithm.es256, digest(256), signature).is_valid)
        self.refused(
            400, "MethodNotAllowed", "RequestNotAllowedOnNonDeletedObject", self.client.begin_recover_deleted_key, "recover"
        )

    def test_purge(self):
        names = {f"purge-{n}" for n in range(6)}
        for name in names:
            self.client.create_ec_key(name)
            self.client.begin_delete_key(name).wait()
        pages = [list(page) for page in self.client.list_deleted_keys(max_page_size=4).by_page()]
        self.assertTrue(all(len(page) <= 4 for page in pages))
        self.assertLessEqual(names, {d.name for page in pages for d in page})
        self.client.purge_deleted_key("purge-0")
        self.refused(404, "KeyNotFound", None, self.client.get_deleted_key, "purge-0")
        self.refused(404, "KeyNotFound", None, self.client.purge_deleted_key, "purge-0")
        self.client.create_ec_key("purge-0")
        self.assertEqual(len(list(self.client.list_properties_of_key_versions("purge-0"))), 1)

    def test_backup_and_restore(self):
        made = [self.client.create_ec_key("backup", tags={"n": str(n)}) for n in range(3)]
        blob = self.client.backup_key("backup")
        with self.assertRaises(ResourceExistsError):
            self.client.restore_key_backup(blob)
        self.client.begin_delete_key("backup").wait()
        with self.assertRaises(ResourceExistsError):
            self.client.restore_key_backup(blob)
        self.client.purge_deleted_key("backup")
        for at in (0, len(blob) // 2, len(blob) - 1):
            altered = bytearray(blob)
            altered[at] ^= 1
            self.refused(400, "BadParameter", None, self.client.restore_key_backup, bytes(altered))

        self.assertEqual(self.client.restore_key_backup(blob).id, made[2].id)
        for n, key in enumerate(made):
            read = self.client.get_key("backup", key.properties.version)
            self.assertEqual((read.id, read.key.x, read.properties.tags), (key.id, key.key.x, {"n": str(n)}))
            self.assertEqual(read.properties.created_on, key.properties.created_on)
            signature = self.remote(key).sign(SignatureAlgorithm.es256, digest(256)).signature
            self.assertTrue(self.local(key).verify(SignatureAlgorithm.es256, digest(256), signature).is_valid)

        elsewhere = self.other.restore_key_backup(blob)
        self.assertEqual(elsewhere.id, f"{OTHER_VAULT}/keys/backup/{made[2].properties.version}")
        self.assertEqual(self.other.get_key("backup", made[0].properties.version).key.x, made[0].key.x)

    def test_rotate(self):
        old = self.client.create_ec_key(
            "rotate", curve=KeyCurveName.p_521, hardware_protected=True, key_operations=[KeyOperation.sign], tags={"a": "1"}
        )
        new = self.client.rotate_key("rotate")
        self.assertNotEqual((new.id, new.key.x), (old.id, old.key.x))
        self.assertEqual(
            (new.key_type, new.key.crv, new.key_operations, new.properties.tags),
            (KeyType.ec_hsm, KeyCurveName.p_521, [KeyOperation.sign], {"a": "1"}),
        )
        self.assertEqual(self.client.get_key("rotate").id, new.id)
        self.assertEqual(len(list(self.client.list_properties_of_key_versions("rotate"))), 2)

    def test_rotation_policy(self):
        def actions(policy):
            return [(a.action, a.time_after_create, a.time_before_expiry) for a in policy.lifetime_actions]

        self.client.create_ec_key("policy")
        none = self.client.get_key_rotation_policy("policy")
        self.assertEqual((none.id, none.expires_in), (f"{VAULT}/keys/policy/rotationpolicy", None))
        self.assertEqual(actions(none), [(KeyRotationPolicyAction.notify, None, "P30D")])
        rotate = KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P2M")
        stored = self.client.update_key_rotation_policy("policy", KeyRotationPolicy(), lifetime_actions=[rotate], expires_in="P90D")
        # The service has a Notify in every policy.
        want = [(KeyRotationPolicyAction.rotate, "P2M", None), (KeyRotationPolicyAction.notify, None, "P30D")]
        for policy in (stored, self.client.get_key_rotation_policy("policy")):
            self.assertEqual((actions(policy), policy.expires_in), (want, "P90D"))
            self.assertIsNotNone(policy.created_on)
            self.assertIsNotNone(policy.updated_on)
        rotated = self.client.rotate_key("policy").properties
        self.assertEqual(rotated.expires_on - rotated.created_on, timedelta(days=90))
        # What was read can be written back.
        notify = KeyRotationLifetimeAction(KeyRotationPolicyAction.notify, time_before_expiry="P40D")
        again = self.client.update_key_rotation_policy("policy", stored, lifetime_actions=[notify])
        self.assertEqual((actions(again), again.expires_in), ([(KeyRotationPolicyAction.notify, None, "P40D")], "P90D"))
        for expires_in in ("P27D", "90 days"):
            policy = KeyRotationPolicy(expires_in=expires_in)
            self.refused(400, "BadParameter", None, self.client.update_key_rotation_policy, "policy", policy)

    def test_release_policy(self):
        key = self.client.create_ec_key(
            "exportable", hardware_protected=True, exportable=True, release_policy=KeyReleasePolicy(RELEASE_POLICY)
        )
        policy = key.properties.release_policy
        self.assertEqual(
            (policy.encoded_policy, policy.content_type, policy.immutable),
            (CANONICAL_RELEASE_POLICY, "application/json; charset=utf-8", False),
        )
        # What was read can be written back.
        policy.immutable = True
        changed = self.client.update_key_properties("exportable", release_policy=policy).properties.release_policy
        self.assertEqual((changed.encoded_policy, changed.immutable), (CANONICAL_RELEASE_POLICY, True))
        other = KeyReleasePolicy(RELEASE_POLICY.replace(b"attest.example", b"attest.test"))
        error = self.refused(400, "BadParameter", None, self.client.update_key_properties, "exportable", release_policy=other)
        self.assertIn("AKV.SKR.1020: Immutable Key Release Policy cannot be modified.", error.message)
        # No authority is trusted with the keys of this server.
        self.refused(403, "Forbidden", "KeyOperationForbidden", self.client.release_key, "exportable", "a.b.c")

    def test_managed_hsm_only(self):
        self.refused(400, "BadParameter", None, self.client.get_random_bytes, 16)
        self.client.create_ec_key("no-attestation")
        self.refused(400, "BadParameter", None, self.client.get_key_attestation, "no-attestation")

    def test_missing(self):
        known = self.client.create_ec_key("known").properties.version
        error = self.refused(404, "KeyNotFound", None, self.client.get_key, "never-made")
        self.assertIn("was not found in this key vault", error.message)
        self.assertIsInstance(error, ResourceNotFoundError)
        for call, args in (
            (self.client.get_key, ("known", "0" * 32)),
            (self.client.update_key_properties, ("never-made",)),
            (self.client.begin_delete_key, ("never-made",)),
            (self.client.begin_recover_deleted_key, ("never-made",)),
            (self.client.backup_key, ("never-made",)),
            (self.client.rotate_key, ("never-made",)),
            (self.client.get_key_rotation_policy, ("never-made",)),
            (self.other.get_key, ("known",)),
            (self.other.get_key, ("known", known)),
            (self.local(f"{VAULT}/keys/never-made").sign, (SignatureAlgorithm.es256, digest(256))),
        ):
            with self.subTest(call=call.__name__, args=args):
                self.refused(404, "KeyNotFound", None, call, *args)

    def test_unknown_vault(self):
        unknown = self.enterContext(self.key_client(os.environ["E2E_UNKNOWN_VAULT"], self.credential))
        with self.assertRaises(ResourceNotFoundError):
            unknown.get_key("any")

    def test_principal_without_rights(self):
        key = self.client.create_ec_key("not-yours")
        credential = self.enterContext(self.client_secret_credential(
            os.environ["AZURE_TENANT_ID"], os.environ["E2E_STRANGER_ID"], os.environ["E2E_STRANGER_SECRET"]
        ))
        stranger = self.enterContext(self.key_client(VAULT, credential))
        crypto = self.enterContext(self.cryptography_client(key.id, credential))
        for call, args in (
            (stranger.get_key, ("not-yours",)),
            (stranger.get_key, ("never-made",)),
            (stranger.create_ec_key, ("not-yours",)),
            (stranger.begin_delete_key, ("not-yours",)),
            (stranger.backup_key, ("not-yours",)),
            (stranger.rotate_key, ("not-yours",)),
            (lambda: list(stranger.list_properties_of_keys()), ()),
            (crypto.sign, (SignatureAlgorithm.es256, digest(256))),
        ):
            error = self.refused(403, "Forbidden", "ForbiddenByRbac", call, *args)
            self.assertRegex(error.message, "Caller is not authorized to perform action on resource")
            self.assertIn(os.environ["E2E_STRANGER_ID"], error.message)
        self.assertEqual(len(list(self.client.list_properties_of_key_versions("not-yours"))), 1)

    def test_every_version_of_the_api(self):
        """All that the package knows, from 2016-10-01 on."""
        newest_first = list(ApiVersion)
        for version in newest_first:
            with self.subTest(version):
                client = self.enterContext(self.key_client(VAULT, self.credential, api_version=version))
                name = "at-" + version.value.replace(".", "-")
                key = client.create_ec_key(name, tags={"v": version.value})
                crypto = self.enterContext(self.cryptography_client(key, self.credential, api_version=version))
                signature = crypto.sign(SignatureAlgorithm.es256, digest(256)).signature
                self.assertTrue(crypto.verify(SignatureAlgorithm.es256, digest(256), signature).is_valid)
                since_7_3 = newest_first.index(version) <= newest_first.index(ApiVersion.V7_3)
                self.assertIs(client.get_key(name).properties.exportable, False if since_7_3 else None)
                self.assertIn(name, {p.name for p in client.list_properties_of_keys()})
                self.assertEqual(client.begin_delete_key(name).result().name, name)
                self.assertEqual(client.begin_recover_deleted_key(name).result().properties.tags, {"v": version.value})


class CryptographyPackage(KeysTestCase):
    """The client's keys in the place of the package's own: the server signs and decrypts. Only this client has them."""

    def test_rsa(self):
        client = self.local(self.client.create_rsa_key("rsa-interface"))
        private, public = client.create_rsa_private_key(), client.create_rsa_public_key()
        signature = private.sign(PLAINTEXT, padding.PKCS1v15(), hashes.SHA256())
        public.public_numbers().public_key().verify(signature, PLAINTEXT, padding.PKCS1v15(), hashes.SHA256())
        with self.assertRaises(InvalidSignature):
            public.verify(flipped(signature), PLAINTEXT, padding.PKCS1v15(), hashes.SHA256())
        for pad in RSA_PADDINGS.values():
            self.assertEqual(private.decrypt(public.encrypt(PLAINTEXT, pad), pad), PLAINTEXT)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signed by a vault")])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(private, hashes.SHA256())
        self.assertTrue(request.is_signature_valid)


if __name__ == "__main__":
    unittest.main(verbosity=2)
