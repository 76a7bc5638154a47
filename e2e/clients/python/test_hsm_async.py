"""The asynchronous clients of azure-keyvault-administration, and of keys on a managed HSM, behind a face that waits for each answer."""

import asyncio
import unittest

import azure.identity.aio
import azure.keyvault.administration.aio
import azure.keyvault.keys.aio
import azure.keyvault.keys.crypto.aio
import azure.keyvault.secrets.aio
import test_hsm
from waiting import Waiting

# Where the asynchronous class of the same name is.
MODULES = {
    "DefaultAzureCredential": azure.identity.aio,
    "ClientSecretCredential": azure.identity.aio,
    "KeyVaultAccessControlClient": azure.keyvault.administration.aio,
    "KeyVaultSettingsClient": azure.keyvault.administration.aio,
    "KeyVaultBackupClient": azure.keyvault.administration.aio,
    "KeyClient": azure.keyvault.keys.aio,
    "CryptographyClient": azure.keyvault.keys.crypto.aio,
    "SecretClient": azure.keyvault.secrets.aio,
}


class Asynchronous:
    @classmethod
    def setUpClass(cls):
        cls.runner = cls.enterClassContext(asyncio.Runner())
        super().setUpClass()

    @classmethod
    def make(cls, kind, *args, **kwargs):
        # What is asynchronous belongs to the loop that was running when it was made.
        async def make():
            inner = [arg.inner if isinstance(arg, Waiting) else arg for arg in args]
            return getattr(MODULES[kind.__name__], kind.__name__)(*inner, **kwargs)

        return Waiting(cls.runner.run(make()), cls.runner)


class AsyncAccess(Asynchronous, test_hsm.Access):
    pass


class AsyncSettings(Asynchronous, test_hsm.Settings):
    pass


class AsyncKeys(Asynchronous, test_hsm.Keys):
    pass


if __name__ == "__main__":
    unittest.main(verbosity=2)
