import com.azure.core.util.Context;
import com.azure.identity.ClientSecretCredential;
import com.azure.identity.ClientSecretCredentialBuilder;
import com.azure.identity.DefaultAzureCredential;
import com.azure.identity.DefaultAzureCredentialBuilder;
import com.azure.security.keyvault.administration.KeyVaultAccessControlClient;
import com.azure.security.keyvault.administration.KeyVaultAccessControlClientBuilder;
import com.azure.security.keyvault.administration.KeyVaultSettingsClient;
import com.azure.security.keyvault.administration.KeyVaultSettingsClientBuilder;
import com.azure.security.keyvault.administration.models.KeyVaultDataAction;
import com.azure.security.keyvault.administration.models.KeyVaultPermission;
import com.azure.security.keyvault.administration.models.KeyVaultRoleAssignment;
import com.azure.security.keyvault.administration.models.KeyVaultRoleDefinition;
import com.azure.security.keyvault.administration.models.KeyVaultRoleScope;
import com.azure.security.keyvault.administration.models.KeyVaultRoleType;
import com.azure.security.keyvault.administration.models.KeyVaultSetting;
import com.azure.security.keyvault.administration.models.SetRoleDefinitionOptions;
import com.azure.security.keyvault.keys.KeyClient;
import com.azure.security.keyvault.keys.KeyClientBuilder;
import com.azure.security.keyvault.keys.cryptography.CryptographyClient;
import com.azure.security.keyvault.keys.cryptography.CryptographyClientBuilder;
import com.azure.security.keyvault.keys.cryptography.models.EncryptionAlgorithm;
import com.azure.security.keyvault.keys.cryptography.models.KeyWrapAlgorithm;
import com.azure.security.keyvault.keys.cryptography.models.SignatureAlgorithm;
import com.azure.security.keyvault.keys.models.CreateEcKeyOptions;
import com.azure.security.keyvault.keys.models.CreateOctKeyOptions;
import com.azure.security.keyvault.keys.models.CreateRsaKeyOptions;
import com.azure.security.keyvault.keys.models.KeyVaultKey;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.List;
import java.util.Map;

/**
 * azure-security-keyvault-administration and azure-security-keyvault-keys on a managed HSM. E2E_HSM is an active one of this program's own,
 * E2E_OTHER_HSM another with the same security domain, E2E_OBJECT the object id of their administrator, E2E_STRANGER_OBJECT that of an
 * application without roles.
 */
final class HSM {
    private static final Duration POLL = Duration.ofMillis(50);
    private static final String DEFINITIONS = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/";
    private static final String CRYPTO_OFFICER = "515eb02d-2335-4d2d-92f2-b1cbdf9c3778";
    private static final String CRYPTO_USER = "21dbd100-6940-42c2-9190-5d6cb909625b";
    private static final String SETTING = "AllowKeyManagementOperationsThroughARM";
    private static final byte[] PLAINTEXT = "32 bytes of nobody else's affair".getBytes(StandardCharsets.UTF_8);

    private static final String URL = Suite.env("E2E_HSM");
    private static final String OBJECT = Suite.env("E2E_OBJECT");
    private static final String STRANGER = Suite.env("E2E_STRANGER_OBJECT");
    private static final DefaultAzureCredential CREDENTIAL = new DefaultAzureCredentialBuilder().build();
    private static final KeyVaultAccessControlClient ACCESS = access(URL);
    private static final KeyClient KEYS = keys(URL);
    private static final KeyClient OTHER = keys(Suite.env("E2E_OTHER_HSM"));

    private static KeyVaultAccessControlClient access(String url) {
        return new KeyVaultAccessControlClientBuilder().vaultUrl(url).credential(CREDENTIAL).buildClient();
    }

    private static KeyClient keys(String url) {
        return new KeyClientBuilder().vaultUrl(url).credential(CREDENTIAL).buildClient();
    }

    private static CryptographyClient crypto(KeyVaultKey key) {
        return new CryptographyClientBuilder().keyIdentifier(key.getId()).credential(CREDENTIAL).buildClient();
    }

    private static ClientSecretCredential stranger() {
        return new ClientSecretCredentialBuilder().tenantId(Suite.env("AZURE_TENANT_ID"))
            .clientId(Suite.env("E2E_STRANGER_ID")).clientSecret(Suite.env("E2E_STRANGER_SECRET")).build();
    }

    private static byte[] digest() throws Exception {
        return MessageDigest.getInstance("SHA-256").digest(PLAINTEXT);
    }

    private static KeyVaultKey ec(String name) {
        return KEYS.createEcKey(new CreateEcKeyOptions(name).setHardwareProtected(true));
    }

