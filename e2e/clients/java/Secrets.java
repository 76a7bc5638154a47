import com.azure.core.exception.HttpResponseException;
import com.azure.core.http.rest.PagedResponse;
import com.azure.core.util.polling.SyncPoller;
import com.azure.identity.ClientSecretCredentialBuilder;
import com.azure.identity.DefaultAzureCredentialBuilder;
import com.azure.security.keyvault.secrets.SecretClient;
import com.azure.security.keyvault.secrets.SecretClientBuilder;
import com.azure.security.keyvault.secrets.SecretServiceVersion;
import com.azure.security.keyvault.secrets.models.DeletedSecret;
import com.azure.security.keyvault.secrets.models.KeyVaultSecret;
import com.azure.security.keyvault.secrets.models.SecretProperties;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * azure-security-keyvault-secrets, as an application uses it: a URL and DefaultAzureCredential. Everything else comes from the
 * environment. E2E_VAULT is a vault of this program's own that keeps what was deleted for seven days, E2E_OTHER_VAULT a second one,
 * E2E_UNKNOWN_VAULT the address of none.
 */
final class Secrets {
    private static final Duration POLL = Duration.ofMillis(50);
    private static final String VAULT = Suite.env("E2E_VAULT");
    private static final SecretClient CLIENT = builder(VAULT).buildClient();
    private static final SecretClient OTHER = builder(Suite.env("E2E_OTHER_VAULT")).buildClient();

    private static SecretClientBuilder builder(String vault) {
        return new SecretClientBuilder().vaultUrl(vault).credential(new DefaultAzureCredentialBuilder().build());
    }

    private static DeletedSecret delete(String name) {
        SyncPoller<DeletedSecret, Void> poller = CLIENT.beginDeleteSecret(name).setPollInterval(POLL);
        DeletedSecret deleted = poller.poll().getValue();
        poller.waitForCompletion();
        return deleted;
    }

    public static void main(String[] args) {
        Suite suite = new Suite();
        suite.test("round trip", Secrets::roundTrip);
        suite.test("properties", Secrets::properties);
        suite.test("any text up to 25 kilobytes", Secrets::texts);
        suite.test("versions", Secrets::versions);
        suite.test("update and disable", Secrets::update);
        suite.test("paging", Secrets::paging);
        suite.test("delete and recover", Secrets::recover);
        suite.test("purge", Secrets::purge);
        suite.test("backup and restore", Secrets::backup);
        suite.test("missing", Secrets::missing);
        suite.test("unknown vault", () -> {
            SecretClient unknown = builder(Suite.env("E2E_UNKNOWN_VAULT")).buildClient();
            Suite.refused(404, "VaultNotFound", null, () -> unknown.getSecret("any"));
        });
        suite.test("principal without rights", Secrets::stranger);
        suite.test("every api-version that the client knows", () -> {
            for (SecretServiceVersion version : SecretServiceVersion.values()) {
                SecretClient client = builder(VAULT).serviceVersion(version).buildClient();
                String name = "version-" + version.getVersion().replace('.', '-');
                Suite.equal(client.setSecret(name, "v").getId(), client.getSecret(name).getId());
            }
        });
        suite.run();
    }

    private static void roundTrip() {
        KeyVaultSecret stored = CLIENT.setSecret("round-trip", "first");
        SecretProperties p = stored.getProperties();
        Suite.equal(VAULT + "/secrets/round-trip/" + p.getVersion(), p.getId());
        Suite.isTrue(p.getVersion().matches("[0-9a-f]{32}"), p.getVersion());
        Suite.equal(true, p.isEnabled());
        Suite.equal("CustomizedRecoverable+Purgeable", p.getRecoveryLevel());
        Suite.equal(7, p.getRecoverableDays());
        Suite.isTrue(Duration.between(p.getCreatedOn(), OffsetDateTime.now()).abs().toMinutes() < 1, p.getCreatedOn());
        KeyVaultSecret read = CLIENT.getSecret("round-trip");
        Suite.equal("first", read.getValue());
        Suite.equal(stored.getId(), read.getId());
    }

