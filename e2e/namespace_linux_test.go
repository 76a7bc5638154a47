package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Variables that the outer process leaves for the inner one.
const (
	insideVar = "STRONGROOM_E2E_INSIDE" // folder with what was built, and the hosts file
	hostsFile = "hosts"
)

// metadataAddress is where Azure's instance metadata service answers.
const metadataAddress = "169.254.169.254"

// arcTokens is the only folder from which clients on Linux accept a secret of Azure Arc.
const arcTokens = "/var/opt/azcmagent/tokens"

// rerunInside runs this test program again in namespaces of its own and returns its exit code. Only root may make them
// directly; others become root in a user namespace first, which has power over nothing but the other two.
func rerunInside(dir string) int {
	runtime.LockOSThread() // the inner process dies with the thread that made it
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVar+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: no mount and network namespaces here (%v): run as root, or allow unprivileged user namespaces\n", err)
		return 1
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	defer signal.Stop(signals)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended by itself
		}
	}()
	err := cmd.Wait()
	close(signals)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintf(os.Stderr, "e2e: the tests ended with: %v\n", err)
	return 1
}

// enterNamespace prepares the namespaces that rerunInside made. The machine's own files and addresses are not touched.
func enterNamespace(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount(filepath.Join(dir, hostsFile), "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount the hosts file: %w", err)
	}
	if err := unix.Mount("tmpfs", "/var/opt", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m"); err != nil {
		return fmt.Errorf("mount a private /var/opt: %w", err)
	}
	if err := os.MkdirAll(arcTokens, 0o700); err != nil {
		return err
	}
	return raiseLoopback()
}

// raiseLoopback gives the empty network its loopback interface, and that the metadata address.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	defer unix.Close(fd)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("loopback: up: %w", err)
	}
	alias, err := unix.NewIfreq("lo:imds")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := alias.SetInet4Addr(net.ParseIP(metadataAddress).To4()); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, alias); err != nil {
		return fmt.Errorf("loopback: add %s: %w", metadataAddress, err)
	}
	return nil
}
