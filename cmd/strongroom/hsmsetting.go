package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/administration"
)

func newSettingCommand() *cobra.Command {
	c := group("setting", "Manage the settings of a managed HSM, with the flags of az keyvault setting",
		newSettingList(), newSettingShow(), newSettingUpdate())
	c.Long = "Setting manages the settings of a managed HSM, with the flags of az keyvault setting.\n\n" + hsmText
	return c
}

// A settingOut is a setting as az shows it.
type settingOut struct {
	Name  string                     `json:"name"`
	Type  administration.SettingType `json:"settingType"`
	Value string                     `json:"value"`
}

func newSettingOut(s administration.Setting) settingOut { return settingOut{s.Name, s.Type, s.Value} }

func settingColumns() []string { return []string{"name", "settingType", "value"} }

const exampleSetting = "AllowKeyManagementOperationsThroughARM"

func newSettingList() *cobra.Command {
	var h hsmTarget
	cmd := &cobra.Command{
		Use: "list --hsm-name NAME", Short: "List all settings",
		Example: "  strongroom setting list --hsm-name hsm-a --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return showHSM(cmd, &h, openSettings, func(ctx context.Context, c *administration.SettingsClient) (any, error) {
				got, err := c.GetSettings(ctx, nil)
				all := make([]settingOut, len(got.Settings))
				for i, s := range got.Settings {
					all[i] = newSettingOut(s)
				}
				return all, err
			}, settingColumns()...)
		},
	}
	h.register(cmd, "[].value", usual)
	return cmd
}

func newSettingShow() *cobra.Command {
	var (
		h    hsmTarget
		name string
	)
	cmd := &cobra.Command{
		Use: "show --name NAME --hsm-name NAME", Short: "Show a setting",
		Example: "  strongroom setting show --name " + exampleSetting + " --hsm-name hsm-a",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usagef("--name is missing: which setting? (strongroom setting list)")
			}
			return showHSM(cmd, &h, openSettings, func(ctx context.Context, c *administration.SettingsClient) (any, error) {
				got, err := c.GetSetting(ctx, name, nil)
				return newSettingOut(got.Setting), err
			}, settingColumns()...)
		},
	}
	h.register(cmd, "value", usual)
	cmd.Flags().StringVarP(&name, "name", "n", "", "name of the setting")
	return cmd
}

func newSettingUpdate() *cobra.Command {
	var (
		h                hsmTarget
		name, value, typ string
	)
	cmd := &cobra.Command{
		Use: "update --name NAME --value VALUE --hsm-name NAME", Short: "Change a setting",
		Example: "  strongroom setting update --name " + exampleSetting + " --value true --hsm-name hsm-a",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case name == "":
				return usagef("--name is missing: which setting? (strongroom setting list)")
			case !cmd.Flags().Changed("value"):
				return usagef("--value is missing: what is the setting to be?")
			}
			if typ != "" {
				if _, err := choice("setting-type", typ, []string{"boolean", "string"}); err != nil {
					return err
				}
			}
			return showHSM(cmd, &h, openSettings, func(ctx context.Context, c *administration.SettingsClient) (any, error) {
				got, err := c.UpdateSetting(ctx, name, value, nil)
				return newSettingOut(got.Setting), err
			}, settingColumns()...)
		},
	}
	h.register(cmd, "value", usual)
	f := cmd.Flags()
	f.StringVarP(&name, "name", "n", "", "name of the setting")
	f.StringVar(&value, "value", "", "new value, such as true")
	f.StringVar(&typ, "setting-type", "", "accepted as az has it: boolean or string; the type stays as it is")
	return cmd
}
