"""The client of a managed HSM's security domain, as an application uses it: azure-keyvault-securitydomain with
DefaultAzureCredential. The client knows nothing of what is in the file, so what its owners do with it is done here, with Python's
own cryptography package.

E2E_MANAGEMENT, E2E_SUBSCRIPTION, E2E_GROUP, E2E_TENANT, E2E_OBJECT and E2E_STRANGER_ID and _SECRET are those of
test_resources.py. E2E_HSM and E2E_OTHER_HSM are the addresses of two managed HSMs that are made here.
"""

import base64
import datetime
import hashlib
import hmac
import json
import os
import struct
import unittest
import urllib.parse
import uuid

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm
from azure.keyvault.securitydomain import SecurityDomainClient
from azure.keyvault.securitydomain.models import CertificateInfo, SecurityDomain, SecurityDomainJsonWebKey
from azure.mgmt.keyvault import KeyVaultManagementClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding as blocks, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MANAGEMENT = os.environ["E2E_MANAGEMENT"]
GROUP = os.environ["E2E_GROUP"]
TENANT = os.environ["E2E_TENANT"]
OBJECT = os.environ["E2E_OBJECT"]
HSM = os.environ["E2E_HSM"]
OTHER_HSM = os.environ["E2E_OTHER_HSM"]

CRYPTO_USER = "21dbd100-6940-42c2-9190-5d6cb909625b"
PLAINTEXT = b"32 bytes of nobody else's affair"
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


def encode(raw):
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Owner:
    """One of those who keep a part of the security domain."""

    def __init__(self, name):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        begin = datetime.datetime(2026, 1, 1)
        self.certificate = (
            x509.CertificateBuilder(subject, subject, self.key.public_key(), x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + datetime.timedelta(days=365))
            .sign(self.key, hashes.SHA256())
        )
        self.der = self.certificate.public_bytes(serialization.Encoding.DER)
        self.thumbprint = encode(hashlib.sha256(self.der).digest())

    def jwk(self):
        numbers = self.key.public_key().public_numbers()
        return SecurityDomainJsonWebKey(
            kid=self.certificate.subject.rfc4514_string(),
            kty="RSA",
            key_ops=["verify", "encrypt", "wrapKey"],
            n=encode(numbers.n.to_bytes(256, "big")),
            e=encode(numbers.e.to_bytes(3, "big")),
            x5_c=[base64.b64encode(self.der).decode()],
            use="enc",
            x5_t=encode(hashlib.sha1(self.der).digest()),
            x5_t_s256=self.thumbprint,
            alg="RSA-OAEP-256",
        )

    def share(self, file):
        """This owner's share of the key under which the domain is encrypted: pairs of x and f(x), one for each byte."""
        (sealed,) = [s["enc_key"] for s in file["SharedKeys"]["enc_shares"] if s["x5t_256"] == self.thumbprint]
        raw = open_jwe(sealed, self.key.decrypt(decode(sealed.split(".")[1]), OAEP))
        return [(word >> 9, word & 511) for (word,) in struct.iter_unpack("<H", raw)]


OWNERS = [Owner(f"owner {n}") for n in range(5)]


def mac(key, head, iv, content):
    data = head.encode() + iv + content + struct.pack(">Q", 8 * len(head))
    return hmac.new(key[:32], data, hashlib.sha512).digest()[:32]


def open_jwe(text, key):
    head, _, iv, content, tag = text.split(".")
    iv, content = decode(iv), decode(content)
    if not hmac.compare_digest(mac(key, head, iv, content), decode(tag)):
        raise ValueError("the tag is wrong")
    decryptor = Cipher(algorithms.AES(key[32:]), modes.CBC(iv)).decryptor()
    unpadder = blocks.PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(content) + decryptor.finalize()) + unpadder.finalize()


