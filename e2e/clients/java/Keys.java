import com.azure.core.util.Context;
import com.azure.identity.ClientSecretCredentialBuilder;
import com.azure.identity.DefaultAzureCredential;
import com.azure.identity.DefaultAzureCredentialBuilder;
import com.azure.security.keyvault.keys.KeyClient;
import com.azure.security.keyvault.keys.KeyClientBuilder;
import com.azure.security.keyvault.keys.KeyServiceVersion;
import com.azure.security.keyvault.keys.cryptography.CryptographyClient;
import com.azure.security.keyvault.keys.cryptography.CryptographyClientBuilder;
import com.azure.security.keyvault.keys.cryptography.models.DecryptParameters;
import com.azure.security.keyvault.keys.cryptography.models.EncryptParameters;
import com.azure.security.keyvault.keys.cryptography.models.EncryptResult;
import com.azure.security.keyvault.keys.cryptography.models.EncryptionAlgorithm;
import com.azure.security.keyvault.keys.cryptography.models.KeyWrapAlgorithm;
import com.azure.security.keyvault.keys.cryptography.models.SignatureAlgorithm;
import com.azure.security.keyvault.keys.models.CreateEcKeyOptions;
import com.azure.security.keyvault.keys.models.CreateOctKeyOptions;
import com.azure.security.keyvault.keys.models.CreateRsaKeyOptions;
import com.azure.security.keyvault.keys.models.DeletedKey;
import com.azure.security.keyvault.keys.models.ImportKeyOptions;
import com.azure.security.keyvault.keys.models.JsonWebKey;
import com.azure.security.keyvault.keys.models.KeyCurveName;
import com.azure.security.keyvault.keys.models.KeyOperation;
import com.azure.security.keyvault.keys.models.KeyRotationLifetimeAction;
import com.azure.security.keyvault.keys.models.KeyRotationPolicy;
import com.azure.security.keyvault.keys.models.KeyRotationPolicyAction;
import com.azure.security.keyvault.keys.models.KeyVaultKey;
import java.nio.charset.StandardCharsets;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.MessageDigest;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PSSParameterSpec;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import javax.crypto.Cipher;
import javax.crypto.spec.GCMParameterSpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * azure-security-keyvault-keys, as an application uses it. E2E_VAULT is a premium vault of this program's own, E2E_OTHER_VAULT a
 * second one. Each algorithm is done by the server on one side and by the Java library or the client itself on the other.
 */
