package server

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/strongroom/strongroom/internal/seal"
)

// open returns the root key from wherever the configuration says it is.
func (r RootKeyConfig) open() (seal.RootKey, error) { return r.read(takeVariable) }

// read returns the root key. variable gives the text of an environment variable.
func (r RootKeyConfig) read(variable func(name string) (string, error)) (seal.RootKey, error) {
	switch {
	case r.File != "":
		return seal.ReadRootKeyFile(r.File)
	case r.Environment != "":
		text, err := variable(r.Environment)
		if err != nil {
			return nil, err
		}
		return seal.ParseRootKey(text)
	case r.PassphraseFile != "":
		text, err := readPassphrase(r.PassphraseFile)
		if err != nil {
			return nil, err
		}
		return seal.NewPassphraseRootKey(text)
	default:
		text, err := variable(r.PassphraseEnvironment)
		if err != nil {
			return nil, err
		}
		return seal.NewPassphraseRootKey(text)
	}
}

// takeVariable reads a variable once and removes it, so that no child process inherits it. The copy that the system made at
// the program's start stays where it is (on Linux /proc/<pid>/environ); what keeps other processes of the same user away
// from that is Harden, and nothing keeps root away.
func takeVariable(name string) (string, error) {
	text, err := readVariable(name)
	if err != nil {
		return "", err
	}
	if err := os.Unsetenv(name); err != nil {
		return "", fmt.Errorf("root key: %w", err)
	}
	return text, nil
}

func readVariable(name string) (string, error) {
	text, ok := os.LookupEnv(name)
	if !ok || text == "" {
		return "", fmt.Errorf("root key: the environment variable %s is not set", name)
	}
	return text, nil
}

func readPassphrase(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("root key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("root key: %w", err)
	}
	if err := checkPassphraseMode(path, info); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(io.LimitReader(f, 4096)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", fmt.Errorf("root key: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func checkPassphraseMode(path string, info os.FileInfo) error {
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("root key: passphrase %s has mode %04o: others than its owner can reach it; run chmod 600",
			path, info.Mode().Perm())
	}
	return nil
}

// RootKeyID returns the id of the root key in a file, as errors and the key ring name it.
func RootKeyID(path string) (string, error) {
	root, err := seal.ReadRootKeyFile(path)
	if err != nil {
		return "", err
	}
	return root.ID(), nil
}
