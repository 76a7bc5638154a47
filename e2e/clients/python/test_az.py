"""The real az, unmodified, as a person or a script uses it after `strongroom env --for az`.

Each class is run as a program of its own, with its own AZURE_CONFIG_DIR. Within one, all commands run in one process by
az's own entry, since starting it takes longer than most commands do. What a command prints and how it ends is what counts.

E2E_CLOUD is the file that describes the cloud to az, E2E_TENANT the tenant; E2E_ADMINISTRATOR_ID, _SECRET, _CERTIFICATE and
_OBJECT are the administrator's; E2E_STRANGER_ID and _SECRET those of an application without roles; E2E_MANAGED_OBJECT is the
object id of the managed identity. The names of the vaults that are made here resolve.
"""

import base64
import datetime
import hashlib
import io
import json
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout

from azure.cli.core import get_default_cli
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

TENANT = os.environ["E2E_TENANT"]
ADMINISTRATOR = os.environ["E2E_ADMINISTRATOR_ID"]
OBJECT = os.environ["E2E_ADMINISTRATOR_OBJECT"]
STRANGER = os.environ["E2E_STRANGER_ID"]
PLAINTEXT = "32 bytes of nobody else's affair"


class Messages(logging.Handler):
    """What az would print on stderr. It sets up no handlers of its own where there are some."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


MESSAGES = Messages()
logging.getLogger().addHandler(MESSAGES)


def invoke(line, *more):
    """Runs one command, and returns its exit code, what it printed, and what it complained of."""
    MESSAGES.lines.clear()
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            # A cli object keeps the cloud that was active when it was made.
            code = get_default_cli().invoke(shlex.split(line) + list(more), out_file=out)
    except SystemExit as end:
        code = end.code
    return code, out.getvalue(), "\n".join([*MESSAGES.lines, err.getvalue()])


class Group(unittest.TestCase):
    """One test method a class: the commands build on one another."""

    maxDiff = None

    def az(self, line, *more):
        """Runs a command that has to succeed and returns what it printed, decoded."""
        code, out, err = invoke(line, *more)
        self.assertEqual(code, 0, f"az {line}: {err}")
        return json.loads(out) if out.strip() else None

    def refused(self, pattern, line, *more, code=1):
        """Runs a command that has to fail, with that exit code and a complaint of that pattern."""
        got, out, err = invoke(line, *more)
        self.assertEqual(got, code, f"az {line}: {out} {err}")
        self.assertRegex(err, pattern, line)
        self.assertEqual(out.strip(), "", line)

    def members(self, answer, names):
        """The answer has exactly these members, as Azure's has."""
        self.assertEqual(sorted(answer), sorted(names.split()))

    def register(self):
        self.az(f"cloud register --name Strongroom --cloud-config @{os.environ['E2E_CLOUD']}")
        self.az("cloud set --name Strongroom")

    def login(self, client=ADMINISTRATOR, secret=None, *more):
        secret = secret or os.environ["E2E_ADMINISTRATOR_SECRET"]
        return self.az(f"login --service-principal --tenant {TENANT} --username {client}", "--password", secret, *more)

    def name(self, suffix):
        return f"{type(self).__name__.lower()}-{suffix}"

    def vault(self, suffix="vault", *flags):
        """Makes a group and in it a vault in which the administrator may do everything."""
        name = self.name(suffix)
        self.az(f"group create -n {name} -l local")
        vault = self.az(f"keyvault create -n {name} -g {name} -l local --retention-days 7", *flags)
        self.az(
            f"role assignment create --assignee-object-id {OBJECT} --assignee-principal-type ServicePrincipal "
            f"--role 'Key Vault Administrator' --scope {vault['id']}"
        )
        return name, vault["id"]

    def file(self, content=None):
        """The path of a temporary file, which does not exist yet if it has no content."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "file")
        if content is not None:
            with open(path, "wb") as f:
                f.write(content)
        return path


class Login(Group):
    def test(self):
        self.register()
        cloud = self.az("cloud show")
        self.assertEqual(cloud["name"], "Strongroom")
        self.assertTrue(cloud["isActive"])
        accounts = self.login()
        self.assertEqual([a["tenantId"] for a in accounts], [TENANT])
        self.members(accounts[0], "cloudName homeTenantId id isDefault managedByTenants name state tenantId user")
        account = self.az("account show")
        self.members(account, "environmentName homeTenantId id isDefault managedByTenants name state tenantId user")
        self.assertEqual(account["user"], {"name": ADMINISTRATOR, "type": "servicePrincipal"})
        self.assertEqual((account["environmentName"], account["state"]), ("Strongroom", "Enabled"))
        self.assertEqual([a["id"] for a in self.az("account list")], [account["id"]])
        self.assertIn("local", [where["name"] for where in self.az("account list-locations")])
        token = self.az("account get-access-token")
        self.members(token, "accessToken expiresOn expires_on subscription tenant tokenType")
        self.assertIn("Microsoft.KeyVault", [p["namespace"] for p in self.az("provider list")])
        self.az("logout")
        self.refused("az login", "account show")
        self.refused("AADSTS7000215", f"login --service-principal --tenant {TENANT} --username {ADMINISTRATOR} --password wrong")

        self.az(
            f"login --service-principal --tenant {TENANT} --username {ADMINISTRATOR} "
            f"--certificate {os.environ['E2E_ADMINISTRATOR_CERTIFICATE']}"
        )
        self.az("group list")
        self.az(
            f"role assignment create --assignee-object-id {os.environ['E2E_MANAGED_OBJECT']} "
            f"--assignee-principal-type ServicePrincipal --role Reader --scope /subscriptions/{account['id']}"
        )
        self.az("logout")

        accounts = self.az("login --identity")
        # The command as it is installed finds what its parts did here.
        az = os.path.join(os.path.dirname(sys.executable), "az")
        shown = subprocess.run([az, "account", "show"], check=True, capture_output=True, text=True).stdout
        self.assertEqual(json.loads(shown)["id"], account["id"])
        self.assertEqual(accounts[0]["user"]["type"], "servicePrincipal")
        self.assertEqual(accounts[0]["user"]["assignedIdentityInfo"], "MSI")
        self.az("keyvault list")
        self.refused("AuthorizationFailed", "group create -n never -l local")


VAULT_MEMBERS = "id location name properties resourceGroup systemData tags type"


class Vaults(Group):
    def test(self):
        self.register()
        self.login()
        group, name = self.name("group"), self.name("rbac")
        made = self.az(f"group create -n {group} -l local --tags a=b")
        self.members(made, "id location managedBy name properties tags type")
        self.assertEqual(made["properties"], {"provisioningState": "Succeeded"})
        self.assertIn(group, [g["name"] for g in self.az("group list")])
        self.assertEqual(self.az(f"group show -n {group}")["tags"], {"a": "b"})
        self.assertIs(self.az(f"group exists -n {group}"), True)
        self.assertIs(self.az("group exists -n nowhere"), False)
        self.refused("ResourceGroupNotFound", "group show -n nowhere", code=3)
        self.refused("ResourceGroupNotFound", "keyvault create -n vaults-never -g nowhere -l local", code=3)

        vault = self.az(f"keyvault create -n {name} -g {group} -l local")
        self.members(vault, VAULT_MEMBERS)
        self.assertIs(vault["properties"]["enableRbacAuthorization"], True)
        self.assertEqual(vault["properties"]["accessPolicies"], [])
        self.assertIs(vault["properties"]["enableSoftDelete"], True)
        self.assertEqual(vault["properties"]["softDeleteRetentionInDays"], 90)
        self.assertEqual(vault["properties"]["sku"], {"family": "A", "name": "standard"})
        self.assertEqual(vault["resourceGroup"], group)
        self.refused("already exists|VaultAlreadyExists", f"keyvault create -n {name} -g {group} -l local")
        self.assertEqual(self.az(f"keyvault show -n {name}"), vault)
        self.assertIn(name, [v["name"] for v in self.az("keyvault list")])
        self.assertEqual([v["name"] for v in self.az(f"keyvault list -g {group}")], [name])
        self.refused("not found", "keyvault show -n vaults-nowhere")
        self.assertEqual(self.az(f"keyvault update -n {name} --set tags.a=b")["tags"], {"a": "b"})
        self.refused("RBAC|rbac", f"keyvault set-policy -n {name} --object-id {OBJECT} --secret-permissions get")

        policy = self.name("policy")
        vault = self.az(
            f"keyvault create -n {policy} -g {group} -l local --enable-rbac-authorization false --retention-days 7"
        )
        # az looks up who it is, and gives whoever makes such a vault a policy.
        self.assertEqual([p["objectId"] for p in vault["properties"]["accessPolicies"]], [OBJECT])
        vault = self.az(
            f"keyvault set-policy -n {policy} --object-id {OBJECT} --secret-permissions get list set delete --key-permissions all"
        )
        (entry,) = vault["properties"]["accessPolicies"]
        self.assertEqual((entry["objectId"], entry["tenantId"]), (OBJECT, TENANT))
        self.assertEqual(sorted(entry["permissions"]["secrets"]), ["delete", "get", "list", "set"])
        self.az(f"keyvault secret set --vault-name {policy} -n s --value v")
        vault = self.az(f"keyvault delete-policy -n {policy} --object-id {OBJECT}")
        self.assertEqual(vault["properties"]["accessPolicies"], [])
        self.refused("does not have secrets get permission", f"keyvault secret show --vault-name {policy} -n s")

        rules = self.az(f"keyvault network-rule add -n {policy} --ip-address 10.0.0.0/24")["properties"]["networkAcls"]
        self.assertEqual([r["value"] for r in rules["ipRules"]], ["10.0.0.0/24"])
        self.assertEqual([r["value"] for r in self.az(f"keyvault network-rule list -n {policy}")["ipRules"]], ["10.0.0.0/24"])
        self.az(f"keyvault update -n {policy} --default-action Deny")
        self.refused("ForbiddenByFirewall|Client address is not authorized", f"keyvault secret list --vault-name {policy}")
        vault = self.az(f"keyvault network-rule remove -n {policy} --ip-address 10.0.0.0/24")
        self.assertEqual(vault["properties"]["networkAcls"]["ipRules"], [])

        self.az(f"keyvault delete -n {policy}")
        self.refused("not found", f"keyvault show -n {policy}")
        deleted = self.az(f"keyvault show-deleted -n {policy}")
        self.members(deleted, "id name properties systemData type")
        self.assertIn(policy, [v["name"] for v in self.az("keyvault list-deleted --resource-type vault")])
        self.assertEqual(self.az(f"keyvault recover -n {policy}")["name"], policy)
        self.az(f"keyvault delete -n {policy}")
        self.az(f"keyvault purge -n {policy}")
        self.assertNotIn(policy, [v["name"] for v in self.az("keyvault list-deleted --resource-type vault")])

        kept = self.name("kept")
        self.az(f"keyvault create -n {kept} -g {group} -l local --enable-purge-protection true --retention-days 7")
        self.az(f"keyvault delete -n {kept}")
        self.refused("(?i)purge", f"keyvault purge -n {kept}")
        self.az(f"group delete -n {group} --yes")  # with the vault that is left in it
        self.assertIn(name, [v["name"] for v in self.az("keyvault list-deleted --resource-type vault")])
        self.assertIs(self.az(f"group exists -n {group}"), False)


class Access(Group):
    def test(self):
        self.register()
        self.login()
        name, vault = self.vault()
        self.az(f"keyvault secret set --vault-name {name} -n open --value v")
        self.az(f"keyvault secret set --vault-name {name} -n closed --value v")
        definition = self.az("role definition list --name 'Key Vault Secrets User'")[0]
        self.members(
            definition,
            "assignableScopes createdBy createdOn description id name permissions roleName roleType systemData type updatedBy updatedOn",
        )
        subscription = vault.split("/resourceGroups")[0]
        role = {
            "Name": "Vault reader of access",
            "Description": "Sees vaults",
            "AssignableScopes": [subscription],
            "Actions": ["Microsoft.KeyVault/vaults/read"],
        }
        custom = self.az("role definition create --role-definition", json.dumps(role))
        self.assertEqual(custom["roleType"], "CustomRole")
        self.assertIn(custom["name"], [d["name"] for d in self.az("role definition list --custom-role-only true")])

        assigned = self.az(
            f"role assignment create --assignee {STRANGER} --role 'Key Vault Secrets User' --scope {vault}/secrets/open"
        )
        self.assertEqual(assigned["scope"], f"{vault}/secrets/open")
        self.assertTrue(assigned["roleDefinitionId"].endswith(definition["name"]))
        self.az(f"role assignment create --assignee {STRANGER} --role 'Vault reader of access' --scope {vault}")
        listed = self.az(f"role assignment list --scope {vault}")
        self.assertEqual(sorted(a["roleDefinitionName"] for a in listed), ["Key Vault Administrator", "Vault reader of access"])

        self.login(STRANGER, os.environ["E2E_STRANGER_SECRET"])
        self.assertEqual(self.az(f"keyvault show -n {name}")["id"], vault)
        self.assertEqual(self.az(f"keyvault secret show --vault-name {name} -n open")["value"], "v")
        self.refused(
            r"Caller is not authorized to perform action on resource\.(.|\n)*ForbiddenByRbac",
            f"keyvault secret show --vault-name {name} -n closed",
        )
        self.refused("ForbiddenByRbac", f"keyvault key create --vault-name {name} -n k --kty EC")
        self.refused(
            "does not have authorization to perform action 'Microsoft.KeyVault/vaults/delete' over scope",
            f"keyvault delete -n {name} -g {name}",
        )

        self.login()
        self.az(f"role assignment delete --assignee {STRANGER} --role 'Key Vault Secrets User' --scope {vault}/secrets/open")
        self.az(f"role assignment delete --assignee {STRANGER} --role 'Vault reader of access' --scope {vault}")
        self.az("role definition delete --name 'Vault reader of access'")
        self.login(STRANGER, os.environ["E2E_STRANGER_SECRET"], "--allow-no-subscriptions")
        self.refused("ForbiddenByRbac", f"keyvault secret show --vault-name {name} -n open")


class Secrets(Group):
    def test(self):
        self.register()
        self.login()
        name, _ = self.vault()
        of = f"--vault-name {name} -n s"
        made = self.az(f"keyvault secret set {of} --value one --description text/plain --tags a=b")
        self.members(made, "attributes contentType id kid managed name tags value")
        self.members(made["attributes"], "created enabled expires notBefore recoverableDays recoveryLevel updated")
        self.assertEqual((made["value"], made["contentType"], made["tags"]["a"]), ("one", "text/plain", "b"))
        self.az(f"keyvault secret set {of} --file {self.file(b'two')} --encoding utf-8")
        self.assertEqual(self.az(f"keyvault secret show {of}")["value"], "two")
        first = made["id"].rsplit("/", 1)[1]
        self.assertEqual(self.az(f"keyvault secret show {of} --version {first}"), made)
        listed = self.az(f"keyvault secret list --vault-name {name}")
        self.assertEqual([s["name"] for s in listed], ["s"])
        self.members(listed[0], "attributes contentType id managed name tags")
        self.assertEqual(len(self.az(f"keyvault secret list-versions {of}")), 2)
        self.az(f"keyvault secret set-attributes {of} --enabled false")
        self.refused("SecretDisabled", f"keyvault secret show {of}")
        self.az(f"keyvault secret set-attributes {of} --enabled true")
        self.refused("SecretNotFound", f"keyvault secret show --vault-name {name} -n nowhere", code=3)

        download, backup = self.file(), self.file()
        self.az(f"keyvault secret download {of} -f {download}")
        with open(download, encoding="utf-8") as f:
            self.assertEqual(f.read(), "two")
        self.az(f"keyvault secret backup {of} -f {backup}")
        self.az(f"keyvault secret delete {of}")
        self.assertEqual([s["name"] for s in self.az(f"keyvault secret list-deleted --vault-name {name}")], ["s"])
        self.assertEqual(self.az(f"keyvault secret show-deleted {of}")["name"], "s")
        self.refused("ObjectIsDeletedButRecoverable", f"keyvault secret set {of} --value three")
        self.az(f"keyvault secret recover {of}")
        self.az(f"keyvault secret delete {of}")
        self.az(f"keyvault secret purge {of}")
        self.az(f"keyvault secret restore --vault-name {name} -f {backup}")
        self.assertEqual(self.az(f"keyvault secret show {of}")["value"], "two")


class Keys(Group):
    def test(self):
        self.register()
        self.login()
        name, _ = self.vault("vault", "--sku", "premium")
        of = f"--vault-name {name} -n"
        made = self.az(f"keyvault key create {of} rsa --kty RSA --size 2048 --tags a=b")
        self.members(made, "attributes key managed releasePolicy tags")
        self.assertEqual(made["key"]["kty"], "RSA")
        self.assertEqual(self.az(f"keyvault key show {of} rsa"), made)
        self.assertEqual(self.az(f"keyvault key create {of} hsm --protection hsm --kty EC --curve P-384")["key"]["kty"], "EC-HSM")
        self.az(f"keyvault key create {of} ec --kty EC --curve P-256")
        pem = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        imported = self.az(f"keyvault key import {of} imported --pem-file {self.file(pem)}")
        self.assertEqual(imported["key"]["kty"], "RSA")
        listed = self.az(f"keyvault key list --vault-name {name}")
        self.assertEqual(sorted(k["name"] for k in listed), ["ec", "hsm", "imported", "rsa"])
        self.members(listed[0], "attributes keySize kid managed name releasePolicy tags")

        sealed = self.az(f"keyvault key encrypt {of} rsa --algorithm RSA-OAEP-256 --data-type plaintext --value", PLAINTEXT)
        self.members(sealed, "aad algorithm iv kid result tag")
        opened = self.az(
            f"keyvault key decrypt {of} rsa --algorithm RSA-OAEP-256 --data-type plaintext --value {sealed['result']}"
        )
        self.assertEqual(opened["result"], PLAINTEXT)
        digest = base64.b64encode(hashlib.sha256(PLAINTEXT.encode()).digest()).decode()
        signed = self.az(f"keyvault key sign {of} ec --algorithm ES256 --digest {digest}")
        self.assertEqual(signed["algorithm"], "ES256")
        verified = self.az(f"keyvault key verify {of} ec --algorithm ES256 --digest {digest} --signature {signed['signature']}")
        self.assertIs(verified["isValid"], True)
        wrong = base64.b64encode(bytes(32)).decode()
        verified = self.az(f"keyvault key verify {of} ec --algorithm ES256 --digest {wrong} --signature {signed['signature']}")
        self.assertIs(verified["isValid"], False)

        policy = json.dumps({
            "lifetimeActions": [{"trigger": {"timeAfterCreate": "P30D"}, "action": {"type": "Rotate"}}],
            "attributes": {"expiryTime": "P90D"},
        })
        self.az(f"keyvault key rotation-policy update {of} rsa --value", policy)
        stored = self.az(f"keyvault key rotation-policy show {of} rsa")
        self.assertEqual(stored["expiresIn"], "P90D")
        self.assertNotEqual(self.az(f"keyvault key rotate {of} rsa")["key"]["kid"], made["key"]["kid"])
        self.assertEqual(len(self.az(f"keyvault key list-versions {of} rsa")), 2)
        self.assertIs(self.az(f"keyvault key set-attributes {of} rsa --enabled false")["attributes"]["enabled"], False)
        self.refused("KeyNotFound", f"keyvault key show {of} nowhere", code=3)

        public, backup = self.file(), self.file()
        self.az(f"keyvault key download {of} ec -f {public}")
        with open(public, "rb") as f:
            self.assertEqual(serialization.load_pem_public_key(f.read()).curve.name, "secp256r1")
        self.az(f"keyvault key backup {of} ec -f {backup}")
        self.az(f"keyvault key delete {of} ec")
        self.assertEqual([k["name"] for k in self.az(f"keyvault key list-deleted --vault-name {name}")], ["ec"])
        self.az(f"keyvault key show-deleted {of} ec")
        self.az(f"keyvault key recover {of} ec")
        self.az(f"keyvault key delete {of} ec")
        self.az(f"keyvault key purge {of} ec")
        self.az(f"keyvault key restore --vault-name {name} -f {backup}")
        self.assertEqual(self.az(f"keyvault key show {of} ec")["key"]["crv"], "P-256")


class HSMs(Group):
    def test(self):
        self.register()
        self.login()
        group, name = self.name("group"), self.name("hsm")
        self.az(f"group create -n {group} -l local")
        self.assertIs(self.az(f"keyvault check-name -n {name}")["nameAvailable"], True)
        made = self.az(f"keyvault create --hsm-name {name} -g {group} -l local --administrators {OBJECT} --retention-days 7")
        self.members(made, "id location name properties resourceGroup sku systemData tags type identity")
        self.assertEqual(made["properties"]["initialAdminObjectIds"], [OBJECT])
        self.assertEqual(made["properties"]["provisioningState"], "Succeeded")
        taken = self.az(f"keyvault check-name -n {name}")
        self.assertEqual((taken["nameAvailable"], taken["reason"]), (False, "AlreadyExists"))
        self.assertEqual(self.az(f"keyvault show --hsm-name {name}")["id"], made["id"])
        self.assertIn(name, [h["name"] for h in self.az("keyvault list --resource-type hsm")])
        self.assertEqual(self.az(f"keyvault wait-hsm --hsm-name {name} --created"), None)
        changed = self.az(f"keyvault update-hsm --hsm-name {name} --set tags.a=b")
        self.assertEqual(changed["tags"], {"a": "b"})
        self.az(f"keyvault delete --hsm-name {name}")
        self.refused("(?i)not found", f"keyvault show --hsm-name {name}")
        self.assertIn(name, [h["name"] for h in self.az("keyvault list-deleted --resource-type hsm")])
        self.assertEqual(self.az(f"keyvault show-deleted --hsm-name {name}")["name"], name)
        self.assertEqual(self.az(f"keyvault recover --hsm-name {name}")["name"], name)
        self.assertEqual(self.az(f"keyvault show --hsm-name {name}")["tags"], {"a": "b"})
        self.az(f"keyvault delete --hsm-name {name}")
        self.az(f"keyvault purge --hsm-name {name}")
        self.assertNotIn(name, [h["name"] for h in self.az("keyvault list-deleted --resource-type hsm")])


class Domains(Group):
    def owner(self, folder, name, password=None):
        """Makes a key and a certificate where az looks for them, and returns both paths."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        begin = datetime.datetime(2026, 1, 1)
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + datetime.timedelta(days=365))
            .sign(key, hashes.SHA256())
        )
        protection = serialization.NoEncryption()
        if password:
            protection = serialization.BestAvailableEncryption(password.encode())
        pem = serialization.Encoding.PEM
        paths = os.path.join(folder, name + ".pem"), os.path.join(folder, name + ".cer")
        for path, content in zip(
            paths,
            (
                key.private_bytes(pem, serialization.PrivateFormat.PKCS8, protection),
                certificate.public_bytes(pem),
            ),
        ):
            with open(path, "wb") as f:
                f.write(content)
        return paths

    def hsm(self, suffix):
        name = self.name(suffix)
        self.az(
            f"keyvault create --hsm-name {name} -g {self.name('group')} -l local --administrators {OBJECT} --retention-days 7"
        )
        return name

    def test(self):
        self.register()
        self.login()
        self.az(f"group create -n {self.name('group')} -l local")
        one, other = self.hsm("one"), self.hsm("other")
        folder = os.path.dirname(self.file())
        owners = [self.owner(folder, f"owner{n}", "passwort-ü" if n == 0 else None) for n in range(3)]
        keys, certificates = (" ".join(paths) for paths in zip(*owners))
        domain, again, exchange, blob = (os.path.join(folder, f) for f in ("domain", "again", "exchange", "blob"))

        self.refused("(?i)not activated", f"keyvault key list --hsm-name {one}")
        self.refused(
            "4 of 3 is not a quorum",
            f"keyvault security-domain download --hsm-name {one} --sd-wrapping-keys {certificates} --sd-quorum 4 "
            f"--security-domain-file {domain}",
        )
        status = self.az(
            f"keyvault security-domain download --hsm-name {one} --sd-wrapping-keys {certificates} --sd-quorum 2 "
            f"--security-domain-file {domain}"
        )
        self.assertEqual(status["status"], "Success")
        shown = self.az(f"keyvault show --hsm-name {one}")["properties"]["securityDomainProperties"]
        self.assertEqual(shown["activationStatus"], "Active")
        self.az(
            f"keyvault security-domain download --hsm-name {one} --sd-wrapping-keys {certificates} --sd-quorum 3 "
            f"--security-domain-file {again} --no-wait"
        )
        for operation in ("download", "upload"):
            status = self.az(f"keyvault security-domain wait --hsm-name {one} --target-operation {operation}")
            self.assertEqual(status["status"], "Success")
        self.refused("is active", f"keyvault security-domain init-recovery --hsm-name {one} --sd-exchange-key {exchange}")

        self.az(f"keyvault security-domain init-recovery --hsm-name {other} --sd-exchange-key {exchange}")
        self.az(
            f"keyvault security-domain restore-blob --sd-file {domain} --sd-exchange-key {exchange} --sd-wrapping-keys {keys} "
            f"--sd-file-restore-blob {blob} --passwords passwort-ü"
        )
        with open(blob, encoding="ascii") as f:
            altered = json.load(f)
        altered["EncData"]["data"].pop()
        self.refused(
            "has no datum",
            f"keyvault security-domain upload --hsm-name {other} --sd-file {self.file(json.dumps(altered).encode())} --restore-blob",
        )
        status = self.az(f"keyvault security-domain upload --hsm-name {other} --sd-file {blob} --restore-blob")
        self.assertEqual(status["status"], "Success")
        shown = self.az(f"keyvault show --hsm-name {other}")["properties"]["securityDomainProperties"]
        self.assertEqual(shown["activationStatus"], "Active")

        for name in (one, other):
            self.az(
                f"keyvault role assignment create --hsm-name {name} --role 'Managed HSM Crypto User' --scope / "
                f"--assignee-object-id {OBJECT} --assignee-principal-type ServicePrincipal"
            )
        backup = self.file()
        self.az(f"keyvault key create --hsm-name {one} -n k --kty RSA-HSM --size 2048")
        sealed = self.az(
            f"keyvault key encrypt --hsm-name {one} -n k --algorithm RSA-OAEP-256 --data-type plaintext", "--value", PLAINTEXT
        )["result"]
        self.az(f"keyvault key backup --hsm-name {one} -n k -f {backup}")
        self.az(f"keyvault key restore --hsm-name {other} -f {backup}")
        opened = self.az(
            f"keyvault key decrypt --hsm-name {other} -n k --algorithm RSA-OAEP-256 --data-type plaintext", "--value", sealed
        )
        self.assertEqual(opened["result"], PLAINTEXT)


