package bolt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strongroom/strongroom/internal/store"
)

// A swappedFile is a store's file whose descriptor can be made to mean something else, so that the kernel itself fails what
// bbolt asks of it. bbolt's mapping, by which it reads, stays that of the file.
type swappedFile struct {
	t    *testing.T
	fd   int
	keep int // the real file
}

func swapFile(t *testing.T, db *DB) *swappedFile {
	fd := int(db.file.Fd())
	keep, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(keep) })
	return &swappedFile{t, fd, keep}
}

// become makes the descriptor that of path.
func (s *swappedFile) become(path string, flag int) {
	s.t.Helper()
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	s.dup(int(f.Fd()))
}

func (s *swappedFile) restore() {
	s.t.Helper()
	s.dup(s.keep)
}

func (s *swappedFile) dup(from int) {
	s.t.Helper()
	if err := unix.Dup3(from, s.fd, unix.O_CLOEXEC); err != nil {
		s.t.Fatal(err)
	}
}

// withFreePages returns a store that holds "k" and has free pages enough for small commits not to grow it.
func withFreePages(t *testing.T) (*DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db := mustOpen(t, path)
	mustPut(t, db, "big", strings.Repeat("x", 500_000))
	mustPut(t, db, "k", "old")
	if err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete("big") }); err != nil {
		t.Fatal(err)
	}
	mustPut(t, db, "k", "v") // from here on the pages of big are free
	return db, path
}

// TestNoSpaceWhileWriting fails bbolt's own writes with ENOSPC, as a copy-on-write file system may.
func TestNoSpaceWhileWriting(t *testing.T) {
	t.Parallel()
	db, path := withFreePages(t)
	file := swapFile(t, db)
	file.become("/dev/full", os.O_RDWR)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			err := put1(t.Context(), db, fmt.Sprint("full", i), "x")
			if !errors.Is(err, store.ErrFull) || !errors.Is(err, unix.ENOSPC) || errors.Is(err, store.ErrUnknown) {
				t.Errorf("on a full disk: %v", err)
			}
		})
	}
	wg.Wait()
	wantValue(t, db, "k", "v")
	wantValue(t, db, "full0", "")
	wantSound(t, db)
	file.restore()
	for i := range 20 { // there is room again
		mustPut(t, db, fmt.Sprint("k", i), strings.Repeat("y", 2000))
	}
	wantSound(t, db)
	mustClose(t, db)

	db = mustOpen(t, path)
	defer mustClose(t, db)
	wantValue(t, db, "k", "v")
	wantValue(t, db, "full0", "")
	wantValue(t, db, "k19", strings.Repeat("y", 2000))
	wantSound(t, db)
}

// TestBrokenMedium fails a commit otherwise than for want of room.
func TestBrokenMedium(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		path string // what the file becomes, "" for itself
		flag int
		want error
	}{
		// /dev/null takes every write and cannot be synced: the data are lost and fdatasync says so.
		{"sync", "/dev/null", os.O_RDWR, unix.EINVAL},
		{"write", "", os.O_RDONLY, unix.EBADF},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			db, path := withFreePages(t)
			file := swapFile(t, db)
			if tc.path == "" {
				tc.path = path
			}
			file.become(tc.path, tc.flag)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					err := put1(t.Context(), db, "k", "lost")
					unknown, broken := errors.Is(err, store.ErrUnknown), errors.Is(err, ErrBroken)
					if unknown == broken || !errors.Is(err, tc.want) || errors.Is(err, store.ErrFull) {
						t.Errorf("Update: %v", err) // part of the failed commit, or refused after it
					}
				})
			}
			wg.Wait()
			file.restore()
			if err := put1(t.Context(), db, "k", "later"); !errors.Is(err, ErrBroken) || errors.Is(err, store.ErrUnknown) {
				t.Errorf("after the medium has recovered: %v", err)
			}
			wantValue(t, db, "k", "v") // no new root was written
			if _, err := db.Snapshot(t.Context(), io.Discard); err != nil {
				t.Errorf("Snapshot: %v", err)
			}
			mustClose(t, db)

			db = mustOpen(t, path)
			defer mustClose(t, db)
			wantValue(t, db, "k", "v")
			mustPut(t, db, "k", "later")
			wantSound(t, db)
		})
	}
}

// TestGrowthFails fails the reservation of new blocks for another reason than want of room: nothing happened, so nothing is
// broken.
func TestGrowthFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	db := mustOpen(t, path)
	defer mustClose(t, db)
	mustPut(t, db, "k", "v")
	file := swapFile(t, db)
	file.become(path, os.O_RDONLY)
	err := put1(t.Context(), db, "big", strings.Repeat("x", store.MaxValue))
	if !errors.Is(err, unix.EBADF) || errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrFull) {
		t.Errorf("Update: %v", err)
	}
	wantValue(t, db, "big", "")
	file.restore()
	mustPut(t, db, "big", strings.Repeat("x", store.MaxValue))
	wantSound(t, db)
}

// TestFillWritesZeros is about file systems that cannot reserve blocks.
func TestFillWritesZeros(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := fill(f, 4096, 5<<20); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != 5<<20+4096 || st.Blocks*512 < 5<<20 {
		t.Errorf("%d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := fill(full, 0, 1); !isFull(err) {
		t.Errorf("on a full disk: %v", err)
	}
}

// childLimit runs in a process of its own, since the kernel limits the size of files for a whole process. Beyond the limit
// it refuses to make any file longer, as a full disk does.
func childLimit(path string) error {
	const limit = 3 << 20
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: old.Max}); err != nil {
		return err
	}
	db, err := Open(path, nil)
	if err != nil {
		return err
	}
	acked, err := fillConcurrently(db)
	if err != nil {
		return err
	}
	if err := limitReached(db, acked, limit); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	for i := range 50 { // there is room again
		if err := put1(bg, db, fmt.Sprint("room", i), strings.Repeat("r", 100_000)); err != nil {
			return fmt.Errorf("with room again: %w", err)
		}
	}
	if err := errors.Join(holds(db, acked), sound(db), db.Close()); err != nil {
		return err
	}
	db, err = Open(path, nil)
	if err != nil {
		return err
	}
	fmt.Println("acknowledged", len(acked))
	return errors.Join(holds(db, acked), sound(db), db.Close())
}

// limitReached checks a store that cannot grow: it can be read, small changes and deletions still go, and it can be opened.
func limitReached(db *DB, acked []string, limit int64) error {
	if size := db.Stats().FileBytes; size > limit || size < limit-limit/10 {
		return fmt.Errorf("the file has %d bytes, limit %d", size, limit)
	}
	err := put1(bg, db, "too big", strings.Repeat("x", 1_000_000))
	if !errors.Is(err, store.ErrFull) || !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("one that does not fit: %w", err)
	}
	if err := errors.Join(holds(db, acked), sound(db)); err != nil {
		return err
	}
	for i := range 5 {
		if err := db.Update(bg, func(tx store.Tx) error { return tx.Delete(fmt.Sprint("extra", i)) }); err != nil {
			return fmt.Errorf("deleting: %w", err)
		}
	}
	return sound(db)
}
