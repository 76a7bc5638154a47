"""The synchronous client of azure-keyvault-secrets, as an application uses it: a URL and DefaultAzureCredential.

Everything else comes from the environment. E2E_VAULT is a vault of this program's own that keeps what was deleted for
seven days, E2E_OTHER_VAULT a second one, E2E_UNKNOWN_VAULT the address of none.
"""

import os
import unittest
from datetime import datetime, timedelta, timezone

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.keyvault.secrets import SecretClient

VAULT = os.environ["E2E_VAULT"]
OTHER_VAULT = os.environ["E2E_OTHER_VAULT"]


def inner_code(error):
    return (error.error.innererror or {}).get("code")


class Secrets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.credential = DefaultAzureCredential()
        cls.client = SecretClient(VAULT, cls.credential)
        cls.other = SecretClient(OTHER_VAULT, cls.credential)
        for closing in (cls.other, cls.client, cls.credential):
            cls.addClassCleanup(closing.close)

    def refused(self, status, code, inner, call, *args, **kwargs):
        with self.assertRaises(HttpResponseError) as caught:
            call(*args, **kwargs)
        error = caught.exception
        self.assertEqual((error.status_code, error.error.code, inner_code(error)), (status, code, inner), error)
        return error

    def test_round_trip(self):
        before = datetime.now(timezone.utc).replace(microsecond=0)
        stored = self.client.set_secret("round-trip", "first")
        self.assertEqual(stored.value, "first")
        self.assertEqual(stored.id, f"{VAULT}/secrets/round-trip/{stored.properties.version}")
        self.assertRegex(stored.properties.version, "^[0-9a-f]{32}$")
        self.assertEqual(stored.properties.vault_url, VAULT)
        self.assertIs(stored.properties.enabled, True)
        self.assertGreaterEqual(stored.properties.created_on, before)
        self.assertEqual(stored.properties.created_on, stored.properties.updated_on)
        self.assertEqual(stored.properties.recovery_level, "CustomizedRecoverable+Purgeable")
        self.assertEqual(stored.properties.recoverable_days, 7)
        self.assertIsNone(stored.properties.key_id)
        read = self.client.get_secret("round-trip")
        self.assertEqual((read.id, read.value), (stored.id, "first"))
        self.assertEqual(self.client.get_secret("ROUND-TRIP").value, "first")

    def test_properties(self):
        expires = datetime(2041, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
        not_before = datetime(2001, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
        tags = {"owner": "someone", "Größe": "naïve", "empty": ""}
        self.client.set_secret(
            "properties", "v", content_type="text/plain; charset=utf-8", tags=tags, expires_on=expires, not_before=not_before
        )
        got = self.client.get_secret("properties").properties
        self.assertEqual(got.content_type, "text/plain; charset=utf-8")
        self.assertEqual(got.tags, tags)
        self.assertEqual((got.expires_on, got.not_before), (expires, not_before))

    def test_outside_its_time_it_is_still_read(self):
        now = datetime.now(timezone.utc)
        self.client.set_secret("expired", "old", expires_on=now - timedelta(days=1))
        self.client.set_secret("future", "new", not_before=now + timedelta(days=1))
        self.assertEqual(self.client.get_secret("expired").value, "old")
        self.assertEqual(self.client.get_secret("future").value, "new")

    def test_any_text_up_to_25_kilobytes(self):
        for name, value in (
            ("unicode", "naïve \u2603 \U0001f511 \u0000 \r\n\t \"quoted\" \\ </script> \u2028"),
            ("empty", ""),
            ("largest", "x" * 25600),
            ("pem", "-----BEGIN X-----\nAAAA\n-----END X-----\n"),
        ):
            with self.subTest(name):
                self.client.set_secret("text-" + name, value)
                self.assertEqual(self.client.get_secret("text-" + name).value, value)
        self.refused(400, "BadParameter", None, self.client.set_secret, "text-too-large", "x" * 25601)

    def test_versions(self):
        stored = [self.client.set_secret("versions", f"value {n}") for n in range(3)]
        listed = list(self.client.list_properties_of_secret_versions("versions"))
        self.assertEqual({p.id for p in listed}, {s.id for s in stored})
        self.assertEqual(len(listed), 3)
        for n, s in enumerate(stored):
            self.assertEqual(self.client.get_secret("versions", s.properties.version).value, f"value {n}")
        self.assertEqual(self.client.get_secret("versions").id, stored[2].id)

    def test_update(self):
        first = self.client.set_secret("update", "v1", tags={"a": "1"})
        self.client.set_secret("update", "v2")
        changed = self.client.update_secret_properties(
            "update", first.properties.version, content_type="x/y", tags={"b": "2"},
            expires_on=datetime(2050, 1, 1, tzinfo=timezone.utc),
        )
        self.assertEqual(changed.version, first.properties.version)
        read = self.client.get_secret("update", first.properties.version)
        self.assertEqual((read.value, read.properties.content_type, read.properties.tags), ("v1", "x/y", {"b": "2"}))
        self.assertEqual(read.properties.expires_on.year, 2050)
        latest = self.client.get_secret("update")
        self.assertEqual((latest.value, latest.properties.content_type), ("v2", None))

    def test_disabled(self):
        self.client.set_secret("disabled", "hidden")
        self.client.update_secret_properties("disabled", enabled=False)
        error = self.refused(403, "Forbidden", "SecretDisabled", self.client.get_secret, "disabled")
        self.assertIn("Operation get is not allowed on a disabled secret.", error.message)
        self.client.update_secret_properties("disabled", enabled=True)
        self.assertEqual(self.client.get_secret("disabled").value, "hidden")
        self.client.set_secret("born-disabled", "hidden", enabled=False)
        self.refused(403, "Forbidden", "SecretDisabled", self.client.get_secret, "born-disabled")

    def test_paging(self):
        names = {f"page-{n:02}" for n in range(60)}
        for name in names:
            self.client.set_secret(name, "v", tags={"n": name})
        pages = [list(page) for page in self.client.list_properties_of_secrets().by_page()]
        listed = [p for page in pages for p in page]
        self.assertTrue(all(len(page) <= 25 for page in pages))
        self.assertGreaterEqual(len(pages), 3)
        self.assertEqual(len({p.name for p in listed}), len(listed))
        self.assertLessEqual(names, {p.name for p in listed})
        for p in listed:
            if p.name in names:
                self.assertEqual((p.id, p.version, p.tags), (f"{VAULT}/secrets/{p.name}", None, {"n": p.name}))

        pager = self.client.list_properties_of_secrets(max_page_size=7).by_page()
        first = list(next(pager))
        self.assertEqual(len(first), 7)
        resumed = self.client.list_properties_of_secrets(max_page_size=7).by_page(pager.continuation_token)
        rest = [p.name for page in resumed for p in page]
        self.assertFalse({p.name for p in first} & set(rest))
        self.assertLessEqual(names, {p.name for p in first} | set(rest))

        for _ in range(30):
            self.client.set_secret("many-versions", "v")
        pages = [list(page) for page in self.client.list_properties_of_secret_versions("many-versions", max_page_size=9).by_page()]
        self.assertEqual([len(page) for page in pages if page], [9, 9, 9, 3])

    def test_delete_and_recover(self):
        versions = {self.client.set_secret("recover", v).id for v in ("one", "two")}
        deleted = self.client.begin_delete_secret("recover").result()
        self.assertEqual(deleted.recovery_id, f"{VAULT}/deletedsecrets/recover")
        self.assertEqual(deleted.scheduled_purge_date - deleted.deleted_date, timedelta(days=7))
        self.refused(404, "SecretNotFound", None, self.client.get_secret, "recover")
        with self.assertRaises(ResourceExistsError) as caught:
            self.client.set_secret("recover", "three")
        self.assertEqual(inner_code(caught.exception), "ObjectIsDeletedButRecoverable")
        self.assertIn("is currently in a deleted but recoverable state", caught.exception.message)
        self.assertEqual(self.client.get_deleted_secret("recover").id, deleted.id)
        self.assertIn("recover", {d.name for d in self.client.list_deleted_secrets()})

        recovered = self.client.begin_recover_deleted_secret("recover").result()
        self.assertEqual(recovered.name, "recover")
        self.assertEqual(self.client.get_secret("recover").value, "two")
        self.assertEqual({p.id for p in self.client.list_properties_of_secret_versions("recover")}, versions)
        self.refused(404, "SecretNotFound", None, self.client.get_deleted_secret, "recover")

    def test_purge(self):
        names = {f"purge-{n:02}" for n in range(12)}
        for name in names:
            self.client.set_secret(name, "v")
        for name in names:
            self.client.begin_delete_secret(name).wait()
        pages = [list(page) for page in self.client.list_deleted_secrets(max_page_size=5).by_page()]
        self.assertTrue(all(len(page) <= 5 for page in pages))
        self.assertLessEqual(names, {d.name for page in pages for d in page})
        self.client.purge_deleted_secret("purge-00")
        self.refused(404, "SecretNotFound", None, self.client.get_deleted_secret, "purge-00")
        self.refused(404, "SecretNotFound", None, self.client.purge_deleted_secret, "purge-00")
        self.assertEqual(self.client.set_secret("purge-00", "again").value, "again")
        self.assertEqual(len(list(self.client.list_properties_of_secret_versions("purge-00"))), 1)

    def test_backup_and_restore(self):
        stored = [self.client.set_secret("backup", f"value {n}", tags={"n": str(n)}) for n in range(3)]
        blob = self.client.backup_secret("backup")
        self.assertNotIn(b"value 1", blob)
        with self.assertRaises(ResourceExistsError):
            self.client.restore_secret_backup(blob)
        self.client.begin_delete_secret("backup").wait()
        with self.assertRaises(ResourceExistsError):
            self.client.restore_secret_backup(blob)
        self.client.purge_deleted_secret("backup")
        for at in (0, len(blob) // 2, len(blob) - 1):
            altered = bytearray(blob)
            altered[at] ^= 1
            self.refused(400, "BadParameter", None, self.client.restore_secret_backup, bytes(altered))
        self.refused(400, "BadParameter", None, self.client.restore_secret_backup, blob[:-7])

        restored = self.client.restore_secret_backup(blob)
        self.assertEqual(restored.id, stored[2].id)
        for n, s in enumerate(stored):
            read = self.client.get_secret("backup", s.properties.version)
            self.assertEqual((read.id, read.value, read.properties.tags), (s.id, f"value {n}", {"n": str(n)}))
            self.assertEqual(read.properties.created_on, s.properties.created_on)

        elsewhere = self.other.restore_secret_backup(blob)
        self.assertEqual(elsewhere.id, f"{OTHER_VAULT}/secrets/backup/{stored[2].properties.version}")
        self.assertEqual(self.other.get_secret("backup", stored[0].properties.version).value, "value 0")

    def test_missing(self):
        known = self.client.set_secret("known", "v").properties.version
        error = self.refused(404, "SecretNotFound", None, self.client.get_secret, "never-set")
        self.assertIn("was not found in this key vault", error.message)
        self.assertIsInstance(error, ResourceNotFoundError)
        for call, args in (
            (self.client.get_secret, ("known", "0" * 32)),
            (self.client.update_secret_properties, ("never-set",)),
            (self.client.begin_delete_secret, ("never-set",)),
            (self.client.begin_recover_deleted_secret, ("never-set",)),
            (self.client.backup_secret, ("never-set",)),
            (self.other.get_secret, ("known",)),
            (self.other.get_secret, ("known", known)),
        ):
            with self.subTest(call=call.__name__, args=args):
                self.refused(404, "SecretNotFound", None, call, *args)

    def test_recover_what_is_not_deleted(self):
        self.client.set_secret("alive", "v")
        with self.assertRaises(HttpResponseError) as caught:
            self.client.begin_recover_deleted_secret("alive")
        self.assertEqual(caught.exception.status_code, 400, caught.exception)

    def test_bad_names(self):
        for name in ("under_score", "dot.ted", "n" * 128):
            with self.subTest(name):
                self.refused(400, "BadParameter", None, self.client.set_secret, name, "v")

    def test_unknown_vault(self):
        with SecretClient(os.environ["E2E_UNKNOWN_VAULT"], self.credential) as unknown:
            with self.assertRaises(ResourceNotFoundError):
                unknown.get_secret("any")

    def test_principal_without_rights(self):
        self.client.set_secret("not-yours", "v")
        with ClientSecretCredential(
            os.environ["AZURE_TENANT_ID"], os.environ["E2E_STRANGER_ID"], os.environ["E2E_STRANGER_SECRET"]
        ) as credential, SecretClient(VAULT, credential) as stranger:
            for call, args in (
                (stranger.get_secret, ("not-yours",)),
                (stranger.get_secret, ("never-set",)),
                (stranger.set_secret, ("not-yours", "mine")),
                (stranger.begin_delete_secret, ("not-yours",)),
                (stranger.backup_secret, ("not-yours",)),
                (lambda: list(stranger.list_properties_of_secrets()), ()),
            ):
                with self.assertRaises(HttpResponseError) as caught:
                    call(*args)
                error = caught.exception
                self.assertEqual((error.status_code, error.error.code), (403, "Forbidden"))
                self.assertEqual(inner_code(error), "ForbiddenByRbac")
                self.assertRegex(error.message, "Caller is not authorized to perform action on resource")
                self.assertIn(os.environ["E2E_STRANGER_ID"], error.message)
        self.assertEqual(self.client.get_secret("not-yours").value, "v")


if __name__ == "__main__":
    unittest.main(verbosity=2)
