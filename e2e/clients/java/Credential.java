import com.azure.identity.DefaultAzureCredentialBuilder;
import com.azure.security.keyvault.secrets.SecretClient;
import com.azure.security.keyvault.secrets.SecretClientBuilder;
import com.azure.security.keyvault.secrets.models.KeyVaultSecret;

/** Whatever credential the environment offers opens the vault. */
final class Credential {
    public static void main(String[] args) {
        Suite suite = new Suite();
        suite.test("credential: " + Suite.env("E2E_CREDENTIAL"), () -> {
            SecretClient client = new SecretClientBuilder()
                .vaultUrl(Suite.env("E2E_VAULT"))
                .credential(new DefaultAzureCredentialBuilder().build())
                .buildClient();
            KeyVaultSecret stored = client.setSecret(Suite.env("E2E_SECRET_NAME"), "from Java");
            Suite.equal(stored.getId(), client.getSecret(Suite.env("E2E_SECRET_NAME")).getId());
        });
        suite.run();
    }
}
