package backup

import (
	"cmp"
	"context"
	"slices"
)

// CheckBackup finds out whether a backup could be written: it writes, reads, lists and deletes a small blob.
func (c *Container) CheckBackup(ctx context.Context) error {
	name := "strongroom-probe-" + randomHex(8)
	content := []byte("Left by a check of this container; can be deleted.\n")
	if err := c.put(ctx, name, content, false); err != nil {
		return err
	}
	// Deleted in any case: nobody else would.
	return cmp.Or(c.checkProbe(ctx, name, len(content)), c.remove(ctx, name))
}

func (c *Container) checkProbe(ctx context.Context, name string, size int) error {
	if _, err := c.get(ctx, name, size); err != nil {
		return err
	}
	names, _, err := c.list(ctx, name, "")
	if err == nil && !slices.Contains(names, name) {
		err = newError(Unavailable, "The storage %s does not list what was just written. Check that the address is that of a blob container.", c.host)
	}
	return err
}

// CheckRestore finds out whether backups could be read: it lists the container and, if a folder is named, opens the manifest in
// it with the domain.
func (c *Container) CheckRestore(ctx context.Context, folder string, domain Keys) error {
	if _, _, err := c.list(ctx, folder, ""); err != nil {
		return err
	}
	if folder == "" {
		return nil
	}
	_, err := Open(ctx, c, folder, domain)
	return err
}
