"""The asynchronous client of azure-keyvault-secrets: other code than the synchronous one (aiohttp, its own policies,
pollers and token requests), so it goes through the main roads again. The variables are those of test_secrets.py.
"""

import os
import unittest
from datetime import datetime, timedelta, timezone

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity.aio import ClientSecretCredential, DefaultAzureCredential
from azure.keyvault.secrets.aio import SecretClient

VAULT = os.environ["E2E_VAULT"]
OTHER_VAULT = os.environ["E2E_OTHER_VAULT"]


def inner_code(error):
    return (error.error.innererror or {}).get("code")


class AsyncSecrets(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.credential = await self.enterAsyncContext(DefaultAzureCredential())
        self.client = await self.enterAsyncContext(SecretClient(VAULT, self.credential))
        self.other = await self.enterAsyncContext(SecretClient(OTHER_VAULT, self.credential))

    async def refused(self, status, code, inner, awaitable):
        with self.assertRaises(HttpResponseError) as caught:
            await awaitable
        error = caught.exception
        self.assertEqual((error.status_code, error.error.code, inner_code(error)), (status, code, inner), error)
        return error

    async def test_round_trip(self):
        expires = datetime(2041, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
        value = "naïve \u2603 \U0001f511" + "x" * 25000
        stored = await self.client.set_secret(
            "round-trip", value, content_type="text/plain", tags={"k": "v"}, expires_on=expires, not_before=expires - timedelta(days=1)
        )
        read = await self.client.get_secret("round-trip", stored.properties.version)
        self.assertEqual((read.id, read.value), (stored.id, value))
        self.assertEqual(read.id, f"{VAULT}/secrets/round-trip/{read.properties.version}")
        self.assertEqual((read.properties.content_type, read.properties.tags), ("text/plain", {"k": "v"}))
        self.assertEqual((read.properties.expires_on, read.properties.not_before), (expires, expires - timedelta(days=1)))
        await self.refused(400, "BadParameter", None, self.client.set_secret("too-large", "x" * 25601))

    async def test_update_and_disable(self):
        first = await self.client.set_secret("update", "v1")
        await self.client.set_secret("update", "v2")
        changed = await self.client.update_secret_properties("update", first.properties.version, enabled=False, tags={"a": "b"})
        self.assertEqual((changed.version, changed.enabled, changed.tags), (first.properties.version, False, {"a": "b"}))
        await self.refused(403, "Forbidden", "SecretDisabled", self.client.get_secret("update", first.properties.version))
        self.assertEqual((await self.client.get_secret("update")).value, "v2")
        listed = [p.enabled async for p in self.client.list_properties_of_secret_versions("update")]
        self.assertEqual(sorted(listed), [False, True])

    async def test_paging(self):
        names = {f"page-{n:02}" for n in range(60)}
        for name in names:
            await self.client.set_secret(name, "v")
        seen, sizes = set(), []
        async for page in self.client.list_properties_of_secrets(max_page_size=11).by_page():
            items = [p.name async for p in page]
            sizes.append(len(items))
            seen.update(items)
        self.assertLessEqual(names, seen)
        self.assertEqual(sum(sizes), len(seen))
        self.assertLessEqual(max(sizes), 11)

    async def test_delete_recover_purge(self):
        await self.client.set_secret("life", "v")
        deleted = await self.client.delete_secret("life")
        self.assertEqual(deleted.scheduled_purge_date - deleted.deleted_date, timedelta(days=7))
        await self.refused(404, "SecretNotFound", None, self.client.get_secret("life"))
        await self.refused(409, "Conflict", "ObjectIsDeletedButRecoverable", self.client.set_secret("life", "again"))
        self.assertIn("life", [d.name async for d in self.client.list_deleted_secrets()])
        self.assertEqual((await self.client.recover_deleted_secret("life")).name, "life")
        self.assertEqual((await self.client.get_secret("life")).value, "v")
        await self.client.delete_secret("life")
        await self.client.purge_deleted_secret("life")
        with self.assertRaises(ResourceNotFoundError):
            await self.client.get_deleted_secret("life")

    async def test_backup_and_restore(self):
        stored = [await self.client.set_secret("backup", f"value {n}") for n in range(2)]
        blob = await self.client.backup_secret("backup")
        with self.assertRaises(ResourceExistsError):
            await self.client.restore_secret_backup(blob)
        await self.refused(400, "BadParameter", None, self.client.restore_secret_backup(blob[:-1] + bytes([blob[-1] ^ 1])))
        self.assertTrue((await self.other.restore_secret_backup(blob)).id.startswith(OTHER_VAULT))
        self.assertEqual((await self.other.get_secret("backup", stored[0].properties.version)).value, "value 0")
        await self.client.delete_secret("backup")
        await self.client.purge_deleted_secret("backup")
        self.assertEqual((await self.client.restore_secret_backup(blob)).id, stored[1].id)

    async def test_principal_without_rights(self):
        async with ClientSecretCredential(
            os.environ["AZURE_TENANT_ID"], os.environ["E2E_STRANGER_ID"], os.environ["E2E_STRANGER_SECRET"]
        ) as credential, SecretClient(VAULT, credential) as stranger:
            with self.assertRaises(HttpResponseError) as caught:
                await stranger.get_secret("any")
        self.assertEqual((caught.exception.status_code, caught.exception.error.code), (403, "Forbidden"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
