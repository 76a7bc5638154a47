"""What is particular to managed HSMs, as an application uses it: azure-keyvault-administration and azure-keyvault-keys with
DefaultAzureCredential.

E2E_HSM is an active managed HSM of this program's own, E2E_OTHER_HSM another with the same security domain, E2E_VAULT an ordinary vault;
E2E_OBJECT is the object id of their administrator, E2E_STRANGER_OBJECT that of an application without roles, and E2E_STRANGER_ID and
_SECRET are what it signs in with.
"""

import hashlib
import os
import unittest
import uuid

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.keyvault.administration import (
    ApiVersion,
    KeyVaultAccessControlClient,
    KeyVaultBackupClient,
    KeyVaultDataAction,
    KeyVaultPermission,
    KeyVaultRoleScope,
    KeyVaultSetting,
    KeyVaultSettingsClient,
)
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm
from azure.keyvault.secrets import SecretClient

HSM = os.environ["E2E_HSM"]
OTHER_HSM = os.environ["E2E_OTHER_HSM"]
OBJECT = os.environ["E2E_OBJECT"]
STRANGER = os.environ["E2E_STRANGER_OBJECT"]

DEFINITIONS = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/"
ADMINISTRATOR = "a290e904-7015-4bba-90c8-60543313cdb4"
CRYPTO_OFFICER = "515eb02d-2335-4d2d-92f2-b1cbdf9c3778"
CRYPTO_USER = "21dbd100-6940-42c2-9190-5d6cb909625b"
SETTING = "AllowKeyManagementOperationsThroughARM"
PLAINTEXT = b"32 bytes of nobody else's affair"
DIGEST = hashlib.sha256(PLAINTEXT).digest()


