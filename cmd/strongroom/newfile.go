package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeNewFile makes a file of mode 0600 and never overwrites one. A file that could not be written whole is removed.
func writeNewFile(path string, content []byte) error {
	return fillNewFile(path, func() ([]byte, error) { return content, nil })
}

// fillNewFile makes a file as writeNewFile does, and only then what it is to hold: what could not be kept is not made. It is
// durable when it returns.
func fillNewFile(path string, content func() ([]byte, error)) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return keptFile(path)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	raw, err := content()
	if err != nil {
		return err
	}
	if _, err := f.Write(raw); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// keptFile says that a file is there already.
func keptFile(path string) error {
	return fmt.Errorf("%s exists already and is kept: choose another name, or remove it first", path)
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
