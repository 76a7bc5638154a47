package audit

import (
	"errors"
	"syscall"
	"testing"
)

func TestFullDevice(t *testing.T) {
	t.Parallel()
	l := open(t, Config{Path: "/dev/full"})
	err := l.Write(bg, &Record{})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.ENOSPC) || !errors.Is(l.Err(), syscall.ENOSPC) {
		t.Errorf("wrote to a full device: %v, health %v", err, l.Err())
	}
	if l.Head() != (Head{}) {
		t.Errorf("the chain moved to %v", l.Head())
	}
}