class OnHSM(unittest.TestCase):
    """The clients, and who may use them. The asynchronous tests make others."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.credential = cls.make(DefaultAzureCredential)
        cls.addClassCleanup(cls.credential.__exit__, None, None, None)
        cls.access = cls.client(KeyVaultAccessControlClient)
        # The initial administrator has no right to use keys, but to give it to itself.
        for url in (HSM, OTHER_HSM):
            access = cls.client(KeyVaultAccessControlClient, url)
            have = {a.properties.role_definition_id for a in access.list_role_assignments("/") if a.properties.principal_id == OBJECT}
            for role in (CRYPTO_USER, CRYPTO_OFFICER):
                if DEFINITIONS + role not in have:
                    access.create_role_assignment("/", DEFINITIONS + role, OBJECT)

    @classmethod
    def make(cls, kind, *args, **kwargs):
        return kind(*args, **kwargs)

    @classmethod
    def client(cls, kind, url=HSM, credential=None, **kwargs):
        client = cls.make(kind, url, credential or cls.credential, **kwargs)
        cls.addClassCleanup(client.__exit__, None, None, None)
        return client

    @classmethod
    def stranger(cls):
        credential = cls.make(
            ClientSecretCredential, os.environ["AZURE_TENANT_ID"], os.environ["E2E_STRANGER_ID"], os.environ["E2E_STRANGER_SECRET"]
        )
        cls.addClassCleanup(credential.__exit__, None, None, None)
        return credential

    @classmethod
    def crypto(cls, key, credential=None):
        return cls.make(CryptographyClient, key, credential or cls.credential)

    def refused(self, status, pattern, call, *args, kind=HttpResponseError, **kwargs):
        with self.assertRaisesRegex(kind, pattern) as raised:
            call(*args, **kwargs)
        self.assertEqual(raised.exception.status_code, status)


class Access(OnHSM):
    def test_built_in_roles(self):
        found = {d.name: d for d in self.access.list_role_definitions(KeyVaultRoleScope.GLOBAL) if d.role_type == "AKVBuiltInRole"}
        self.assertEqual(len(found), 9)
        for name, title in ((ADMINISTRATOR, "Administrator"), (CRYPTO_OFFICER, "Crypto Officer"), (CRYPTO_USER, "Crypto User")):
            self.assertEqual(found[name].role_name, "Managed HSM " + title)
            self.assertEqual(found[name].id, DEFINITIONS + name)
            self.assertEqual(found[name].assignable_scopes, ["/"])
            one = self.access.get_role_definition(KeyVaultRoleScope.GLOBAL, name)
            self.assertEqual((one.role_name, one.permissions[0].data_actions), (found[name].role_name, found[name].permissions[0].data_actions))
        self.assertIn(KeyVaultDataAction.SIGN_HSM_KEY.value, found[CRYPTO_USER].permissions[0].data_actions)
        self.refused(
            400, "BadParameter", self.access.set_role_definition, "/", name=CRYPTO_USER, role_name="mine", permissions=[]
        )
        self.refused(400, "BadParameter", self.access.set_role_definition, "/", name="no-guid", role_name="mine", permissions=[])

    def test_own_role(self):
        actions = [KeyVaultDataAction.READ_HSM_KEY, KeyVaultDataAction.ENCRYPT_HSM_KEY]
        made = self.access.set_role_definition(
            "/", role_name="Reader by " + type(self).__name__, description="reads", permissions=[KeyVaultPermission(data_actions=actions)]
        )
        self.assertEqual(str(uuid.UUID(made.name)), made.name)
        self.assertEqual((made.role_type, made.description, made.assignable_scopes), ("CustomRole", "reads", ["/"]))
        self.assertEqual(made.permissions[0].data_actions, [a.value for a in actions])
        self.assertEqual(self.access.get_role_definition("/", made.name).id, made.id)
        changed = self.access.set_role_definition(
            "/", name=made.name, permissions=[KeyVaultPermission(data_actions=[], not_data_actions=actions[1:])]
        )
        self.assertEqual((changed.id, changed.role_name, changed.description), (made.id, "", ""))
        self.assertEqual(changed.permissions[0].data_actions, [])
        self.assertEqual(changed.permissions[0].not_data_actions, [a.value for a in actions[1:]])
        self.assertIn(made.name, [d.name for d in self.access.list_role_definitions("/")])
        self.access.delete_role_definition("/", made.name)
        self.access.delete_role_definition("/", made.name)  # the client passes over that it is gone
        self.refused(404, "not found", self.access.get_role_definition, "/", made.name, kind=ResourceNotFoundError)

    def test_assignments(self):
        for scope in (KeyVaultRoleScope.GLOBAL, KeyVaultRoleScope.KEYS, "/keys/one"):
            with self.subTest(scope=scope):
                made = self.access.create_role_assignment(scope, DEFINITIONS + CRYPTO_USER, STRANGER)
                p = made.properties
                self.assertEqual((p.principal_id, p.role_definition_id, p.scope), (STRANGER, DEFINITIONS + CRYPTO_USER, scope))
                self.assertEqual(self.access.get_role_assignment(scope, made.name).role_assignment_id, made.role_assignment_id)
                self.assertIn(made.name, [a.name for a in self.access.list_role_assignments(scope)])
                if scope == KeyVaultRoleScope.GLOBAL:
                    self.refused(
                        400, "RoleAssignmentExists", self.access.create_role_assignment, scope, DEFINITIONS + CRYPTO_USER, STRANGER
                    )
                self.access.delete_role_assignment(scope, made.name)
                self.access.delete_role_assignment(scope, made.name)
                self.refused(404, "not found", self.access.get_role_assignment, scope, made.name, kind=ResourceNotFoundError)
        name = str(uuid.uuid4())
        made = self.access.create_role_assignment("/keys", DEFINITIONS + CRYPTO_OFFICER, STRANGER, name=name)
        self.assertEqual(made.name, name)
        self.access.delete_role_assignment("/keys", name)

    def test_what_a_role_opens(self):
        keys = self.client(KeyClient)
        mine, theirs = keys.create_ec_key("mine", hardware_protected=True), keys.create_ec_key("theirs", hardware_protected=True)
        stranger = self.stranger()
        sign = lambda key: self.crypto(key.id, stranger).sign(SignatureAlgorithm.es256, DIGEST)
        self.refused(403, "AccessDenied", sign, theirs)
        made = self.access.create_role_assignment("/keys/theirs", DEFINITIONS + CRYPTO_USER, STRANGER)
        self.assertIs(self.crypto(theirs).verify(SignatureAlgorithm.es256, DIGEST, sign(theirs).signature).is_valid, True)
        self.refused(403, "AccessDenied", sign, mine)
        self.access.delete_role_assignment("/keys/theirs", made.name)
        self.refused(403, "AccessDenied", sign, theirs)
        nobody = self.client(KeyVaultAccessControlClient, credential=stranger)
        self.refused(403, "AccessDenied", list, nobody.list_role_definitions("/"))
        self.refused(403, "AccessDenied", nobody.create_role_assignment, "/", DEFINITIONS + ADMINISTRATOR, STRANGER)

    def test_ordinary_vault(self):
        vault = os.environ["E2E_VAULT"]
        pattern = "BadParameter(.|\n)*managed HSM"
        self.refused(400, pattern, list, self.client(KeyVaultAccessControlClient, vault).list_role_definitions("/"))
        settings = self.client(KeyVaultSettingsClient, vault)
        self.refused(400, pattern, lambda: list(settings.list_settings()))
        backups = self.client(KeyVaultBackupClient, vault)
        self.refused(400, pattern, backups.begin_backup, "https://account.blob.core.windows.net/c", sas_token="sig=x")
        self.refused(400, pattern, backups.begin_restore, "https://account.blob.core.windows.net/c/f", sas_token="sig=x")

    def test_every_api_version(self):
        for version in ApiVersion:
            with self.subTest(version=version):
                access = self.client(KeyVaultAccessControlClient, api_version=version)
                self.assertEqual(access.get_role_definition("/", CRYPTO_USER).role_name, "Managed HSM Crypto User")


class Settings(OnHSM):
    def test_settings(self):
        client = self.client(KeyVaultSettingsClient)
        (setting,) = client.list_settings()
        self.assertEqual((setting.name, setting.setting_type, setting.value), (SETTING, "boolean", "false"))
        for value in (True, False):
            changed = client.update_setting(KeyVaultSetting(name=SETTING, value=value))
            self.assertIs(changed.getboolean(), value)
            self.assertIs(client.get_setting(SETTING).getboolean(), value)
        self.refused(400, "BadParameter", client.update_setting, KeyVaultSetting(name=SETTING, value="perhaps"))
        self.refused(404, "", client.get_setting, "nothing", kind=ResourceNotFoundError)
        nobody = self.client(KeyVaultSettingsClient, credential=self.stranger())
        self.refused(403, "AccessDenied", nobody.update_setting, KeyVaultSetting(name=SETTING, value=True))


class Keys(OnHSM):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.keys = cls.client(KeyClient)

    def test_sign(self):
        for key, algorithm in (
            (self.keys.create_rsa_key("rsa", size=2048, hardware_protected=True), SignatureAlgorithm.rs256),
            (self.keys.create_rsa_key("rsa-soft", size=2048), SignatureAlgorithm.ps256),
            (self.keys.create_ec_key("ec", hardware_protected=True), SignatureAlgorithm.es256),
            (self.keys.create_ec_key("ec-koblitz", curve="P-256K", hardware_protected=True), SignatureAlgorithm.es256_k),
        ):
            with self.subTest(algorithm=algorithm):
                self.assertRegex(key.key_type, "-HSM$")
                signed = self.crypto(key).sign(algorithm, DIGEST)
                self.assertEqual((signed.key_id, signed.algorithm), (key.id, algorithm))
                # The client verifies by itself what it can.
                verify = self.crypto(key).verify
                self.assertIs(verify(algorithm, DIGEST, signed.signature).is_valid, True)
                self.assertIs(verify(algorithm, bytes(32), signed.signature).is_valid, False)

    def test_encrypt(self):
        rsa = self.crypto(self.keys.create_rsa_key("rsa-encrypt", size=2048, hardware_protected=True))
        sealed = rsa.encrypt(EncryptionAlgorithm.rsa_oaep_256, PLAINTEXT)
        self.assertEqual(rsa.decrypt(EncryptionAlgorithm.rsa_oaep_256, sealed.ciphertext).plaintext, PLAINTEXT)
        for size in (128, 192, 256):
            key = self.keys.create_oct_key(f"oct-{size}", size=size, hardware_protected=True)
            self.assertEqual(key.key_type, "oct-HSM")
            crypto = self.crypto(key)
            sealed = crypto.encrypt(getattr(EncryptionAlgorithm, f"a{size}_gcm"), PLAINTEXT, additional_authenticated_data=b"aad")
            opened = crypto.decrypt(
                sealed.algorithm,
                sealed.ciphertext,
                iv=sealed.iv,
                authentication_tag=sealed.tag,
                additional_authenticated_data=b"aad",
            )
            self.assertEqual(opened.plaintext, PLAINTEXT)
            wrap = getattr(KeyWrapAlgorithm, f"aes_{size}")
            self.assertEqual(crypto.unwrap_key(wrap, crypto.wrap_key(wrap, PLAINTEXT).encrypted_key).key, PLAINTEXT)

    def test_random(self):
        self.assertEqual([len(self.keys.get_random_bytes(n)) for n in (1, 128)], [1, 128])
        self.assertNotEqual(self.keys.get_random_bytes(32), self.keys.get_random_bytes(32))
        self.refused(400, "BadParameter", self.keys.get_random_bytes, 129)

    def test_lifetime(self):
        for _ in range(2):
            self.keys.create_ec_key("lifetime", hardware_protected=True)
        last = self.keys.rotate_key("lifetime")
        self.assertEqual(len(list(self.keys.list_properties_of_key_versions("lifetime"))), 3)
        self.assertIn("lifetime", [k.name for k in self.keys.list_properties_of_keys()])
        self.keys.begin_delete_key("lifetime").wait()
        self.assertIn("lifetime", [k.name for k in self.keys.list_deleted_keys()])
        self.assertEqual(self.keys.begin_recover_deleted_key("lifetime").result().id, last.id)
        self.keys.begin_delete_key("lifetime").wait()
        self.keys.purge_deleted_key("lifetime")
        self.refused(404, "KeyNotFound", self.keys.get_deleted_key, "lifetime", kind=ResourceNotFoundError)

    def test_backup(self):
        first = self.keys.create_ec_key("backup", hardware_protected=True)
        self.keys.create_ec_key("backup", hardware_protected=True)
        signed = self.crypto(first).sign(SignatureAlgorithm.es256, DIGEST)
        blob = self.keys.backup_key("backup")
        other = self.client(KeyClient, OTHER_HSM)
        altered = bytearray(blob)
        altered[len(blob) // 2] ^= 1
        self.refused(400, "BadParameter", other.restore_key_backup, bytes(altered))
        restored = other.restore_key_backup(blob)
        self.assertTrue(restored.id.startswith(OTHER_HSM), restored.id)
        self.assertEqual(len(list(other.list_properties_of_key_versions("backup"))), 2)
        there = self.crypto(other.get_key("backup", first.properties.version).id)
        self.assertIs(there.verify(SignatureAlgorithm.es256, DIGEST, signed.signature).is_valid, True)
        self.refused(409, "Conflict", other.restore_key_backup, blob)

    def test_no_secrets(self):
        self.refused(400, "managed HSM", self.client(SecretClient).get_secret, "any")

    def test_nobody(self):
        nobody = self.client(KeyClient, credential=self.stranger())
        self.refused(403, "AccessDenied", nobody.create_ec_key, "nobodys")
        self.refused(403, "AccessDenied", nobody.get_random_bytes, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
