"""The clients of the management plane, as an application uses them: azure-mgmt-keyvault and azure-mgmt-authorization with
DefaultAzureCredential and the address of the resource manager.

Everything else comes from the environment: E2E_MANAGEMENT is that address, E2E_SUBSCRIPTION the subscription, E2E_GROUP a
resource group, E2E_TENANT and E2E_OBJECT the tenant and the object id of who calls, E2E_STRANGER_ID and _SECRET an
application without roles. Names that begin with "python-" are this program's own.
"""

import os
import unittest
import uuid

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.authorization.v2022_04_01.models import RoleAssignmentCreateParameters
from azure.mgmt.keyvault import KeyVaultManagementClient
from azure.mgmt.keyvault import models

MANAGEMENT = os.environ["E2E_MANAGEMENT"]
SUBSCRIPTION = os.environ["E2E_SUBSCRIPTION"]
GROUP = os.environ["E2E_GROUP"]
OBJECT = os.environ["E2E_OBJECT"]
TENANT = os.environ["E2E_TENANT"]
WHERE = {"base_url": MANAGEMENT, "credential_scopes": [MANAGEMENT + "/.default"]}
SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6"


class Resources(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.credential = DefaultAzureCredential()
        cls.client = KeyVaultManagementClient(cls.credential, SUBSCRIPTION, **WHERE)
        cls.roles = AuthorizationManagementClient(cls.credential, SUBSCRIPTION, **WHERE)
        for closing in (cls.roles, cls.client, cls.credential):
            cls.addClassCleanup(closing.close)

    def create(self, name, **properties):
        parameters = models.VaultCreateOrUpdateParameters(
            location="local",
            properties=models.VaultProperties(
                tenant_id=TENANT, sku=models.Sku(family="A", name="standard"), soft_delete_retention_in_days=7, **properties
            ),
        )
        return self.client.vaults.begin_create_or_update(GROUP, name, parameters).result()

    def policy(self, *secrets):
        permissions = models.Permissions(secrets=list(secrets))
        entry = models.AccessPolicyEntry(tenant_id=TENANT, object_id=OBJECT, permissions=permissions)
        return models.VaultAccessPolicyParameters(properties=models.VaultAccessPolicyProperties(access_policies=[entry]))

    def permissions(self, name):
        return [sorted(p.permissions.secrets) for p in self.client.vaults.get(GROUP, name).properties.access_policies]

    def test_life(self):
        name = "python-life"
        free = self.client.vaults.check_name_availability({"name": name, "type": "Microsoft.KeyVault/vaults"})
        self.assertIs(free.name_available, True)
        made = self.create(name, access_policies=[], enable_rbac_authorization=False)
        self.assertEqual((made.name, made.location, made.type), (name, "local", "Microsoft.KeyVault/vaults"))
        self.assertEqual(made.properties.provisioning_state, "Succeeded")
        self.assertTrue(made.properties.vault_uri.startswith(f"https://{name}.vault."), made.properties.vault_uri)
        self.assertEqual(self.client.vaults.get(GROUP, name).id, made.id)
        self.assertIn(name, [v.name for v in self.client.vaults.list_by_resource_group(GROUP)])
        self.assertIn(name, [v.name for v in self.client.vaults.list_by_subscription()])
        self.assertIn(name, [v.name for v in self.client.vaults.list()])
        patched = self.client.vaults.update(GROUP, name, models.VaultPatchParameters(tags={"a": "b"}))
        self.assertEqual(patched.tags, {"a": "b"})

        self.client.vaults.update_access_policy(GROUP, name, "add", self.policy("get", "list"))
        self.assertEqual(self.permissions(name), [["get", "list"]])
        self.client.vaults.update_access_policy(GROUP, name, "replace", self.policy("get", "set"))
        self.assertEqual(self.permissions(name), [["get", "set"]])
        self.client.vaults.update_access_policy(GROUP, name, "remove", self.policy("get", "set"))
        self.assertEqual(self.permissions(name), [])

        self.client.vaults.delete(GROUP, name)
        with self.assertRaises(ResourceNotFoundError):
            self.client.vaults.get(GROUP, name)
        deleted = self.client.vaults.get_deleted(name, "local")
        self.assertEqual(deleted.properties.vault_id, made.id)
        self.assertGreater(deleted.properties.scheduled_purge_date, deleted.properties.deletion_date)
        self.assertIn(name, [v.name for v in self.client.vaults.list_deleted()])
        back = self.create(name, create_mode="recover")
        self.assertEqual((back.id, back.tags), (made.id, {"a": "b"}))
        self.client.vaults.delete(GROUP, name)
        self.client.vaults.begin_purge_deleted(name, "local").result()
        with self.assertRaises(ResourceNotFoundError):
            self.client.vaults.get_deleted(name, "local")

    def test_roles(self):
        scope = self.create("python-roles", access_policies=[], enable_rbac_authorization=True).id
        role = self.roles.role_definitions.get(scope, SECRETS_USER)
        self.assertEqual(role.role_name, "Key Vault Secrets User")
        name = str(uuid.uuid4())
        parameters = RoleAssignmentCreateParameters(
            role_definition_id=role.id, principal_id=OBJECT, principal_type="ServicePrincipal"
        )
        made = self.roles.role_assignments.create(scope, name, parameters)
        self.assertEqual((made.name, made.scope, made.principal_id), (name, scope, OBJECT))
        listed = self.roles.role_assignments.list_for_scope(scope, filter="atScope()")
        self.assertEqual([a.name for a in listed if a.scope == scope], [name])
        self.assertEqual(self.roles.role_assignments.delete(scope, name).name, name)
        with self.assertRaises(ResourceNotFoundError):
            self.roles.role_assignments.get(scope, name)

    def test_refused(self):
        with self.assertRaises(ResourceNotFoundError) as caught:
            self.client.vaults.get(GROUP, "python-nowhere")
        self.assertEqual(caught.exception.error.code, "ResourceNotFound")
        secret = os.environ["E2E_STRANGER_SECRET"]
        with (
            ClientSecretCredential(TENANT, os.environ["E2E_STRANGER_ID"], secret, disable_instance_discovery=True) as stranger,
            KeyVaultManagementClient(stranger, SUBSCRIPTION, **WHERE) as client,
            self.assertRaises(HttpResponseError) as caught,
        ):
            client.vaults.get(GROUP, "python-roles")
        self.assertEqual((caught.exception.status_code, caught.exception.error.code), (403, "AuthorizationFailed"))


if __name__ == "__main__":
    unittest.main()
