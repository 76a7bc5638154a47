package audit

import (
	"errors"
	"os"
	"syscall"
)

// openFlags refuse a symbolic link as the last element of the path: whoever may plant one in the folder could aim the
// log, or the truncation of its torn end, at another file.
const openFlags = syscall.O_NOFOLLOW

// dataSync makes what was written to f durable, and as much of its metadata as reading it back needs.
func dataSync(f *os.File) error {
	return control(f, func(fd int) error {
		for {
			if err := syscall.Fdatasync(fd); !errors.Is(err, syscall.EINTR) {
				return os.NewSyscallError("fdatasync", err)
			}
		}
	})
}

// lock takes the file for this process until it is closed. Two writers would fork the chain.
func lock(f *os.File) error {
	return control(f, func(fd int) error {
		err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return errors.New("another process writes to it")
		}
		return os.NewSyscallError("flock", err)
	})
}

// unlock gives the file back at once. Closing it is not enough: a child process that this one is just starting has a copy of the
// descriptor until it executes its program.
func unlock(f *os.File) error {
	return control(f, func(fd int) error { return os.NewSyscallError("flock", syscall.Flock(fd, syscall.LOCK_UN)) })
}

// control runs fn on f's descriptor, which stays open meanwhile.
func control(f *os.File, fn func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}
