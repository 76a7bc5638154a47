import com.azure.core.exception.HttpResponseException;
import com.azure.core.util.polling.LongRunningOperationStatus;
import com.azure.core.util.polling.PollResponse;
import com.azure.core.util.polling.SyncPoller;
import com.azure.identity.DefaultAzureCredential;
import com.azure.identity.DefaultAzureCredentialBuilder;
import com.azure.security.keyvault.administration.KeyVaultAccessControlClient;
import com.azure.security.keyvault.administration.KeyVaultAccessControlClientBuilder;
import com.azure.security.keyvault.administration.KeyVaultBackupClient;
import com.azure.security.keyvault.administration.KeyVaultBackupClientBuilder;
import com.azure.security.keyvault.administration.models.KeyVaultLongRunningOperation;
import com.azure.security.keyvault.administration.models.KeyVaultRoleScope;
import com.azure.security.keyvault.keys.KeyClient;
import com.azure.security.keyvault.keys.KeyClientBuilder;
import com.azure.security.keyvault.keys.models.CreateEcKeyOptions;
import java.time.Duration;
import java.util.List;

/**
 * Full backups and restores of managed HSMs. E2E_HSM and E2E_OTHER_HSM are of this program's own and have one security domain,
 * E2E_FOREIGN_HSM has another. E2E_CONTAINER is the address of a blob container, which E2E_SAS opens and E2E_EXPIRED_SAS did.
 */
final class HSMBackup {
    private static final String DEFINITIONS = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/";
    private static final DefaultAzureCredential CREDENTIAL = new DefaultAzureCredentialBuilder().build();
    private static final String CONTAINER = Suite.env("E2E_CONTAINER");
    private static final String SAS = Suite.env("E2E_SAS");
    private static final KeyVaultBackupClient HERE = backups("E2E_HSM");
    private static final KeyVaultBackupClient THERE = backups("E2E_OTHER_HSM");
    private static final KeyVaultBackupClient FOREIGN = backups("E2E_FOREIGN_HSM");
    private static final KeyClient KEYS = keys("E2E_HSM");
    private static final KeyClient OTHER = keys("E2E_OTHER_HSM");

    private static KeyVaultBackupClient backups(String variable) {
        return new KeyVaultBackupClientBuilder().vaultUrl(Suite.env(variable)).credential(CREDENTIAL).buildClient();
    }

    private static KeyClient keys(String variable) {
        KeyVaultAccessControlClient access = new KeyVaultAccessControlClientBuilder().vaultUrl(Suite.env(variable)).credential(CREDENTIAL)
            .buildClient();
        // Crypto User and Crypto Officer
        for (String role : List.of("21dbd100-6940-42c2-9190-5d6cb909625b", "515eb02d-2335-4d2d-92f2-b1cbdf9c3778")) {
            access.createRoleAssignment(KeyVaultRoleScope.GLOBAL, DEFINITIONS + role, Suite.env("E2E_OBJECT"));
        }
        return new KeyClientBuilder().vaultUrl(Suite.env(variable)).credential(CREDENTIAL).buildClient();
    }

    private static <T extends KeyVaultLongRunningOperation, U> U done(SyncPoller<T, U> poller) {
        PollResponse<T> end = poller.setPollInterval(Duration.ofMillis(500)).waitForCompletion(Duration.ofMinutes(1));
        Suite.equal(LongRunningOperationStatus.SUCCESSFULLY_COMPLETED, end.getStatus());
        return poller.getFinalResult();
    }

    /** The job fails, and its state says why. */
    private static <T extends KeyVaultLongRunningOperation, U> void fails(String text, SyncPoller<T, U> poller) {
        PollResponse<T> end = poller.setPollInterval(Duration.ofMillis(500)).waitForCompletion(Duration.ofMinutes(1));
        Suite.equal(LongRunningOperationStatus.FAILED, end.getStatus());
        Suite.isTrue(end.getValue().getError().getMessage().contains(text), end.getValue().getError().getMessage());
    }

    public static void main(String[] args) {
        Suite suite = new Suite();
        suite.test("backup and restore", HSMBackup::backupAndRestore);
        suite.run();
    }

    private static List<String> names(KeyClient client) {
        return client.listPropertiesOfKeys().stream().map(k -> k.getName()).sorted().toList();
    }

    private static void backupAndRestore() throws Exception {
        String id = KEYS.createEcKey(new CreateEcKeyOptions("kept").setHardwareProtected(true)).getId();
        String folder = done(HERE.beginBackup(CONTAINER, SAS));
        Suite.isTrue(folder.startsWith(CONTAINER + "/mhsm-"), folder);
        HttpResponseException refused = Suite.refused(400, "BadParameter", null,
            () -> HERE.beginBackup(CONTAINER, Suite.env("E2E_EXPIRED_SAS")));
        Suite.isTrue(refused.getMessage().contains("expired"), refused.getMessage());
        fails("container", HERE.beginBackup(Suite.env("E2E_MISSING_CONTAINER"), Suite.env("E2E_MISSING_SAS")));
        fails("security domain", FOREIGN.beginSelectiveKeyRestore("kept", folder, SAS));

        OTHER.createEcKey(new CreateEcKeyOptions("goes").setHardwareProtected(true));
        Suite.refused(400, "BadParameter", null, () -> THERE.beginRestore(folder, SAS).waitForCompletion());
        String own = done(THERE.beginBackup(CONTAINER, SAS));
        done(THERE.beginRestore(folder, SAS));
        Suite.equal(List.of("kept"), names(OTHER));
        Suite.equal(id.substring(id.lastIndexOf('/')), OTHER.getKey("kept").getId().substring(OTHER.getKey("kept").getId().lastIndexOf('/')));

        KEYS.beginDeleteKey("kept").setPollInterval(Duration.ofMillis(50)).waitForCompletion();
        KEYS.purgeDeletedKey("kept");
        done(HERE.beginSelectiveKeyRestore("kept", folder, SAS));
        done(HERE.beginSelectiveKeyRestore("goes", own, SAS));
        Suite.equal(List.of("goes", "kept"), names(KEYS));
        Suite.equal(id, KEYS.getKey("kept").getId());
    }
}