class Pools(Group):
    """E2E_HSM_NAME and E2E_OTHER_HSM_NAME are active managed HSMs with one security domain. The storage is that of test_hsmbackup.py."""

    def test(self):
        self.register()
        self.login()
        one, other = os.environ["E2E_HSM_NAME"], os.environ["E2E_OTHER_HSM_NAME"]
        self.roles(one)
        for name in (one, other):
            for role in ("Crypto User", "Crypto Officer"):
                self.az(
                    f"keyvault role assignment create --hsm-name {name} --role 'Managed HSM {role}' --scope / "
                    f"--assignee-object-id {OBJECT} --assignee-principal-type ServicePrincipal"
                )
        self.scopes(one)
        self.settings(one)
        self.keys(one, other)
        self.backups(one, other)

    def roles(self, name):
        of = f"--hsm-name {name}"
        self.refused("AccessDenied|Not authorized", f"keyvault key create {of} -n never --kty EC-HSM")
        built_in = self.az(f"keyvault role definition list {of}")
        self.members(built_in[0], "assignableScopes description id name permissions roleName roleType type")
        self.assertEqual(len([d for d in built_in if d["roleType"] == "AKVBuiltInRole"]), 9)
        role = {
            "roleName": "Signer by az",
            "description": "signs",
            "actions": [],
            "notActions": [],
            "dataActions": ["Microsoft.KeyVault/managedHsm/keys/sign/action"],
            "notDataActions": [],
        }
        made = self.az(f"keyvault role definition create {of} --role-definition", json.dumps(role))
        self.assertEqual((made["roleName"], made["roleType"]), ("Signer by az", "CustomRole"))
        self.assertEqual(self.az(f"keyvault role definition show {of} --name {made['name']}"), made)
        role.update(made, description="changed", dataActions=role["dataActions"] + ["Microsoft.KeyVault/managedHsm/keys/verify/action"])
        changed = self.az(f"keyvault role definition update {of} --role-definition", json.dumps(role))
        self.assertEqual((changed["id"], changed["description"]), (made["id"], "changed"))
        custom = self.az(f"keyvault role definition list {of} --custom-role-only true")
        self.assertEqual([d["name"] for d in custom], [made["name"]])
        self.az(f"keyvault role definition delete {of} --name {made['name']}")
        self.assertEqual(self.az(f"keyvault role definition list {of} --custom-role-only true"), [])

    def scopes(self, name):
        of, stranger = f"--hsm-name {name}", os.environ["E2E_STRANGER_OBJECT"]
        self.az(f"keyvault key create {of} -n theirs --kty EC-HSM --curve P-256")
        self.az(f"keyvault key create {of} -n mine --kty EC-HSM --curve P-256")
        who = f"--role 'Managed HSM Crypto User' --scope /keys/theirs --assignee-object-id {stranger}"
        made = self.az(f"keyvault role assignment create {of} {who} --assignee-principal-type ServicePrincipal")
        self.assertEqual((made["scope"], made["principalId"]), ("/keys/theirs", stranger))
        listed = self.az(f"keyvault role assignment list {of} --scope /keys/theirs")
        self.assertEqual([(a["name"], a["roleName"]) for a in listed], [(made["name"], "Managed HSM Crypto User")])
        self.login(STRANGER, os.environ["E2E_STRANGER_SECRET"], "--allow-no-subscriptions")
        self.assertEqual(self.az(f"keyvault key show {of} -n theirs")["key"]["kty"], "EC-HSM")
        self.refused("AccessDenied|Not authorized", f"keyvault key show {of} -n mine")
        self.login()
        self.az(f"keyvault role assignment delete {of} {who}")
        self.assertEqual(self.az(f"keyvault role assignment list {of} --scope /keys/theirs"), [])

    def settings(self, name):
        of, setting = f"--hsm-name {name}", "AllowKeyManagementOperationsThroughARM"
        listed = self.az(f"keyvault setting list {of}")
        self.assertEqual([s["name"] for s in listed["settings"]] if isinstance(listed, dict) else [s["name"] for s in listed], [setting])
        for value in ("true", "false"):
            self.az(f"keyvault setting update {of} -n {setting} --value {value}")
            self.assertEqual(self.az(f"keyvault setting show {of} -n {setting}")["value"], value)

    def keys(self, name, other):
        of = f"--hsm-name {name}"
        made = self.az(f"keyvault key create {of} -n rsa --kty RSA-HSM --size 2048")
        self.assertEqual(made["key"]["kty"], "RSA-HSM")
        self.assertEqual(self.az(f"keyvault key create {of} -n oct --kty oct-HSM --size 256")["key"]["kty"], "oct-HSM")
        self.az(f"keyvault key create {of} -n ec --kty EC-HSM --curve P-256")
        self.assertEqual(self.az(f"keyvault key show {of} -n rsa"), made)
        self.assertEqual(sorted(k["name"] for k in self.az(f"keyvault key list {of}")), ["ec", "mine", "oct", "rsa", "theirs"])
        for key, algorithm in (("rsa", "RSA-OAEP-256"), ("oct", "A256GCM")):
            sealed = self.az(f"keyvault key encrypt {of} -n {key} --algorithm {algorithm} --data-type plaintext --value", PLAINTEXT)
            more = f" --iv {sealed['iv']} --tag {sealed['tag']}" if key == "oct" else ""
            opened = self.az(
                f"keyvault key decrypt {of} -n {key} --algorithm {algorithm} --data-type plaintext --value {sealed['result']}{more}"
            )
            self.assertEqual(opened["result"], PLAINTEXT)
        digest = base64.b64encode(hashlib.sha256(PLAINTEXT.encode()).digest()).decode()
        signature = self.az(f"keyvault key sign {of} -n ec --algorithm ES256 --digest {digest}")["signature"]
        verify = f"-n ec --algorithm ES256 --digest {digest} --signature {signature}"
        self.assertIs(self.az(f"keyvault key verify {of} {verify}")["isValid"], True)
        self.assertEqual(len(base64.b64decode(self.az(f"keyvault key random {of} --count 32")["value"])), 32)

        backup = self.file()
        self.az(f"keyvault key backup {of} -n ec -f {backup}")
        self.az(f"keyvault key restore --hsm-name {other} -f {backup}")
        self.assertIs(self.az(f"keyvault key verify --hsm-name {other} {verify}")["isValid"], True)
        self.az(f"keyvault key delete {of} -n ec")
        self.assertEqual([k["name"] for k in self.az(f"keyvault key list-deleted {of}")], ["ec"])
        self.az(f"keyvault key show-deleted {of} -n ec")
        self.az(f"keyvault key recover {of} -n ec")
        self.az(f"keyvault key delete {of} -n ec")
        self.az(f"keyvault key purge {of} -n ec")
        self.az(f"keyvault key restore {of} -f {backup}")
        self.assertIs(self.az(f"keyvault key verify {of} {verify}")["isValid"], True)

    def backups(self, one, other):
        where = f"--storage-resource-uri {os.environ['E2E_CONTAINER']} --storage-container-SAS-token '{os.environ['E2E_SAS']}'"
        old = f"--storage-resource-uri {os.environ['E2E_CONTAINER']} --storage-container-SAS-token '{os.environ['E2E_EXPIRED_SAS']}'"
        self.refused("expired", f"keyvault backup start --hsm-name {one} {old}")
        made = self.az(f"keyvault backup start --hsm-name {one} {where}")
        self.assertEqual(made["status"], "Succeeded")
        folder = made["folderUrl"].rsplit("/", 1)[1]
        self.assertRegex(folder, f"^mhsm-{one}-\\d+$")
        self.refused("full backup", f"keyvault restore start --hsm-name {other} {where} --backup-folder {folder}")
        self.az(f"keyvault key create --hsm-name {other} -n goes --kty EC-HSM")
        self.az(f"keyvault backup start --hsm-name {other} {where}")
        self.az(f"keyvault restore start --hsm-name {other} {where} --backup-folder {folder}")
        names = sorted(k["name"] for k in self.az(f"keyvault key list --hsm-name {other}"))
        self.assertEqual(names, ["ec", "mine", "oct", "rsa", "theirs"])
        shown = self.az(f"keyvault key show --hsm-name {one} -n rsa")
        self.az(f"keyvault key delete --hsm-name {one} -n rsa")
        self.az(f"keyvault key purge --hsm-name {one} -n rsa")
        self.az(f"keyvault restore start --hsm-name {one} {where} --backup-folder {folder} --key-name rsa")
        self.assertEqual(self.az(f"keyvault key show --hsm-name {one} -n rsa")["key"], shown["key"])