    private static void properties() {
        OffsetDateTime expires = OffsetDateTime.parse("2057-02-03T04:05:06Z");
        OffsetDateTime notBefore = OffsetDateTime.parse("2001-02-03T04:05:06Z");
        Map<String, String> tags = Map.of("owner", "someone", "Größe", "naïve", "empty", "");
        CLIENT.setSecret(new KeyVaultSecret("properties", "v").setProperties(new SecretProperties()
            .setContentType("text/plain; charset=utf-8").setExpiresOn(expires).setNotBefore(notBefore).setTags(tags)));
        SecretProperties p = CLIENT.getSecret("properties").getProperties();
        Suite.equal("text/plain; charset=utf-8", p.getContentType());
        Suite.equal(tags, p.getTags());
        Suite.isTrue(expires.isEqual(p.getExpiresOn()) && notBefore.isEqual(p.getNotBefore()), p.getExpiresOn());
    }

    private static void texts() throws Exception {
        Map<String, String> values = Map.of(
            "unicode", "naïve \u2603 \uD83D\uDD11 \0 \r\n\t \"quoted\" \\ </script> \u2028",
            "empty", "",
            "largest", "x".repeat(25600));
        for (Map.Entry<String, String> e : values.entrySet()) {
            CLIENT.setSecret("text-" + e.getKey(), e.getValue());
            Suite.equal(e.getValue(), CLIENT.getSecret("text-" + e.getKey()).getValue());
        }
        Suite.refused(400, "BadParameter", null, () -> CLIENT.setSecret("text-too-large", "x".repeat(25601)));
    }

    private static void versions() {
        Set<String> stored = new HashSet<>();
        String last = null;
        for (int n = 0; n < 3; n++) {
            KeyVaultSecret s = CLIENT.setSecret("versions", "value " + n);
            last = s.getId();
            stored.add(last);
            Suite.equal("value " + n, CLIENT.getSecret("versions", s.getProperties().getVersion()).getValue());
        }
        Set<String> listed = new HashSet<>();
        CLIENT.listPropertiesOfSecretVersions("versions").forEach(p -> listed.add(p.getId()));
        Suite.equal(stored, listed);
        Suite.equal(last, CLIENT.getSecret("versions").getId());
    }

    private static void update() throws Exception {
        SecretProperties first = CLIENT.setSecret("update", "v1").getProperties();
        CLIENT.setSecret("update", "v2");
        SecretProperties changed = CLIENT.updateSecretProperties(
            first.setContentType("x/y").setTags(Map.of("b", "2")).setEnabled(false));
        Suite.equal(false, changed.isEnabled());
        String version = first.getVersion();
        Suite.refused(403, "Forbidden", "SecretDisabled", () -> CLIENT.getSecret("update", version));
        Suite.equal("v2", CLIENT.getSecret("update").getValue());
        CLIENT.updateSecretProperties(changed.setEnabled(true));
        KeyVaultSecret read = CLIENT.getSecret("update", version);
        Suite.equal("v1", read.getValue());
        Suite.equal("x/y", read.getProperties().getContentType());
        Suite.equal(Map.of("b", "2"), read.getProperties().getTags());
    }

    private static void paging() {
        Set<String> names = new HashSet<>();
        for (int n = 0; n < 60; n++) {
            names.add(String.format("page-%02d", n));
        }
        names.forEach(name -> CLIENT.setSecret(name, "v"));
        List<String> listed = new ArrayList<>();
        int pages = 0;
        for (PagedResponse<SecretProperties> page : CLIENT.listPropertiesOfSecrets().iterableByPage()) {
            Suite.isTrue(page.getValue().size() <= 25, page.getValue().size());
            page.getValue().forEach(p -> listed.add(p.getName()));
            pages++;
        }
        Suite.isTrue(pages >= 3, pages);
        Suite.equal(listed.size(), new HashSet<>(listed).size());
        Suite.isTrue(listed.containsAll(names), listed);
    }