def seal_jwe(header, sealed_key, key, plaintext):
    head, iv = encode(json.dumps(header).encode()), os.urandom(16)
    padder = blocks.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key[32:]), modes.CBC(iv)).encryptor()
    content = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
    return ".".join([head, *map(encode, [sealed_key, iv, content, mac(key, head, iv, content)])])


def derive(key, label):
    return hmac.new(key, struct.pack(">I", 1) + label.encode() + b"\0" + struct.pack(">I", 512), hashlib.sha512).digest()


def combine(shares):
    secret = bytearray()
    for points in zip(*shares):
        byte = 0
        for i, (x, y) in enumerate(points):
            for j, (other, _) in enumerate(points):
                if i != j:
                    y = y * other * pow(other - x, -1, 257) % 257
            byte = (byte + y) % 257
        secret.append(byte)
    return bytes(secret)


def contents(text, *owners):
    """What is in a security domain, opened by some of its owners."""
    file = json.loads(text)
    key = combine([owner.share(file) for owner in owners])
    return {d["tag"]: open_jwe(d["compact_jwe"], derive(key, d["tag"])) for d in file["EncData"]["data"]}


def restore_blob(domain, transfer_key):
    """The same, for a managed HSM that gave out a transfer key."""
    der = base64.b64decode(json.loads(transfer_key)["x5c"][0])
    key, wrapping = os.urandom(32), os.urandom(64)
    wrapped = x509.load_der_x509_certificate(der).public_key().encrypt(wrapping, OAEP)
    header = {"enc": "A256CBC-HS512"}
    return json.dumps(
        {
            "EncData": {
                "data": [
                    {"compact_jwe": seal_jwe({**header, "alg": "dir", "kid": tag}, b"", derive(key, tag), value), "tag": tag}
                    for tag, value in domain.items()
                ],
                "kdf": "sp108_kdf",
            },
            "WrappedKey": {
                "enc_key": seal_jwe({**header, "alg": "RSA-OAEP-256", "kid": "not used"}, wrapped, wrapping, key),
                "x5t_256": encode(hashlib.sha256(der).digest()),
            },
        }
    )