class Interoperation(Group):
    """What az makes of a security domain for strongroom's package, and what it makes of one of the package's. E2E_FOLDER has the owners'
    keys and certificates, and the domain that the package has downloaded."""

    def test(self):
        self.register()
        self.login()

        def file(name):
            return os.path.join(os.environ["E2E_FOLDER"], name)

        keys = " ".join(file(f"owner{n}.pem") for n in range(2))
        certificates = " ".join(file(f"owner{n}.cer") for n in range(3))

        # The package's domain, to another managed HSM.
        self.az(f"keyvault security-domain init-recovery --hsm-name by-az --sd-exchange-key {file('exchange')}")
        self.restore_blob(file("domain"), file("exchange"), keys, file("blob"))
        self.az(f"keyvault security-domain upload --hsm-name by-az --sd-file {file('blob')} --restore-blob")

        # A domain of az's own, and the keys of those managed HSMs to which it goes.
        self.az(
            f"keyvault security-domain download --hsm-name of-az --sd-wrapping-keys {certificates} --sd-quorum 2 "
            f"--security-domain-file {file('az-domain')}"
        )
        self.az(f"keyvault security-domain init-recovery --hsm-name by-package --sd-exchange-key {file('az-exchange')}")
        self.az(f"keyvault security-domain init-recovery --hsm-name by-az-blob --sd-exchange-key {file('az-exchange-2')}")
        self.restore_blob(file("az-domain"), file("az-exchange-2"), keys, file("az-blob"))

    def restore_blob(self, domain, exchange, keys, blob):
        self.az(
            f"keyvault security-domain restore-blob --sd-file {domain} --sd-exchange-key {exchange} --sd-wrapping-keys {keys} "
            f"--sd-file-restore-blob {blob}"
        )


if __name__ == "__main__":
    unittest.main()