    public static void main(String[] args) {
        // The initial administrator has no right to use keys, but to give it to itself.
        for (String url : List.of(URL, Suite.env("E2E_OTHER_HSM"))) {
            for (String role : List.of(CRYPTO_USER, CRYPTO_OFFICER)) {
                access(url).createRoleAssignment(KeyVaultRoleScope.GLOBAL, DEFINITIONS + role, OBJECT);
            }
        }
        Suite suite = new Suite();
        suite.test("built-in roles", HSM::builtIn);
        suite.test("own role", HSM::ownRole);
        suite.test("assignments", HSM::assignments);
        suite.test("scope of one key", HSM::oneKey);
        suite.test("settings", HSM::settings);
        suite.test("sign and verify", HSM::sign);
        suite.test("encrypt and wrap", HSM::encrypt);
        suite.test("random bytes", () -> {
            Suite.equal(32, KEYS.getRandomBytes(32).length);
            Suite.refused(400, "BadParameter", null, () -> KEYS.getRandomBytes(129));
        });
        suite.test("delete, recover and purge", HSM::lifetime);
        suite.test("backup of a key", HSM::backup);
        suite.run();
    }

    private static void builtIn() {
        List<KeyVaultRoleDefinition> found = ACCESS.listRoleDefinitions(KeyVaultRoleScope.GLOBAL).stream()
            .filter(d -> KeyVaultRoleType.BUILT_IN_ROLE.equals(d.getRoleType())).toList();
        Suite.equal(9, found.size());
        KeyVaultRoleDefinition user = ACCESS.getRoleDefinition(KeyVaultRoleScope.GLOBAL, CRYPTO_USER);
        Suite.equal("Managed HSM Crypto User", user.getRoleName());
        Suite.isTrue(user.getPermissions().get(0).getDataActions().contains(KeyVaultDataAction.SIGN_HSM_KEY), user.getPermissions());
    }

    private static void ownRole() throws Exception {
        String name = "7f9a3c52-0f3e-4a6c-9a55-0c7f6a1b2d04";
        List<KeyVaultPermission> permissions = List.of(new KeyVaultPermission(
            List.of(), List.of(), List.of(KeyVaultDataAction.READ_HSM_KEY), List.of()));
        KeyVaultRoleDefinition made = ACCESS.setRoleDefinitionWithResponse(
            new SetRoleDefinitionOptions(KeyVaultRoleScope.GLOBAL, name).setRoleName("Reader by Java").setDescription("reads")
                .setPermissions(permissions).setAssignableScopes(List.of(KeyVaultRoleScope.GLOBAL)), Context.NONE).getValue();
        Suite.equal(name, made.getName());
        Suite.equal(DEFINITIONS + name, made.getId());
        KeyVaultRoleDefinition read = ACCESS.getRoleDefinition(KeyVaultRoleScope.GLOBAL, name);
        Suite.equal(name, read.getRoleName()); // the client sends the GUID as the role's name too
        Suite.equal(List.of(KeyVaultDataAction.READ_HSM_KEY), read.getPermissions().get(0).getDataActions());
        ACCESS.deleteRoleDefinition(KeyVaultRoleScope.GLOBAL, name);
        ACCESS.deleteRoleDefinition(KeyVaultRoleScope.GLOBAL, name); // the client passes over that it is gone
        Suite.refused(404, "RoleDefinitionNotFound", null, () -> ACCESS.getRoleDefinition(KeyVaultRoleScope.GLOBAL, name));

        KeyVaultRoleDefinition empty = ACCESS.setRoleDefinition(KeyVaultRoleScope.GLOBAL);
        Suite.equal(KeyVaultRoleType.CUSTOM_ROLE, empty.getRoleType());
        ACCESS.deleteRoleDefinition(KeyVaultRoleScope.GLOBAL, empty.getName());
    }

    private static void assignments() throws Exception {
        for (KeyVaultRoleScope scope : List.of(KeyVaultRoleScope.GLOBAL, KeyVaultRoleScope.KEYS, KeyVaultRoleScope.fromString("/keys/k"))) {
            KeyVaultRoleAssignment made = ACCESS.createRoleAssignment(scope, DEFINITIONS + CRYPTO_USER, STRANGER);
            Suite.equal(scope, made.getProperties().getScope());
            Suite.equal(STRANGER, made.getProperties().getPrincipalId());
            Suite.equal(made.getId(), ACCESS.getRoleAssignment(scope, made.getName()).getId());
            Suite.isTrue(ACCESS.listRoleAssignments(scope).stream().anyMatch(a -> a.getName().equals(made.getName())), made.getName());
            ACCESS.deleteRoleAssignment(scope, made.getName());
            Suite.refused(404, "RoleAssignmentNotFound", null, () -> ACCESS.getRoleAssignment(scope, made.getName()));
        }
    }

