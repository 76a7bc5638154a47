package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

// What `env --for az` leaves in the data folder: the cloud for az to register, and az's own settings, so that those of the
// user stay as they are.
const (
	azCloudFile = "az-cloud.json"
	azConfigDir = "az"
	azCloudName = "Strongroom"
)

// azCloud is the file that `az cloud register --cloud-config` reads.
type azCloud struct {
	Endpoints azEndpoints `json:"endpoints"`
	Suffixes  azSuffixes  `json:"suffixes"`
}

type azEndpoints struct {
	Management      string `json:"management"`
	ResourceManager string `json:"resourceManager"`
	ActiveDirectory string `json:"activeDirectory"`
	DirectoryID     string `json:"activeDirectoryResourceId"`      // the audience of tokens for the management plane
	GraphID         string `json:"activeDirectoryGraphResourceId"` // of az's older commands
	MicrosoftGraph  string `json:"microsoftGraphResourceId"`
}

type azSuffixes struct {
	KeyVault   string `json:"keyvaultDns"`
	ManagedHSM string `json:"mhsmDns"`
}

func newAzCloud(status *admin.Status) azCloud {
	host := func(label string) string { return withPort(label+"."+status.Domain, status) }
	management := "https://" + host("management")
	return azCloud{
		Endpoints: azEndpoints{
			Management: management, ResourceManager: management, ActiveDirectory: loginURL(*status), DirectoryID: management,
			GraphID: management, MicrosoftGraph: management,
		},
		Suffixes: azSuffixes{KeyVault: "." + host("vault"), ManagedHSM: "." + host("managedhsm")},
	}
}

// azVariables writes the cloud and returns what az needs in its environment, and what is to be run next.
func (e *envCommand) azVariables(dir string, status *admin.Status) (vars []variable, next []string, err error) {
	raw, err := json.MarshalIndent(newAzCloud(status), "", "  ")
	if err != nil {
		return nil, nil, err
	}
	file := filepath.Join(dir, azCloudFile)
	if err := server.ReplaceFile(file, append(raw, '\n'), 0o644); err != nil {
		return nil, nil, err
	}
	config := filepath.Join(dir, azConfigDir)
	if err := os.MkdirAll(config, 0o700); err != nil { // az keeps tokens there
		return nil, nil, err
	}
	c, err := readCredentials(e.credentials, dir, server.AdministratorFile)
	if err != nil {
		return nil, nil, err
	}
	vars = []variable{
		{name: "AZURE_CONFIG_DIR", value: config},
		{name: "AZURE_CORE_INSTANCE_DISCOVERY", value: "false"}, // or az asks Microsoft whether the authority is one
		{name: "AZURE_CORE_COLLECT_TELEMETRY", value: "false"},
	}
	next = []string{
		fmt.Sprintf("az cloud register --name %s --cloud-config @%s && az cloud set --name %[1]s", azCloudName, strconv.Quote(file)),
		fmt.Sprintf("az login --service-principal --tenant %s --username %s --password SECRET", c.TenantID, c.ClientID),
	}
	return vars, next, nil
}
