package authz

import (
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Ids of built-in roles, the same in every cloud of Azure.
const (
	RoleOwner                        = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	RoleContributor                  = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	RoleReader                       = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	RoleUserAccessAdministrator      = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9"
	RoleAccessControlAdministrator   = "f58310d9-a9f6-439a-9e8d-f62e7b41a168"
	RoleVaultAdministrator           = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
	RoleVaultReader                  = "21090545-7ca7-4776-b22c-e363652d74d2"
	RoleVaultCertificatesOfficer     = "a4417e6f-fecd-4de8-b567-7b0420556985"
	RoleVaultCertificateUser         = "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba"
	RoleVaultCryptoOfficer           = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"
	RoleVaultCryptoServiceEncryption = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
	RoleVaultCryptoServiceRelease    = "08bbd89e-9f13-488c-ac41-acfcb10c90ab"
	RoleVaultCryptoUser              = "12338af0-0e69-4776-bea7-57ae8d297424"
	RoleVaultSecretsOfficer          = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
	RoleVaultSecretsUser             = "4633458b-17de-408a-b874-0445c86b69e6"
	RoleVaultPurgeOperator           = "a68e7c17-0ab2-4c09-9a58-125dae29748c"
	RoleVaultContributor             = "f25e0fa2-a7c8-4377-a976-54943a77a395"
	RoleVaultDataAccessAdministrator = "8b54135c-b56d-4d72-a534-26097cfdc8d8"
	RoleHSMContributor               = "18500a29-7fe2-46b2-a342-b16a415e101d"
)

// officerActions is what the roles on a vault's content that can do more than use it allow in the management plane.
func officerActions() []string {
	return []string{
		"Microsoft.Authorization/*/read",
		"Microsoft.Insights/alertRules/*",
		"Microsoft.Resources/deployments/*",
		"Microsoft.Resources/subscriptions/resourceGroups/read",
		"Microsoft.Support/*",
		"Microsoft.KeyVault/checkNameAvailability/read",
		"Microsoft.KeyVault/deletedVaults/read",
		"Microsoft.KeyVault/locations/*/read",
		"Microsoft.KeyVault/vaults/*/read",
		"Microsoft.KeyVault/operations/read",
	}
}

// assignableData are the roles that a Key Vault Data Access Administrator may give and take. Azure's list leaves out the
// Certificate User and the Crypto Service Release User.
var assignableData = []string{
	RoleVaultAdministrator, RoleVaultCertificatesOfficer, RoleVaultCryptoOfficer, RoleVaultCryptoServiceEncryption,
	RoleVaultCryptoUser, RoleVaultReader, RoleVaultSecretsOfficer, RoleVaultSecretsUser,
}

func dataAccessCondition() string {
	const attribute = "[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals"
	roles := "{" + strings.Join(assignableData, ", ") + "}"
	return "((!(ActionMatches{'" + writeAssignments + "'})) OR (@Request" + attribute + roles + ")) AND " +
		"((!(ActionMatches{'" + deleteAssignments + "'})) OR (@Resource" + attribute + roles + "))"
}

// BuiltInRoles returns the definitions of Azure's built-in roles that mean something here: the general ones and those of
// Key Vault. Ids, names, actions and the condition are what Azure's lists of built-in roles say in 2026; the actions of the
// Purge Operator are from a catalogue of the live definitions. None is inferred. The descriptions are ours.
func BuiltInRoles() []RoleDefinition {
	roles := slices.Concat(generalRoles(), contentRoles(), vaultRoles())
	for i := range roles {
		roles[i].BuiltIn, roles[i].AssignableScopes = true, []string{"/"}
	}
	return roles
}

// isBuiltIn tells whether a built-in role has that id or name.
func isBuiltIn(id uuid.UUID, name string) bool {
	return slices.ContainsFunc(BuiltInRoles(), func(d RoleDefinition) bool {
		return d.ID == id.String() || strings.EqualFold(strings.TrimSpace(name), d.Name)
	})
}

func generalRoles() []RoleDefinition {
	return []RoleDefinition{
		{
			ID: RoleOwner, Name: "Owner",
			Description: "Manages everything, and who may manage it. Reads no secret.",
			Permissions: []PermissionSet{{Actions: []string{"*"}}},
		},
		{
			ID: RoleContributor, Name: "Contributor",
			Description: "Manages everything but who may manage it.",
			Permissions: []PermissionSet{{
				Actions: []string{"*"},
				NotActions: []string{
					"Microsoft.Authorization/*/Delete",
					"Microsoft.Authorization/*/Write",
					"Microsoft.Authorization/elevateAccess/Action",
					"Microsoft.Blueprint/blueprintAssignments/write",
					"Microsoft.Blueprint/blueprintAssignments/delete",
					"Microsoft.Compute/galleries/share/action",
					"Microsoft.Purview/consents/write",
					"Microsoft.Purview/consents/delete",
					"Microsoft.Resources/deploymentStacks/manageDenySetting/action",
					"Microsoft.Subscription/cancel/action",
					"Microsoft.Subscription/enable/action",
				},
			}},
		},
		{
			ID: RoleReader, Name: "Reader",
			Description: "Sees everything that is managed, and changes nothing.",
			Permissions: []PermissionSet{{Actions: []string{"*/read"}}},
		},
		{
			ID: RoleUserAccessAdministrator, Name: "User Access Administrator",
			Description: "Manages who may manage what.",
			Permissions: []PermissionSet{{Actions: []string{"*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"}}},
		},
		{
			ID: RoleAccessControlAdministrator, Name: "Role Based Access Control Administrator",
			Description: "Assigns roles, and grants access in no other way.",
			Permissions: []PermissionSet{{Actions: []string{writeAssignments, deleteAssignments, "*/read", "Microsoft.Support/*"}}},
		},
	}
}

// contentRoles are on what is in vaults.
func contentRoles() []RoleDefinition {
	return []RoleDefinition{
		{
			ID: RoleVaultAdministrator, Name: "Key Vault Administrator",
			Description: "Does everything with what is in a vault. Manages neither the vault nor access to it.",
			Permissions: []PermissionSet{{Actions: officerActions(), DataActions: []string{"Microsoft.KeyVault/vaults/*"}}},
		},
		{
			ID: RoleVaultReader, Name: "Key Vault Reader",
			Description: "Sees what is in a vault, without values of secrets and private parts of keys.",
			Permissions: []PermissionSet{{Actions: officerActions(), DataActions: []string{
				"Microsoft.KeyVault/vaults/*/read",
				"Microsoft.KeyVault/vaults/secrets/readMetadata/action",
			}}},
		},
		{
			ID: RoleVaultCertificatesOfficer, Name: "Key Vault Certificates Officer",
			Description: "Does everything with the certificates of a vault.",
			Permissions: []PermissionSet{{Actions: officerActions(), DataActions: []string{
				"Microsoft.KeyVault/vaults/certificatecas/*",
				"Microsoft.KeyVault/vaults/certificates/*",
				"Microsoft.KeyVault/vaults/certificatecontacts/write",
			}}},
		},
		{
			ID: RoleVaultCertificateUser, Name: "Key Vault Certificate User",
			Description: "Reads certificates of a vault with their private keys.",
			Permissions: []PermissionSet{{DataActions: []string{
				"Microsoft.KeyVault/vaults/certificates/read",
				"Microsoft.KeyVault/vaults/secrets/getSecret/action",
				"Microsoft.KeyVault/vaults/secrets/readMetadata/action",
				"Microsoft.KeyVault/vaults/keys/read",
			}}},
		},
		{
			ID: RoleVaultCryptoOfficer, Name: "Key Vault Crypto Officer",
			Description: "Does everything with the keys of a vault.",
			Permissions: []PermissionSet{{Actions: officerActions(), DataActions: []string{
				"Microsoft.KeyVault/vaults/keys/*",
				"Microsoft.KeyVault/vaults/keyrotationpolicies/*",
			}}},
		},
		{
			ID: RoleVaultCryptoServiceEncryption, Name: "Key Vault Crypto Service Encryption User",
			Description: "Sees keys of a vault, wraps and unwraps with them.",
			Permissions: []PermissionSet{{
				Actions: []string{
					"Microsoft.EventGrid/eventSubscriptions/write",
					"Microsoft.EventGrid/eventSubscriptions/read",
					"Microsoft.EventGrid/eventSubscriptions/delete",
				},
				DataActions: []string{
					"Microsoft.KeyVault/vaults/keys/read",
					"Microsoft.KeyVault/vaults/keys/wrap/action",
					"Microsoft.KeyVault/vaults/keys/unwrap/action",
				},
			}},
		},
		{
			ID: RoleVaultCryptoServiceRelease, Name: "Key Vault Crypto Service Release User",
			Description: "Has keys released to attested environments.",
			Permissions: []PermissionSet{{DataActions: []string{"Microsoft.KeyVault/vaults/keys/release/action"}}},
		},
		{
			ID: RoleVaultCryptoUser, Name: "Key Vault Crypto User",
			Description: "Uses the keys of a vault.",
			Permissions: []PermissionSet{{DataActions: []string{
				"Microsoft.KeyVault/vaults/keys/read",
				"Microsoft.KeyVault/vaults/keys/update/action",
				"Microsoft.KeyVault/vaults/keys/backup/action",
				"Microsoft.KeyVault/vaults/keys/encrypt/action",
				"Microsoft.KeyVault/vaults/keys/decrypt/action",
				"Microsoft.KeyVault/vaults/keys/wrap/action",
				"Microsoft.KeyVault/vaults/keys/unwrap/action",
				"Microsoft.KeyVault/vaults/keys/sign/action",
				"Microsoft.KeyVault/vaults/keys/verify/action",
			}}},
		},
		{
			ID: RoleVaultSecretsOfficer, Name: "Key Vault Secrets Officer",
			Description: "Does everything with the secrets of a vault.",
			Permissions: []PermissionSet{{Actions: officerActions(), DataActions: []string{"Microsoft.KeyVault/vaults/secrets/*"}}},
		},
		{
			ID: RoleVaultSecretsUser, Name: "Key Vault Secrets User",
			Description: "Reads the secrets of a vault.",
			Permissions: []PermissionSet{{DataActions: []string{
				"Microsoft.KeyVault/vaults/secrets/getSecret/action",
				"Microsoft.KeyVault/vaults/secrets/readMetadata/action",
			}}},
		},
	}
}

// vaultRoles are on vaults and managed HSMs themselves.
func vaultRoles() []RoleDefinition {
	return []RoleDefinition{
		{
			ID: RoleVaultPurgeOperator, Name: "Key Vault Purge Operator",
			Description: "Destroys soft-deleted vaults for ever.",
			Permissions: []PermissionSet{{Actions: []string{
				"Microsoft.Authorization/*/read",
				"Microsoft.Insights/alertRules/*",
				"Microsoft.Resources/deployments/*",
				"Microsoft.Resources/subscriptions/resourceGroups/read",
				"Microsoft.KeyVault/deletedVaults/read",
				"Microsoft.KeyVault/locations/deletedVaults/read",
				"Microsoft.KeyVault/locations/deletedVaults/purge/action",
				"Microsoft.KeyVault/locations/operationResults/read",
			}}},
		},
		{
			ID: RoleVaultContributor, Name: "Key Vault Contributor",
			Description: "Manages vaults, and no managed HSMs. Grants no role; but whoever writes a vault can write its access policies.",
			Permissions: []PermissionSet{{
				Actions: []string{
					"Microsoft.Authorization/*/read",
					"Microsoft.Insights/alertRules/*",
					"Microsoft.KeyVault/*",
					"Microsoft.Resources/deployments/*",
					"Microsoft.Resources/subscriptions/resourceGroups/read",
					"Microsoft.Support/*",
				},
				NotActions: []string{
					"Microsoft.KeyVault/locations/deletedVaults/purge/action",
					"Microsoft.KeyVault/hsmPools/*",
					"Microsoft.KeyVault/managedHsms/*",
				},
			}},
		},
		{
			ID: RoleVaultDataAccessAdministrator, Name: "Key Vault Data Access Administrator",
			Description: "Gives and takes eight of the roles on what is in a vault, and no other role.",
			Permissions: []PermissionSet{{
				Actions: []string{
					writeAssignments,
					deleteAssignments,
					"Microsoft.Authorization/*/read",
					"Microsoft.Resources/deployments/*",
					"Microsoft.Resources/subscriptions/resourceGroups/read",
					"Microsoft.Resources/subscriptions/read",
					"Microsoft.Management/managementGroups/read",
					"Microsoft.Resources/deployments/*", // twice in Azure's list too
					"Microsoft.Support/*",
					"Microsoft.KeyVault/vaults/*/read",
				},
				Condition:        dataAccessCondition(),
				ConditionVersion: ConditionVersion,
			}},
		},
		{
			ID: RoleHSMContributor, Name: "Managed HSM contributor",
			Description: "Manages managed HSMs, and not what is in them.",
			Permissions: []PermissionSet{{Actions: []string{
				"Microsoft.KeyVault/managedHSMs/*",
				"Microsoft.KeyVault/deletedManagedHsms/read",
				"Microsoft.KeyVault/locations/deletedManagedHsms/read",
				"Microsoft.KeyVault/locations/deletedManagedHsms/purge/action",
				"Microsoft.KeyVault/locations/managedHsmOperationResults/read",
			}}},
		},
	}
}