class SecurityDomains(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.credential = DefaultAzureCredential()
        management = KeyVaultManagementClient(
            cls.credential, os.environ["E2E_SUBSCRIPTION"], base_url=MANAGEMENT, credential_scopes=[MANAGEMENT + "/.default"]
        )
        cls.addClassCleanup(cls.credential.close)
        with management:
            for url in (HSM, OTHER_HSM):
                name = urllib.parse.urlsplit(url).hostname.split(".")[0]
                made = management.managed_hsms.begin_create_or_update(
                    GROUP,
                    name,
                    {
                        "location": "local",
                        "sku": {"family": "B", "name": "Standard_B1"},
                        "properties": {"tenantId": TENANT, "initialAdminObjectIds": [OBJECT], "softDeleteRetentionInDays": 7},
                    },
                ).result()
                assert made.properties.hsm_uri.rstrip("/") == url, made.properties.hsm_uri

    def client(self, url, credential=None, **options):
        client = SecurityDomainClient(url, credential or self.credential, **options)
        self.addCleanup(client.close)
        return client

    def refused(self, status, pattern, call, *args, kind=HttpResponseError):
        with self.assertRaisesRegex(kind, pattern) as raised:
            call(*args)
        self.assertEqual(raised.exception.status_code, status)

    def download(self, client, owners, required, **options):
        info = CertificateInfo(certificates=[o.jwk() for o in owners], required=required)
        return client.begin_download(info, **options).result()

    def grant(self, client):
        """Gives the administrator the role with which keys can be made and used."""
        role = f"Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/{CRYPTO_USER}"
        path = f"/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
        body = {"properties": {"roleDefinitionId": role, "principalId": OBJECT}}
        client.send_request(HttpRequest("PUT", path, json=body)).raise_for_status()

    def test_two_hsms(self):
        one, other = self.client(HSM), self.client(OTHER_HSM)
        stranger = ClientSecretCredential(
            TENANT, os.environ["E2E_STRANGER_ID"], os.environ["E2E_STRANGER_SECRET"], disable_instance_discovery=True
        )
        self.addCleanup(stranger.close)

        # Nothing has been downloaded, and nobody else may.
        self.refused(404, "No security domain", one.get_download_status, kind=ResourceNotFoundError)
        self.refused(403, "HsmNotActivated|not activated", KeyClient(HSM, self.credential).get_key, "k")
        nobody = self.client(HSM, stranger)
        self.refused(403, "initial administrators", self.download, nobody, OWNERS[:3], 2)
        self.refused(403, "initial administrators", nobody.get_transfer_key)

        # What is wrong with the certificates is said by name, and activates nothing.
        self.refused(400, "BadParameter", self.download, one, OWNERS[:2], 2)
        self.refused(400, "BadParameter", self.download, one, OWNERS[:3], 4)
        self.refused(400, "BadParameter", self.download, one, [OWNERS[0], OWNERS[1], OWNERS[1]], 2)
        self.refused(404, "No security domain", one.get_download_status)

        domain = contents(self.download(one, OWNERS[:3], 2).value, OWNERS[2], OWNERS[0])
        self.assertEqual(list(domain), ["hsm_backup", "base_enclave_backup", "partition_enclave_backup"])
        for status in (one.get_download_status(), one.get_upload_status()):
            self.assertEqual((status.status, status.status_details), ("Success", "The resource is active."))
        # Another file for other owners has the same in it, by any version of the interface.
        again = self.download(self.client(HSM, api_version="7.5"), OWNERS, 3, skip_activation_polling=True)
        self.assertEqual(contents(again.value, *OWNERS[1:4]), domain)
        self.refused(409, "is active", one.get_transfer_key, kind=ResourceExistsError)
        self.refused(403, "Not authorized", nobody.get_download_status)

        # Another managed HSM gets the domain of this one.
        transfer_key = other.get_transfer_key()
        self.assertEqual(transfer_key.key_format, "jwk")
        self.assertEqual(other.get_transfer_key().transfer_key, transfer_key.transfer_key)
        self.refused(404, "No security domain", other.get_upload_status)
        blob = restore_blob(domain, transfer_key.transfer_key)
        self.refused(400, "BadParameter", other.begin_upload, SecurityDomain(value=blob[:-3] + "}"))
        foreign = restore_blob({**domain, "hsm_backup": b"of another make"}, transfer_key.transfer_key)
        self.refused(400, "BadParameter", other.begin_upload, SecurityDomain(value=foreign))
        partial = restore_blob({"hsm_backup": domain["hsm_backup"]}, transfer_key.transfer_key)
        self.refused(400, "BadParameter", other.begin_upload, SecurityDomain(value=partial))
        self.refused(404, "No security domain", other.get_upload_status)
        self.assertIsNone(other.begin_upload(SecurityDomain(value=blob)).result())
        self.assertEqual(other.get_upload_status().status, "Success")
        self.refused(409, "is active", other.begin_upload, SecurityDomain(value=blob), kind=ResourceExistsError)
        self.assertEqual(contents(self.download(other, OWNERS[:3], 3).value, *OWNERS[:3]), domain)

        # So a key's backup goes from the one to the other.
        for client in (one, other):
            self.grant(client)
        with KeyClient(HSM, self.credential) as keys, KeyClient(OTHER_HSM, self.credential) as restored:
            key = keys.create_rsa_key("k", size=2048, hardware_protected=True)
            sealed = CryptographyClient(key, self.credential).encrypt(EncryptionAlgorithm.rsa_oaep_256, PLAINTEXT)
            key = restored.restore_key_backup(keys.backup_key("k"))
            self.assertTrue(key.id.startswith(OTHER_HSM), key.id)
            opened = CryptographyClient(key, self.credential).decrypt(EncryptionAlgorithm.rsa_oaep_256, sealed.ciphertext)
            self.assertEqual(opened.plaintext, PLAINTEXT)


if __name__ == "__main__":
    unittest.main()
