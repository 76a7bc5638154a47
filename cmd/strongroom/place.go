package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

// defaultData is where dev mode keeps everything, below the present folder.
const defaultData = "strongroom-data"

// A place says which installation a command is about.
type place struct {
	data   string
	config string
}

func (p *place) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.data, "data", "", `data folder (default $STRONGROOM_DATA, or "`+defaultData+`")`)
	cmd.Flags().StringVar(&p.config, "config", "", "configuration file that names the data folder")
	cmd.MarkFlagsMutuallyExclusive("data", "config")
}

// folder returns the data folder.
func (p *place) folder() (string, error) {
	if p.config != "" {
		cfg, err := server.ReadConfig(p.config)
		if err != nil {
			return "", err
		}
		return cfg.Data, nil
	}
	return filepath.Abs(p.dataOrDefault())
}

func (p *place) dataOrDefault() string {
	if p.data != "" {
		return p.data
	}
	if data := os.Getenv("STRONGROOM_DATA"); data != "" {
		return data
	}
	return defaultData
}

// socket returns a client for the running server.
func (p *place) socket() (*admin.Client, error) {
	dir, err := p.folder()
	if err != nil {
		return nil, err
	}
	return admin.NewClient(dir), nil
}

// configuration returns the configuration of an installation whose server does not run.
func (p *place) configuration() (*server.Config, error) {
	if p.config != "" {
		cfg, err := server.ReadConfig(p.config)
		if err != nil {
			return nil, err
		}
		return cfg, reachable(cfg.Data)
	}
	cfg, err := server.DevConfig(p.dataOrDefault(), nil)
	if err != nil {
		return nil, err
	}
	if err := reachable(cfg.Data); err != nil {
		return nil, err
	}
	if _, err := os.Stat(cfg.RootKey.File); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no server runs on %s and its root key is not there: name the configuration with --config", cfg.Data)
	}
	return cfg, nil
}

// args are the flags that name this place in a command that is shown to a person.
func (p *place) args() string {
	switch {
	case p.config != "":
		return " --config " + shellQuote(p.config)
	case p.data != "" && p.data != defaultData:
		return " --data " + shellQuote(p.data)
	}
	return ""
}
