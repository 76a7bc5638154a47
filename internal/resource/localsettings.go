package resource

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// A Setting is a switch of a managed HSM.
type Setting struct {
	Name  string
	Value bool
}

// AllowKeyManagementThroughARM is the one setting there is. It is kept and governs nothing: the management plane has no keys of
// managed HSMs.
const AllowKeyManagementThroughARM = "AllowKeyManagementOperationsThroughARM"

// settingsRecord belongs to the content of a managed HSM.
type settingsRecord struct {
	record.Format
	AllowKeyManagementThroughARM bool `json:"allowKeyManagementOperationsThroughARM"`
}

func localSettingsKey(contentID string) string { return LocalPrefix(contentID) + "settings" }

func loadSettings(r store.Reader, v *Vault) (*settingsRecord, error) {
	rec, err := record.Get[settingsRecord](r, localSettingsKey(v.ContentID()))
	if errors.Is(err, store.ErrNotFound) {
		return &settingsRecord{Format: record.Current()}, nil
	}
	return rec, err
}

func (r *settingsRecord) list() []Setting {
	return []Setting{{AllowKeyManagementThroughARM, r.AllowKeyManagementThroughARM}}
}

// ListSettings returns the settings of a managed HSM.
func (s *Service) ListSettings(ctx context.Context, a Actor, hsm string) ([]Setting, error) {
	return s.settingsOf(ctx, a, hsm, SettingList)
}

// GetSetting returns a setting of a managed HSM.
func (s *Service) GetSetting(ctx context.Context, a Actor, hsm, name string) (Setting, error) {
	list, err := s.settingsOf(ctx, a, hsm, SettingGet)
	if err != nil {
		return Setting{}, err
	}
	for _, setting := range list {
		if strings.EqualFold(setting.Name, name) {
			return setting, nil
		}
	}
	return Setting{}, noSetting(name)
}

func (s *Service) settingsOf(ctx context.Context, a Actor, hsm string, op LocalOperation) (list []Setting, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		h, err := s.viewHSM(r, a, hsm)
		if err != nil {
			return err
		}
		if err := h.ask(op, wholeHSM); err != nil {
			return err
		}
		rec, err := loadSettings(r, h.v)
		if err == nil {
			list = rec.list()
		}
		return err
	})
	return list, err
}

// UpdateSetting sets a setting of a managed HSM: "true" or "false".
func (s *Service) UpdateSetting(ctx context.Context, a Actor, hsm, name, value string) (out Setting, err error) {
	check := func(h *hsmView) (string, error) {
		if err := h.ask(SettingUpdate, wholeHSM); err != nil {
			return "", err
		}
		if !strings.EqualFold(name, AllowKeyManagementThroughARM) {
			return "", noSetting(name)
		}
		on := strings.EqualFold(value, "true")
		if !on && !strings.EqualFold(value, "false") {
			return "", invalidProperty("value", "The value of the setting '%s' is \"true\" or \"false\", not '%s'.", AllowKeyManagementThroughARM,
				bounded(value))
		}
		out = Setting{AllowKeyManagementThroughARM, on}
		return "value " + strconv.FormatBool(on), nil
	}
	err = s.changeLocal(ctx, a, hsm, SettingUpdate, name, check, func(tx store.Tx, h *hsmView) error {
		rec, err := loadSettings(tx, h.v)
		if err != nil {
			return err
		}
		rec.AllowKeyManagementThroughARM = out.Value
		return record.Put(tx, localSettingsKey(h.v.ContentID()), rec)
	})
	return out, err
}

func noSetting(name string) error {
	return &Error{Kind: SettingNotFound, Message: fmt.Sprintf("The setting '%s' is not found. There is %s.", bounded(name), AllowKeyManagementThroughARM)}
}
