"""The asynchronous clients of azure-keyvault-keys: other code than the synchronous ones (aiohttp, its own policies, pagers and
token requests). They go through the same tests behind a face that waits for each answer, and then do many things at once.
"""

import asyncio
import unittest

import test_keys
from azure.identity.aio import ClientSecretCredential, DefaultAzureCredential
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto import EncryptionAlgorithm, SignatureAlgorithm
from azure.keyvault.keys.crypto.aio import CryptographyClient

from test_keys import PLAINTEXT, VAULT, digest
from waiting import Waiting


class Asynchronous:
    @classmethod
    def setUpClass(cls):
        cls.runner = cls.enterClassContext(asyncio.Runner())
        super().setUpClass()

    @classmethod
    def behind_face(cls, kind, *args, **kwargs):
        # What is asynchronous belongs to the loop that was running when it was made.
        async def make():
            return kind(*args, **kwargs)

        return Waiting(cls.runner.run(make()), cls.runner)

    @classmethod
    def default_credential(cls):
        return cls.behind_face(DefaultAzureCredential)

    @classmethod
    def client_secret_credential(cls, *args):
        return cls.behind_face(ClientSecretCredential, *args)

    @classmethod
    def key_client(cls, vault, credential, **kwargs):
        return cls.behind_face(KeyClient, vault, credential.inner, **kwargs)

    @classmethod
    def cryptography_client(cls, key, credential, **kwargs):
        return cls.behind_face(CryptographyClient, key, credential.inner, **kwargs)

    @classmethod
    def without_server(cls, jwk):
        return cls.behind_face(CryptographyClient.from_jwk, jwk)


class AsyncCryptography(Asynchronous, test_keys.Cryptography):
    pass


class AsyncManagement(Asynchronous, test_keys.Management):
    pass


class ManyAtOnce(unittest.IsolatedAsyncioTestCase):
    async def test_operations(self):
        credential = await self.enterAsyncContext(DefaultAzureCredential())
        client = await self.enterAsyncContext(KeyClient(VAULT, credential))
        names = [f"at-once-{n}" for n in range(12)]
        made = await asyncio.gather(*(client.create_ec_key(name) for name in names))
        self.assertEqual(sorted(key.name for key in made), sorted(names))
        signers = [await self.enterAsyncContext(CryptographyClient(key, credential)) for key in made]
        signed = await asyncio.gather(*(signer.sign(SignatureAlgorithm.es256, digest(256)) for signer in signers))
        for n, result in enumerate(signed):
            self.assertEqual(result.key_id, made[n].id)
            for m, verifier in enumerate(signers):
                verified = await verifier.verify(SignatureAlgorithm.es256, digest(256), result.signature)
                self.assertIs(verified.is_valid, n == m)

        key = await client.create_rsa_key("at-once")
        crypto = await self.enterAsyncContext(CryptographyClient(key, credential))
        messages = [PLAINTEXT + bytes([n]) for n in range(20)]
        sealed = await asyncio.gather(*(crypto.encrypt(EncryptionAlgorithm.rsa_oaep_256, m) for m in messages))
        opened = await asyncio.gather(*(crypto.decrypt(s.algorithm, s.ciphertext) for s in sealed))
        self.assertEqual([o.plaintext for o in opened], messages)


if __name__ == "__main__":
    unittest.main(verbosity=2)
