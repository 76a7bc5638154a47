package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run is two programs. The outer one builds what the tests need, while there is a network; the inner one, in namespaces
// of its own, runs them.
func run(m *testing.M) int {
	// The clients wait more than they compute.
	if err := flag.Set("test.parallel", strconv.Itoa(max(6, runtime.GOMAXPROCS(0)))); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	flag.Parse()
	if dir := os.Getenv(insideVar); dir != "" {
		if err := enterNamespace(dir); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		return m.Run()
	}
	if flag.Lookup("test.list").Value.String() != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "strongroom-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return rerunInside(dir)
}

// Programs that prepare builds.
const (
	strongroomProgram = "strongroom"
	goClientProgram   = "goclient"
	backupProgram     = "backuptest"
	nodeFolder        = "node"
	javaFolder        = "java"
)

func prepare(dir string) error {
	for lock, tool := range map[string]string{
		"clients/python/requirements.txt":    "python",
		"clients/python/requirements-az.txt": "az",
		"clients/node/package-lock.json":     "node",
		"clients/java/dependencies.sha256":   "java",
		"clients/azurite/package-lock.json":  "azurite",
		"clients/dotnet/package-lock.json":   "dotnet",
	} {
		if err := checkTool(tool, lock); err != nil {
			return err
		}
	}
	if err := goCommand("..", "build", "-o", filepath.Join(dir, strongroomProgram), "./cmd/strongroom"); err != nil {
		return err
	}
	if err := goCommand(".", "test", "-c", "-tags", "client", "-o", filepath.Join(dir, goClientProgram), "./clients/go"); err != nil {
		return err
	}
	if err := goCommand("..", "test", "-c", "-tags", "azurite", "-o", filepath.Join(dir, backupProgram), "./internal/backup"); err != nil {
		return err
	}
	if err := buildDocumented(dir); err != nil {
		return err
	}
	if err := placeNodePrograms(filepath.Join(dir, nodeFolder)); err != nil {
		return err
	}
	if err := compileJava(filepath.Join(dir, javaFolder)); err != nil {
		return err
	}
	hosts := []byte("127.0.0.1 localhost\n::1 localhost\n")
	return os.WriteFile(filepath.Join(dir, hostsFile), hosts, 0o644)
}

// placeNodePrograms puts the JavaScript programs beside the installed packages, where Node looks for them.
func placeNodePrograms(dir string) error {
	if err := os.CopyFS(dir, os.DirFS("clients/node")); err != nil {
		return err
	}
	packages, err := filepath.Abs("../.tools/node/node_modules")
	if err != nil {
		return err
	}
	return os.Symlink(packages, filepath.Join(dir, "node_modules"))
}

// javaPackages are the installed clients for Java, as a class path.
func javaPackages() (string, error) {
	dir, err := filepath.Abs("../.tools/java/lib")
	return filepath.Join(dir, "*"), err
}

func compileJava(dir string) error {
	packages, err := javaPackages()
	if err != nil {
		return err
	}
	sources, err := filepath.Glob("clients/java/*.java")
	if err != nil {
		return err
	}
	out, err := exec.Command("javac", append([]string{"-Xlint:all", "-Werror", "-cp", packages, "-d", dir}, sources...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("javac: %w\n%s", err, out)
	}
	return nil
}

func goCommand(dir string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", args[0], err, out)
	}
	return nil
}

// checkTool compares the installed clients with the lock file that they should have been installed from.
func checkTool(tool, lock string) error {
	raw, err := os.ReadFile(lock)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(raw)
	stamp, err := os.ReadFile(filepath.Join("..", ".tools", tool, "stamp"))
	if err != nil || string(bytes.TrimSpace(stamp)) != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("the %s clients in .tools are missing or not those of e2e/%s: run `make tools` first", tool, lock)
	}
	return nil
}
