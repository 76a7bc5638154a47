"""Whatever credential the environment offers, found by DefaultAzureCredential of both clients, opens the vault.

E2E_CREDENTIAL is the class that must be the one which succeeded.
"""

import asyncio
import os
import unittest

from azure.identity import DefaultAzureCredential
from azure.identity.aio import DefaultAzureCredential as AsyncDefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from azure.keyvault.secrets.aio import SecretClient as AsyncSecretClient

VAULT = os.environ["E2E_VAULT"]
NAME = os.environ["E2E_SECRET_NAME"]


class Credential(unittest.TestCase):
    def succeeded(self, credential):
        """The chain remembers who gave the token."""
        return type(credential._successful_credential).__name__

    def test_sync(self):
        with DefaultAzureCredential() as credential, SecretClient(VAULT, credential) as client:
            stored = client.set_secret(NAME, "from the synchronous client")
            self.assertEqual(client.get_secret(NAME).id, stored.id)
            self.assertEqual(self.succeeded(credential), os.environ["E2E_CREDENTIAL"])

    def test_async(self):
        async def run():
            async with AsyncDefaultAzureCredential() as credential, AsyncSecretClient(VAULT, credential) as client:
                stored = await client.set_secret(NAME + "-async", "from the asynchronous client")
                self.assertEqual((await client.get_secret(NAME + "-async")).id, stored.id)
                self.assertEqual(self.succeeded(credential), os.environ["E2E_CREDENTIAL"])

        asyncio.run(run())


if __name__ == "__main__":
    unittest.main(verbosity=2)