    private static void oneKey() throws Exception {
        KeyVaultKey theirs = ec("theirs");
        KeyVaultKey mine = ec("mine");
        KeyClient stranger = new KeyClientBuilder().vaultUrl(URL).credential(stranger()).buildClient();
        Suite.refused(403, "AccessDenied", null, () -> stranger.getKey("theirs"));
        KeyVaultRoleScope scope = KeyVaultRoleScope.fromString("/keys/theirs");
        KeyVaultRoleAssignment made = ACCESS.createRoleAssignment(scope, DEFINITIONS + CRYPTO_USER, STRANGER);
        Suite.equal(theirs.getId(), stranger.getKey("theirs").getId());
        Suite.refused(403, "AccessDenied", null, () -> stranger.getKey(mine.getName()));
        ACCESS.deleteRoleAssignment(scope, made.getName());
        Suite.refused(403, "AccessDenied", null, () -> stranger.getKey("theirs"));
    }

    private static void settings() throws Exception {
        KeyVaultSettingsClient client = new KeyVaultSettingsClientBuilder().vaultUrl(URL).credential(CREDENTIAL).buildClient();
        Suite.equal(List.of(SETTING), client.getSettings().getSettings().stream().map(KeyVaultSetting::getName).toList());
        for (boolean value : new boolean[] {true, false}) {
            Suite.equal(value, client.updateSetting(new KeyVaultSetting(SETTING, value)).asBoolean());
            Suite.equal(value, client.getSetting(SETTING).asBoolean());
        }
    }

    private static void sign() throws Exception {
        Map<SignatureAlgorithm, KeyVaultKey> made = Map.of(
            SignatureAlgorithm.RS256, KEYS.createRsaKey(new CreateRsaKeyOptions("rsa").setKeySize(2048).setHardwareProtected(true)),
            SignatureAlgorithm.PS256, KEYS.createRsaKey(new CreateRsaKeyOptions("rsa-soft").setKeySize(2048)),
            SignatureAlgorithm.ES256, ec("ec"));
        for (Map.Entry<SignatureAlgorithm, KeyVaultKey> e : made.entrySet()) {
            Suite.isTrue(e.getValue().getKeyType().toString().endsWith("-HSM"), e.getValue().getKeyType());
            CryptographyClient crypto = crypto(e.getValue());
            byte[] signature = crypto.sign(e.getKey(), digest()).getSignature();
            Suite.equal(true, crypto.verify(e.getKey(), digest(), signature).isValid());
            Suite.equal(false, crypto.verify(e.getKey(), new byte[32], signature).isValid());
        }
    }

    private static void encrypt() {
        CryptographyClient rsa = crypto(KEYS.createRsaKey(
            new CreateRsaKeyOptions("rsa-encrypt").setKeySize(2048).setHardwareProtected(true)));
        byte[] sealed = rsa.encrypt(EncryptionAlgorithm.RSA_OAEP_256, PLAINTEXT).getCipherText();
        Suite.equal(PLAINTEXT, rsa.decrypt(EncryptionAlgorithm.RSA_OAEP_256, sealed).getPlainText());
        CryptographyClient oct = crypto(KEYS.createOctKey(new CreateOctKeyOptions("oct").setKeySize(256).setHardwareProtected(true)));
        byte[] wrapped = oct.wrapKey(KeyWrapAlgorithm.A256KW, PLAINTEXT).getEncryptedKey();
        Suite.equal(PLAINTEXT, oct.unwrapKey(KeyWrapAlgorithm.A256KW, wrapped).getKey());
    }

    private static void lifetime() throws Exception {
        String id = ec("lifetime").getId();
        KEYS.beginDeleteKey("lifetime").setPollInterval(POLL).waitForCompletion();
        Suite.refused(404, "KeyNotFound", null, () -> KEYS.getKey("lifetime"));
        KEYS.beginRecoverDeletedKey("lifetime").setPollInterval(POLL).waitForCompletion();
        Suite.equal(id, KEYS.getKey("lifetime").getId());
        KEYS.beginDeleteKey("lifetime").setPollInterval(POLL).waitForCompletion();
        KEYS.purgeDeletedKey("lifetime");
        Suite.refused(404, "KeyNotFound", null, () -> KEYS.getDeletedKey("lifetime"));
    }

    private static void backup() throws Exception {
        KeyVaultKey made = ec("backup");
        byte[] signature = crypto(made).sign(SignatureAlgorithm.ES256, digest()).getSignature();
        byte[] blob = KEYS.backupKey("backup");
        KeyVaultKey there = OTHER.restoreKeyBackup(blob);
        Suite.isTrue(there.getId().startsWith(Suite.env("E2E_OTHER_HSM")), there.getId());
        Suite.equal(true, crypto(there).verify(SignatureAlgorithm.ES256, digest(), signature).isValid());
        Suite.refused(409, "Conflict", null, () -> OTHER.restoreKeyBackup(blob));
    }
}