final class Keys {
    private static final Duration POLL = Duration.ofMillis(50);
    private static final String VAULT = Suite.env("E2E_VAULT");
    private static final DefaultAzureCredential CREDENTIAL = new DefaultAzureCredentialBuilder().build();
    private static final KeyClient CLIENT = builder(VAULT).buildClient();
    private static final KeyClient OTHER = builder(Suite.env("E2E_OTHER_VAULT")).buildClient();
    private static final byte[] PLAINTEXT = "32 bytes of nobody else's affair".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] IMPORTED = "strongroom-e2e-imported-oct-key!".getBytes(StandardCharsets.US_ASCII);

    private static KeyClientBuilder builder(String vault) {
        return new KeyClientBuilder().vaultUrl(vault).credential(CREDENTIAL);
    }

    /** The server does everything. */
    private static CryptographyClient remote(KeyVaultKey key) {
        return new CryptographyClientBuilder().keyIdentifier(key.getId()).credential(CREDENTIAL).disableKeyCaching().buildClient();
    }

    /** The client does what the public key suffices for. */
    private static CryptographyClient local(KeyVaultKey key) {
        return new CryptographyClientBuilder().keyIdentifier(key.getId()).credential(CREDENTIAL).buildClient();
    }

    private static DeletedKey delete(String name) {
        var poller = CLIENT.beginDeleteKey(name).setPollInterval(POLL);
        DeletedKey deleted = poller.poll().getValue();
        poller.waitForCompletion();
        return deleted;
    }

    public static void main(String[] args) {
        Suite suite = new Suite();
        suite.test("RSA, made by the server", () -> {
            for (int bits : new int[] {2048, 3072, 4096}) {
                KeyVaultKey key = CLIENT.createRsaKey(new CreateRsaKeyOptions("rsa-" + bits).setKeySize(bits));
                Suite.equal("RSA", key.getKeyType().toString());
                rsa(key, key.getKey().toRsa().getPublic());
            }
        });
        suite.test("RSA, imported", () -> {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
            generator.initialize(2048);
            KeyPair pair = generator.generateKeyPair();
            for (boolean hsm : new boolean[] {false, true}) {
                KeyVaultKey key = CLIENT.importKey(new ImportKeyOptions("rsa-imported-" + hsm, JsonWebKey.fromRsa(pair)).setHardwareProtected(hsm));
                Suite.equal(hsm ? "RSA-HSM" : "RSA", key.getKeyType().toString());
                rsa(key, pair.getPublic());
            }
        });
        suite.test("EC", Keys::ec);
        suite.test("AES", Keys::aes);
        suite.test("what a key may not do", Keys::limits);
        suite.test("create with all options", Keys::create);
        suite.test("create refused", Keys::refusals);
        suite.test("versions and update", Keys::versions);
        suite.test("paging", Keys::paging);
        suite.test("delete and recover", Keys::recover);
        suite.test("backup and restore", Keys::backup);
        suite.test("rotate by hand and by policy", Keys::rotate);
        suite.test("managed HSM only", () -> Suite.refused(400, "BadParameter", null, () -> CLIENT.getRandomBytes(16)));
        suite.test("missing", () -> {
            List<Suite.Body> calls = List.of(
                () -> CLIENT.getKey("never-made"), () -> CLIENT.backupKey("never-made"), () -> CLIENT.rotateKey("never-made"),
                () -> CLIENT.beginDeleteKey("never-made").poll(), () -> CLIENT.getDeletedKey("never-made"));
            for (Suite.Body call : calls) {
                Suite.refused(404, "KeyNotFound", null, call);
            }
        });
        suite.test("unknown vault", () -> {
            KeyClient unknown = builder(Suite.env("E2E_UNKNOWN_VAULT")).buildClient();
            Suite.refused(404, "VaultNotFound", null, () -> unknown.getKey("any"));
        });
        suite.test("principal without rights", () -> {
            KeyClient stranger = new KeyClientBuilder().vaultUrl(VAULT).credential(new ClientSecretCredentialBuilder()
                .tenantId(Suite.env("AZURE_TENANT_ID")).clientId(Suite.env("E2E_STRANGER_ID"))
                .clientSecret(Suite.env("E2E_STRANGER_SECRET")).build()).buildClient();
            Suite.refused(403, "Forbidden", "ForbiddenByRbac", () -> stranger.getKey("rsa-2048"));
            Suite.refused(403, "Forbidden", "ForbiddenByRbac", () -> stranger.createRsaKey(new CreateRsaKeyOptions("mine")));
        });
        suite.test("every api-version that the client knows", () -> {
            for (KeyServiceVersion version : KeyServiceVersion.values()) {
                KeyClient client = builder(VAULT).serviceVersion(version).buildClient();
                String name = "version-" + version.getVersion().replace('.', '-');
                KeyVaultKey key = client.createEcKey(new CreateEcKeyOptions(name));
                Suite.equal(key.getId(), client.getKey(name).getId());
            }
        });
        suite.run();
    }

    /** Signs and decrypts at the server; verifies and encrypts by Java's own library, at the server, and in the client. */
    private static void rsa(KeyVaultKey key, PublicKey own) throws Exception {
        CryptographyClient remote = remote(key);
        CryptographyClient local = local(key);
        for (String hash : List.of("256", "384", "512")) {
            byte[] digest = MessageDigest.getInstance("SHA-" + hash).digest(PLAINTEXT);
            SignatureAlgorithm pkcs1 = SignatureAlgorithm.fromString("RS" + hash);
            SignatureAlgorithm pss = SignatureAlgorithm.fromString("PS" + hash);
            byte[] signature = remote.sign(pkcs1, digest).getSignature();
            Signature java = Signature.getInstance("SHA" + hash + "withRSA");
            java.initVerify(own);
            java.update(PLAINTEXT);
            Suite.isTrue(java.verify(signature), pkcs1);
            Suite.isTrue(remote.verify(pkcs1, digest, signature).isValid(), pkcs1);
            signature[7] ^= 1;
            Suite.isTrue(!remote.verify(pkcs1, digest, signature).isValid(), pkcs1);

            byte[] probabilistic = remote.sign(pss, digest).getSignature();
            java = Signature.getInstance("RSASSA-PSS");
            java.setParameter(new PSSParameterSpec("SHA-" + hash, "MGF1", new MGF1ParameterSpec("SHA-" + hash), Integer.parseInt(hash) / 8, 1));
            java.initVerify(own);
            java.update(PLAINTEXT);
            Suite.isTrue(java.verify(probabilistic), pss);
            Suite.isTrue(remote.verify(pss, digest, probabilistic).isValid(), pss);
        }
        for (EncryptionAlgorithm alg : List.of(EncryptionAlgorithm.RSA1_5, EncryptionAlgorithm.RSA_OAEP, EncryptionAlgorithm.RSA_OAEP_256)) {
            Suite.equal(PLAINTEXT, remote.decrypt(alg, remote.encrypt(alg, PLAINTEXT).getCipherText()).getPlainText());
            Suite.equal(PLAINTEXT, remote.decrypt(alg, local.encrypt(alg, PLAINTEXT).getCipherText()).getPlainText());
        }
        Cipher cipher = Cipher.getInstance("RSA/ECB/OAEPWithSHA-1AndMGF1Padding");
        cipher.init(Cipher.ENCRYPT_MODE, own);
        Suite.equal(PLAINTEXT, remote.decrypt(EncryptionAlgorithm.RSA_OAEP, cipher.doFinal(PLAINTEXT)).getPlainText());
        for (KeyWrapAlgorithm alg : List.of(KeyWrapAlgorithm.RSA_OAEP, KeyWrapAlgorithm.RSA_OAEP_256)) {
            Suite.equal(PLAINTEXT, remote.unwrapKey(alg, remote.wrapKey(alg, PLAINTEXT).getEncryptedKey()).getKey());
            Suite.equal(PLAINTEXT, remote.unwrapKey(alg, local.wrapKey(alg, PLAINTEXT).getEncryptedKey()).getKey());
        }
    }

    private static void ec() throws Exception {
        Map<KeyCurveName, SignatureAlgorithm> algorithms = new LinkedHashMap<>();
        algorithms.put(KeyCurveName.P_256, SignatureAlgorithm.ES256);
        algorithms.put(KeyCurveName.P_384, SignatureAlgorithm.ES384);
        algorithms.put(KeyCurveName.P_521, SignatureAlgorithm.ES512);
        algorithms.put(KeyCurveName.P_256K, SignatureAlgorithm.ES256K);
        for (Map.Entry<KeyCurveName, SignatureAlgorithm> e : algorithms.entrySet()) {
            KeyVaultKey key = CLIENT.createEcKey(new CreateEcKeyOptions("ec-" + e.getKey()).setCurveName(e.getKey()));
            Suite.equal(e.getKey(), key.getKey().getCurveName());
            String hash = e.getValue().toString().substring(2, 5);
            byte[] digest = MessageDigest.getInstance("SHA-" + hash).digest(PLAINTEXT);
            byte[] signature = remote(key).sign(e.getValue(), digest).getSignature();
            Suite.isTrue(remote(key).verify(e.getValue(), digest, signature).isValid(), e);
            if (!e.getKey().equals(KeyCurveName.P_256K)) { // which Java has given up
                Signature java = Signature.getInstance("SHA" + hash + "withECDSAinP1363Format");
                java.initVerify(key.getKey().toEc().getPublic());
                java.update(PLAINTEXT);
                Suite.isTrue(java.verify(signature), e);
                Suite.isTrue(local(key).verifyData(e.getValue(), PLAINTEXT, signature).isValid(), e);
            }
            Suite.isTrue(remote(key).verifyData(e.getValue(), PLAINTEXT, remote(key).signData(e.getValue(), PLAINTEXT).getSignature()).isValid(), e);
        }
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
        generator.initialize(new java.security.spec.ECGenParameterSpec("secp256r1"));
        KeyPair pair = generator.generateKeyPair();
        KeyVaultKey imported = CLIENT.importKey("ec-imported", JsonWebKey.fromEc(pair, java.security.Security.getProvider("SunEC")));
        Signature java = Signature.getInstance("SHA256withECDSAinP1363Format");
        java.initVerify(pair.getPublic());
        java.update(PLAINTEXT);
        Suite.isTrue(java.verify(remote(imported).signData(SignatureAlgorithm.ES256, PLAINTEXT).getSignature()), "imported");
    }

    private static void aes() throws Exception {
        SecretKeySpec own = new SecretKeySpec(IMPORTED, "AES");
        KeyVaultKey key = CLIENT.importKey(new ImportKeyOptions("aes-imported", JsonWebKey.fromAes(own,
            List.of(KeyOperation.ENCRYPT, KeyOperation.DECRYPT, KeyOperation.WRAP_KEY, KeyOperation.UNWRAP_KEY))).setHardwareProtected(true));
        CryptographyClient remote = remote(key);
        byte[] aad = {1, 2, 3};
        EncryptResult gcm = remote.encrypt(EncryptParameters.createA256GcmParameters(PLAINTEXT, aad), Context.NONE);
        Cipher cipher = Cipher.getInstance("AES/GCM/NoPadding");
        cipher.init(Cipher.DECRYPT_MODE, own, new GCMParameterSpec(128, gcm.getIv()));
        cipher.updateAAD(aad);
        cipher.update(gcm.getCipherText());
        Suite.equal(PLAINTEXT, cipher.doFinal(gcm.getAuthenticationTag()));
        Suite.equal(PLAINTEXT, remote.decrypt(DecryptParameters.createA256GcmParameters(
            gcm.getCipherText(), gcm.getIv(), gcm.getAuthenticationTag(), aad), Context.NONE).getPlainText());
        byte[] iv = new byte[16];
        iv[3] = 9;
        EncryptResult cbc = remote.encrypt(EncryptParameters.createA256CbcPadParameters(PLAINTEXT, iv), Context.NONE);
        Suite.equal(PLAINTEXT, remote.decrypt(DecryptParameters.createA256CbcPadParameters(cbc.getCipherText(), iv), Context.NONE).getPlainText());
        cipher = Cipher.getInstance("AESWrap");
        cipher.init(Cipher.UNWRAP_MODE, own);
        byte[] wrapped = remote.wrapKey(KeyWrapAlgorithm.A256KW, PLAINTEXT).getEncryptedKey();
        Suite.equal(PLAINTEXT, cipher.unwrap(wrapped, "AES", Cipher.SECRET_KEY).getEncoded());
        Suite.equal(PLAINTEXT, remote.unwrapKey(KeyWrapAlgorithm.A256KW, wrapped).getKey());
        for (int bits : new int[] {128, 192, 256}) {
            KeyVaultKey made = CLIENT.createOctKey(new CreateOctKeyOptions("aes-" + bits).setKeySize(bits).setHardwareProtected(true));
            KeyWrapAlgorithm alg = KeyWrapAlgorithm.fromString("A" + bits + "KW");
            Suite.equal(PLAINTEXT, remote(made).unwrapKey(alg, remote(made).wrapKey(alg, PLAINTEXT).getEncryptedKey()).getKey());
        }
    }

    private static void limits() throws Exception {
        KeyVaultKey key = CLIENT.createRsaKey(new CreateRsaKeyOptions("sign-only").setKeyOperations(KeyOperation.SIGN));
        Suite.refused(403, "Forbidden", "KeyOperationForbidden", () -> remote(key).encrypt(EncryptionAlgorithm.RSA_OAEP, PLAINTEXT));
        CLIENT.updateKeyProperties(key.getProperties().setEnabled(false));
        Suite.refused(403, "Forbidden", "KeyDisabled",
            () -> remote(key).sign(SignatureAlgorithm.RS256, MessageDigest.getInstance("SHA-256").digest(PLAINTEXT)));
    }

    private static void create() {
        OffsetDateTime expires = OffsetDateTime.parse("2057-02-03T04:05:06Z");
        OffsetDateTime notBefore = OffsetDateTime.parse("2001-02-03T04:05:06Z");
        KeyVaultKey key = CLIENT.createRsaKey(new CreateRsaKeyOptions("options").setHardwareProtected(true).setKeySize(2048)
            .setKeyOperations(KeyOperation.SIGN, KeyOperation.VERIFY).setExpiresOn(expires).setNotBefore(notBefore).setTags(Map.of("a", "b")));
        Suite.equal("RSA-HSM", key.getKeyType().toString());
        Suite.equal(List.of(KeyOperation.SIGN, KeyOperation.VERIFY), key.getKeyOperations());
        Suite.isTrue(expires.isEqual(key.getProperties().getExpiresOn()) && notBefore.isEqual(key.getProperties().getNotBefore()), key.getId());
        Suite.equal(Map.of("a", "b"), key.getProperties().getTags());
        Suite.equal(VAULT + "/keys/options/" + key.getProperties().getVersion(), key.getId());
        Suite.equal(256, key.getKey().getN().length);
    }

    private static void refusals() throws Exception {
        Suite.refused(400, "BadParameter", null, () -> CLIENT.createRsaKey(new CreateRsaKeyOptions("bad-size").setKeySize(2047)));
        Suite.refused(400, "BadParameter", null, () -> CLIENT.createOctKey(new CreateOctKeyOptions("software-oct")));
        Suite.refused(400, "BadParameter", null,
            () -> OTHER.createRsaKey(new CreateRsaKeyOptions("standard-tier").setHardwareProtected(true)));
    }

    private static void versions() {
        KeyVaultKey first = CLIENT.createEcKey(new CreateEcKeyOptions("versions"));
        KeyVaultKey second = CLIENT.createEcKey(new CreateEcKeyOptions("versions"));
        Set<String> listed = new HashSet<>();
        CLIENT.listPropertiesOfKeyVersions("versions").forEach(p -> listed.add(p.getId()));
        Suite.equal(Set.of(first.getId(), second.getId()), listed);
        KeyVaultKey changed = CLIENT.updateKeyProperties(first.getProperties().setTags(Map.of("n", "1")), KeyOperation.VERIFY);
        Suite.equal(first.getId(), changed.getId());
        Suite.equal(List.of(KeyOperation.VERIFY), changed.getKeyOperations());
        Suite.equal(Map.of("n", "1"), CLIENT.getKey("versions", first.getProperties().getVersion()).getProperties().getTags());
        Suite.equal(second.getId(), CLIENT.getKey("versions").getId());
    }

    private static void paging() {
        Set<String> names = new HashSet<>();
        for (int n = 0; n < 30; n++) {
            String name = String.format("page-%02d", n);
            CLIENT.createEcKey(new CreateEcKeyOptions(name));
            names.add(name);
        }
        Set<String> listed = new HashSet<>();
        int[] pages = {0};
        CLIENT.listPropertiesOfKeys().iterableByPage().forEach(page -> {
            pages[0]++;
            page.getValue().forEach(p -> Suite.isTrue(listed.add(p.getName()), p.getName() + " twice"));
        });
        Suite.isTrue(pages[0] >= 2 && listed.containsAll(names), listed);
    }

    private static void recover() throws Exception {
        KeyVaultKey key = CLIENT.createEcKey(new CreateEcKeyOptions("recover"));
        DeletedKey deleted = delete("recover");
        Suite.equal(VAULT + "/deletedkeys/recover", deleted.getRecoveryId());
        Suite.refused(404, "KeyNotFound", null, () -> CLIENT.getKey("recover"));
        Suite.refused(409, "Conflict", "ObjectIsDeletedButRecoverable", () -> CLIENT.createEcKey(new CreateEcKeyOptions("recover")));
        Suite.isTrue(CLIENT.listDeletedKeys().stream().anyMatch(d -> d.getName().equals("recover")), "not listed");
        Suite.equal("recover", CLIENT.getDeletedKey("recover").getName());
        CLIENT.beginRecoverDeletedKey("recover").setPollInterval(POLL).waitForCompletion();
        Suite.equal(key.getId(), CLIENT.getKey("recover").getId());
        delete("recover");
        CLIENT.purgeDeletedKey("recover");
        Suite.refused(404, "KeyNotFound", null, () -> CLIENT.getDeletedKey("recover"));
    }

    private static void backup() throws Exception {
        KeyVaultKey key = CLIENT.createEcKey(new CreateEcKeyOptions("backup"));
        byte[] signature = remote(key).signData(SignatureAlgorithm.ES256, PLAINTEXT).getSignature();
        byte[] blob = CLIENT.backupKey("backup");
        Suite.refused(409, "Conflict", null, () -> CLIENT.restoreKeyBackup(blob));
        delete("backup");
        CLIENT.purgeDeletedKey("backup");
        Suite.equal(key.getId(), CLIENT.restoreKeyBackup(blob).getId());
        KeyVaultKey elsewhere = OTHER.restoreKeyBackup(blob);
        Suite.isTrue(remote(elsewhere).verifyData(SignatureAlgorithm.ES256, PLAINTEXT, signature).isValid(), "the restored key");
        byte[] altered = blob.clone();
        altered[altered.length / 2] ^= 1;
        Suite.refused(400, "BadParameter", null, () -> OTHER.restoreKeyBackup(altered));
    }

    private static void rotate() {
        KeyVaultKey first = CLIENT.createEcKey(new CreateEcKeyOptions("rotate"));
        KeyRotationPolicy set = CLIENT.updateKeyRotationPolicy("rotate", new KeyRotationPolicy().setExpiresIn("P2Y").setLifetimeActions(
            List.of(new KeyRotationLifetimeAction(KeyRotationPolicyAction.ROTATE).setTimeAfterCreate("P18M"))));
        Suite.equal("P2Y", set.getExpiresIn());
        KeyRotationPolicy read = CLIENT.getKeyRotationPolicy("rotate");
        Suite.equal("P2Y", read.getExpiresIn());
        Suite.equal("P18M", read.getLifetimeActions().stream()
            .filter(a -> a.getAction().equals(KeyRotationPolicyAction.ROTATE)).findFirst().orElseThrow().getTimeAfterCreate());
        KeyVaultKey second = CLIENT.rotateKey("rotate");
        Suite.isTrue(!second.getId().equals(first.getId()), second.getId());
        Suite.isTrue(second.getProperties().getExpiresOn().isAfter(OffsetDateTime.now().plusDays(700)), second.getProperties().getExpiresOn());
    }
}
