"""Full backups and restores of managed HSMs with azure-keyvault-administration and DefaultAzureCredential.

E2E_HSM and E2E_OTHER_HSM are managed HSMs of this program's own with one security domain, E2E_FOREIGN_HSM has another; E2E_OBJECT is the
object id of their administrator. E2E_CONTAINER is the address of a blob container, which E2E_SAS opens and E2E_EXPIRED_SAS did;
E2E_MISSING_CONTAINER and E2E_MISSING_SAS are for one that there is not.
"""

import os
import unittest

from azure.core.exceptions import HttpResponseError
from azure.keyvault.administration import KeyVaultAccessControlClient, KeyVaultBackupClient, KeyVaultSetting, KeyVaultSettingsClient
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import SignatureAlgorithm
from test_hsm import DIGEST, OTHER_HSM, SETTING, OnHSM

FOREIGN_HSM = os.environ["E2E_FOREIGN_HSM"]
CONTAINER = os.environ["E2E_CONTAINER"]
SAS = os.environ["E2E_SAS"]


class Backups(OnHSM):
    def fails(self, pattern, begin, *args, **kwargs):
        """Starting the job is refused, or the job fails: this client has one exception for both."""
        with self.assertRaisesRegex(HttpResponseError, pattern):
            begin(*args, **kwargs).result()

    def test_backup_and_restore(self):
        keys, there = self.client(KeyClient), self.client(KeyClient, OTHER_HSM)
        here, other = self.client(KeyVaultBackupClient), self.client(KeyVaultBackupClient, OTHER_HSM)
        first = keys.create_ec_key("kept", hardware_protected=True)
        keys.create_ec_key("kept", hardware_protected=True, tags={"version": "two"})
        keys.create_rsa_key("rsa", size=2048, hardware_protected=True)
        keys.create_oct_key("oct", size=256, hardware_protected=True)
        signed = self.crypto(first).sign(SignatureAlgorithm.es256, DIGEST)
        role = self.access.set_role_definition("/", role_name="In the backup", permissions=[])
        self.client(KeyVaultSettingsClient).update_setting(KeyVaultSetting(name=SETTING, value=True))

        self.assertIsNone(here.begin_pre_backup(CONTAINER, sas_token=SAS).result())
        poller = here.begin_backup(CONTAINER, sas_token=SAS)
        # The client can follow a job by its token; of one that has ended by then it cannot read the result.
        again = here.begin_backup(CONTAINER, sas_token=SAS, continuation_token=poller.continuation_token())
        again.wait()
        self.assertEqual(again.status(), "Succeeded")
        folder = poller.result().folder_url
        self.assertRegex(folder, "^" + CONTAINER + r"/mhsm-[a-z-]+-\d{16}$")

        # What cannot work says so.
        expired, missing = os.environ["E2E_EXPIRED_SAS"], os.environ["E2E_MISSING_CONTAINER"]
        self.fails("expired", here.begin_backup, CONTAINER, sas_token=expired)
        self.fails("not|no ", here.begin_backup, missing, sas_token=os.environ["E2E_MISSING_SAS"])
        self.fails("not|no ", here.begin_pre_backup, missing, sas_token=os.environ["E2E_MISSING_SAS"])
        self.fails("BadParameter", here.begin_backup, "https://127.0.0.1:1/elsewhere", sas_token=SAS)
        self.fails("no backup|not", here.begin_pre_restore, CONTAINER + "/mhsm-nothing-2026010100000000", sas_token=SAS)
        nobody = self.client(KeyVaultBackupClient, FOREIGN_HSM)
        self.fails("security domain", nobody.begin_pre_restore, folder, sas_token=SAS)
        self.fails("security domain", nobody.begin_restore, folder, sas_token=SAS, key_name="kept")

        # All of it into the other, of which there has to be a backup, and whose own things go.
        there.create_ec_key("goes", hardware_protected=True)
        self.fails("backup", other.begin_restore, folder, sas_token=SAS)
        own = other.begin_backup(CONTAINER, sas_token=SAS).result().folder_url
        self.assertIsNone(other.begin_pre_restore(folder, sas_token=SAS).result())
        self.assertIsNone(other.begin_restore(folder, sas_token=SAS).result())
        self.assertEqual(sorted(k.name for k in there.list_properties_of_keys()), ["kept", "oct", "rsa"])
        self.assertEqual(len(list(there.list_properties_of_key_versions("kept"))), 2)
        self.assertEqual(there.get_key("kept").properties.tags, {"version": "two"})
        again = self.crypto(there.get_key("kept", first.properties.version))
        self.assertIs(again.verify(SignatureAlgorithm.es256, DIGEST, signed.signature).is_valid, True)
        restored = self.crypto(again.key_id).sign(SignatureAlgorithm.es256, DIGEST)
        self.assertIs(self.crypto(first).verify(SignatureAlgorithm.es256, DIGEST, restored.signature).is_valid, True)
        access = self.client(KeyVaultAccessControlClient, OTHER_HSM)
        self.assertEqual(access.get_role_definition("/", role.name).role_name, "In the backup")
        self.assertIs(self.client(KeyVaultSettingsClient, OTHER_HSM).get_setting(SETTING).getboolean(), True)

        # One key, into where it was purged; and one of the other backup.
        for name in ("kept", "rsa"):
            keys.begin_delete_key(name).result()
            keys.purge_deleted_key(name)
        self.assertIsNone(here.begin_restore(folder, sas_token=SAS, key_name="kept").result())
        back = self.crypto(keys.get_key("kept", first.properties.version))
        self.assertIs(back.verify(SignatureAlgorithm.es256, DIGEST, signed.signature).is_valid, True)
        self.assertEqual(sorted(k.name for k in keys.list_properties_of_keys()), ["kept", "oct"])
        here.begin_restore(own, sas_token=SAS, key_name="goes").result()
        self.assertEqual(keys.get_key("goes").key_type, "EC-HSM")
        self.fails("nothing|not", here.begin_restore, folder, sas_token=SAS, key_name="nothing")


if __name__ == "__main__":
    unittest.main(verbosity=2)
