package administration

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// A SettingsClient reads and changes the settings of a managed HSM.
type SettingsClient struct{ client *client }

// NewSettingsClient makes a client for the managed HSM at vaultURL, such as https://name.managedhsm.azure.net.
func NewSettingsClient(vaultURL string, cred azcore.TokenCredential, options *ClientOptions) (*SettingsClient, error) {
	c, err := newClient(vaultURL, cred, options)
	if err != nil {
		return nil, err
	}
	return &SettingsClient{c}, nil
}

// A SettingType says how the value of a setting is to be read.
type SettingType string

// SettingTypeBoolean is a value of "true" or "false". The service has no other type yet.
const SettingTypeBoolean SettingType = "boolean"

// A Setting is one setting. Its value is text, whatever its type.
type Setting struct {
	Name  string      `json:"name"`
	Type  SettingType `json:"type"`
	Value string      `json:"value"`
}

// Bool is the value of a boolean setting.
func (s Setting) Bool() (bool, error) {
	if s.Type != "" && !strings.EqualFold(string(s.Type), string(SettingTypeBoolean)) {
		return false, fmt.Errorf("administration: setting %s is of type %s, not boolean", s.Name, s.Type)
	}
	b, err := strconv.ParseBool(strings.ToLower(s.Value))
	if err != nil {
		return false, fmt.Errorf("administration: setting %s has the value %q, which is not boolean", s.Name, s.Value)
	}
	return b, nil
}

// GetSettingsOptions are the options of GetSettings. There are none yet.
type GetSettingsOptions struct{}

// A GetSettingsResponse is all settings.
type GetSettingsResponse struct {
	Settings []Setting `json:"settings"`
}

// GetSettings returns all settings of the HSM.
func (c *SettingsClient) GetSettings(ctx context.Context, _ *GetSettingsOptions) (GetSettingsResponse, error) {
	return call[GetSettingsResponse](ctx, c.client, "SettingsClient.GetSettings", http.MethodGet, "/settings", nil)
}

// GetSettingOptions are the options of GetSetting. There are none yet.
type GetSettingOptions struct{}

// A GetSettingResponse is the setting.
type GetSettingResponse struct{ Setting }

// GetSetting returns one setting. A name that the service does not know fails with status 404.
func (c *SettingsClient) GetSetting(ctx context.Context, name string, _ *GetSettingOptions) (GetSettingResponse, error) {
	if err := checkName("setting", name); err != nil {
		return GetSettingResponse{}, err
	}
	return call[GetSettingResponse](ctx, c.client, "SettingsClient.GetSetting", http.MethodGet, "/settings/"+name, nil)
}

// UpdateSettingOptions are the options of UpdateSetting. There are none yet.
type UpdateSettingOptions struct{}

// An UpdateSettingResponse is the setting as it is now.
type UpdateSettingResponse struct{ Setting }

// UpdateSetting gives a setting another value, which is text: "true" or "false" for a boolean one.
func (c *SettingsClient) UpdateSetting(ctx context.Context, name, value string, _ *UpdateSettingOptions) (UpdateSettingResponse, error) {
	if err := checkName("setting", name); err != nil {
		return UpdateSettingResponse{}, err
	}
	body := struct {
		Value string `json:"value"`
	}{value}
	return call[UpdateSettingResponse](ctx, c.client, "SettingsClient.UpdateSetting", http.MethodPatch, "/settings/"+name, body)
}