    private static void recover() throws Exception {
        Set<String> versions = new HashSet<>();
        for (String value : List.of("one", "two")) {
            versions.add(CLIENT.setSecret("recover", value).getId());
        }
        DeletedSecret deleted = delete("recover");
        Suite.equal(VAULT + "/deletedsecrets/recover", deleted.getRecoveryId());
        Suite.equal(Duration.ofDays(7), Duration.between(deleted.getDeletedOn(), deleted.getScheduledPurgeDate()));
        Suite.refused(404, "SecretNotFound", null, () -> CLIENT.getSecret("recover"));
        Suite.refused(409, "Conflict", "ObjectIsDeletedButRecoverable", () -> CLIENT.setSecret("recover", "three"));
        Suite.equal("recover", CLIENT.getDeletedSecret("recover").getName());
        Suite.isTrue(CLIENT.listDeletedSecrets().stream().anyMatch(d -> d.getName().equals("recover")), "not listed");

        CLIENT.beginRecoverDeletedSecret("recover").setPollInterval(POLL).waitForCompletion();
        Suite.equal("two", CLIENT.getSecret("recover").getValue());
        Set<String> listed = new HashSet<>();
        CLIENT.listPropertiesOfSecretVersions("recover").forEach(p -> listed.add(p.getId()));
        Suite.equal(versions, listed);
        Suite.refused(404, "SecretNotFound", null, () -> CLIENT.getDeletedSecret("recover"));
    }

    private static void purge() throws Exception {
        CLIENT.setSecret("purge", "v");
        delete("purge");
        CLIENT.purgeDeletedSecret("purge");
        Suite.refused(404, "SecretNotFound", null, () -> CLIENT.getDeletedSecret("purge"));
        CLIENT.setSecret("purge", "again");
        Suite.equal(1L, CLIENT.listPropertiesOfSecretVersions("purge").stream().count());
    }

    private static void backup() throws Exception {
        String first = CLIENT.setSecret("backup", "value 0").getProperties().getVersion();
        String second = CLIENT.setSecret("backup", "value 1").getId();
        byte[] blob = CLIENT.backupSecret("backup");
        Suite.refused(409, "Conflict", null, () -> CLIENT.restoreSecretBackup(blob));
        delete("backup");
        CLIENT.purgeDeletedSecret("backup");
        byte[] altered = blob.clone();
        altered[altered.length / 2] ^= 1;
        Suite.refused(400, "BadParameter", null, () -> CLIENT.restoreSecretBackup(altered));
        Suite.equal(second, CLIENT.restoreSecretBackup(blob).getId());
        Suite.equal("value 0", CLIENT.getSecret("backup", first).getValue());
        OTHER.restoreSecretBackup(blob);
        Suite.equal("value 1", OTHER.getSecret("backup").getValue());
    }

    private static void missing() throws Exception {
        HttpResponseException e = Suite.refused(404, "SecretNotFound", null, () -> CLIENT.getSecret("never-set"));
        Suite.isTrue(e.getMessage().contains("was not found in this key vault"), e.getMessage());
        String known = CLIENT.setSecret("known", "v").getProperties().getVersion();
        List<Suite.Body> calls = List.of(
            () -> CLIENT.getSecret("known", "0".repeat(32)),
            () -> CLIENT.beginDeleteSecret("never-set").poll(),
            () -> CLIENT.backupSecret("never-set"),
            () -> OTHER.getSecret("known", known));
        for (Suite.Body call : calls) {
            Suite.refused(404, "SecretNotFound", null, call);
        }
    }

    private static void stranger() throws Exception {
        CLIENT.setSecret("not-yours", "v");
        SecretClient stranger = new SecretClientBuilder().vaultUrl(VAULT).credential(new ClientSecretCredentialBuilder()
            .tenantId(Suite.env("AZURE_TENANT_ID")).clientId(Suite.env("E2E_STRANGER_ID"))
            .clientSecret(Suite.env("E2E_STRANGER_SECRET")).build()).buildClient();
        List<Suite.Body> calls = List.of(
            () -> stranger.getSecret("not-yours"),
            () -> stranger.setSecret("not-yours", "mine"),
            () -> stranger.backupSecret("not-yours"),
            () -> stranger.listPropertiesOfSecrets().iterator().hasNext());
        for (Suite.Body call : calls) {
            HttpResponseException e = Suite.refused(403, "Forbidden", "ForbiddenByRbac", call);
            Suite.isTrue(e.getMessage().contains(Suite.env("E2E_STRANGER_ID")), e.getMessage());
        }
        Suite.equal("v", CLIENT.getSecret("not-yours").getValue());
    }
}
