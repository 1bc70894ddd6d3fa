package dir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts/dir"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/storetest"
)

// The test program is also the other process: it creates the documents doc/0 … in the directory, and prints those it won.
const childEnv = "STEPWELL_DIR_TEST_CHILD"

const shared = 200

func TestMain(m *testing.M) {
	if root := os.Getenv(childEnv); root != "" {
		os.Exit(child(root))
	}
	os.Exit(m.Run())
}

var ifAbsent = driver.PutOptions{IfAbsent: true}

func open(t *testing.T, root string) *dir.Driver {
	t.Helper()
	d, err := dir.New(root)
	require.NoError(t, err)
	return d
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) driver.Driver {
		t.Helper()
		return open(t, t.TempDir())
	})
	t.Run("named", func(t *testing.T) {
		t.Parallel()
		storetest.Run(t, func(t *testing.T) driver.Driver {
			t.Helper()
			return open(t, t.TempDir()).Name()
		})
	})
}

func TestRoot(t *testing.T) {
	t.Parallel()
	_, err := dir.New("")
	require.ErrorContains(t, err, "empty directory")
	root := filepath.Join(t.TempDir(), "new", "store")
	d := open(t, root)
	require.Equal(t, root, d.String())
	for _, err := range d.List(t.Context(), "") {
		require.NoError(t, err)
	}
	_, err = d.Get(t.Context(), "k", 0)
	require.ErrorIs(t, err, driver.ErrNotFound)
	require.NoDirExists(t, root, "reading creates nothing")
	require.NoError(t, d.Put(t.Context(), "a/k", driver.Bytes([]byte("x")), driver.PutOptions{}))
	content, err := os.ReadFile(filepath.Join(root, "a", "k"))
	require.NoError(t, err)
	require.Equal(t, "x", string(content), "a file of that name, which any tool can read")
}

// child is one of several processes that want to create the same documents.
func child(root string) int {
	d, err := dir.New(root)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if os.Getpid()%2 == 0 {
		d.Name()
	}
	for i := range shared {
		key := fmt.Sprintf("doc/%d", i)
		content := fmt.Appendf(nil, "%d of %d", i, os.Getpid())
		switch err := d.Put(context.Background(), key, driver.Bytes(content), ifAbsent); {
		case err == nil:
			_, _ = fmt.Fprintf(os.Stdout, "%s %s\n", key, content)
		case !errors.Is(err, driver.ErrExists):
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func TestProcessesShareADirectory(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "store") // the processes create it too
	const processes = 4
	var outputs [processes]bytes.Buffer
	var all sync.WaitGroup
	for i := range processes {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+root)
		cmd.Stdout, cmd.Stderr = &outputs[i], &outputs[i]
		all.Go(func() {
			if err := cmd.Run(); err != nil {
				t.Errorf("process %d: %v\n%s", i, err, outputs[i].String())
			}
		})
	}
	all.Wait()
	winners := map[string]string{}
	for i := range outputs {
		for line := range strings.Lines(outputs[i].String()) {
			key, content, _ := strings.Cut(strings.TrimSpace(line), " ")
			require.NotContains(t, winners, key, "two processes created it")
			winners[key] = content
		}
	}
	require.Len(t, winners, shared)
	for key, want := range winners {
		content, err := os.ReadFile(filepath.Join(root, key))
		require.NoError(t, err)
		require.Equal(t, want, string(content))
	}
	left, _ := filepath.Glob(filepath.Join(root, ".tmp", "*"))
	require.Empty(t, left)
}

// TestKilledWriterLeavesNoObject has the leftovers of a process that was killed while it wrote.
func TestKilledWriterLeavesNoObject(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d := open(t, root)
	require.NoError(t, os.MkdirAll(filepath.Join(root, ".tmp"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, ".tmp", "4711-abc"), []byte("half an obj"), 0o600))
	require.NoError(t, d.Put(t.Context(), "a/k", driver.Bytes(nil), driver.PutOptions{}))
	require.NoError(t, os.WriteFile(filepath.Join(root, "a", ".tmpfile"), nil, 0o600))
	var keys []string
	for info, err := range d.List(t.Context(), "") {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	require.Equal(t, []string{"a/k"}, keys)
	for name, err := range d.Dirs(t.Context(), "") {
		require.NoError(t, err)
		require.Equal(t, "a", name)
	}
	_, err := d.Get(t.Context(), ".tmp/4711-abc", 0)
	require.ErrorContains(t, err, "the store's own")
}

func TestFailedPutLeavesNoTemporaryFile(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	d := open(t, root)
	require.NoError(t, d.Put(t.Context(), "file", driver.Bytes(nil), driver.PutOptions{}))
	broken := driver.Stream(-1, func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("half"), failing{})), nil
	})
	require.ErrorIs(t, d.Put(t.Context(), "k", broken, driver.PutOptions{}), errBroken)
	require.ErrorIs(t, d.Put(t.Context(), "k", broken, ifAbsent), errBroken)
	require.NoFileExists(t, filepath.Join(root, "k"))
	require.ErrorIs(t, d.Put(t.Context(), "file", driver.Bytes(nil), ifAbsent), driver.ErrExists)
	require.Error(t, d.Put(t.Context(), "file/below", driver.Bytes(nil), driver.PutOptions{}), "a file is no folder")
	left, _ := filepath.Glob(filepath.Join(root, ".tmp", "*"))
	require.Empty(t, left)
}

var errBroken = errors.New("disk on fire")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

// TestCheckNamesTheFix uses what stops even a user who may do anything: a file where a folder is wanted.
func TestCheckNamesTheFix(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, root := range []string{file, filepath.Join(file, "below")} {
		err := open(t, root).Check(t.Context())
		require.EqualError(t, err, fmt.Sprintf("store directory %q is not writable: not a directory (create it, or give this user the right to write there)", root))
	}
	if _, err := os.Stat("/proc/self"); err == nil {
		err := open(t, "/proc/self/store").Check(t.Context())
		require.ErrorContains(t, err, `store directory "/proc/self/store" is not writable`)
		require.ErrorContains(t, err, "(create it, or give this user the right to write there)")
	}
}

func TestUnwritableDirectory(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	require.NoError(t, os.Chmod(root, 0o500))
	t.Cleanup(func() { _ = os.Chmod(root, 0o700) })
	d := open(t, root)
	err := d.Check(t.Context())
	if os.Getuid() == 0 { // nothing is unwritable for root
		require.NoError(t, err)
		return
	}
	require.EqualError(t, err, fmt.Sprintf("store directory %q is not writable: permission denied (create it, or give this user the right to write there)", root))
	err = d.Put(t.Context(), "k", driver.Bytes(nil), driver.PutOptions{})
	require.ErrorIs(t, err, os.ErrPermission)
	require.NotErrorIs(t, err, driver.ErrUnavailable)
}

func TestSymlinks(t *testing.T) {
	t.Parallel()
	// The root may be one: a store on another disk.
	target, root := t.TempDir(), filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(target, root))
	d := open(t, root)
	require.NoError(t, d.Put(t.Context(), "a/k", driver.Bytes([]byte("x")), ifAbsent))
	require.FileExists(t, filepath.Join(target, "a", "k"))

	// What a link inside leads to can be read by its key.
	elsewhere := t.TempDir()
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(target, "moved")))
	require.NoError(t, d.Put(t.Context(), "moved/k", driver.Bytes([]byte("y")), ifAbsent))
	require.FileExists(t, filepath.Join(elsewhere, "k"))
	info, err := d.Stat(t.Context(), "moved/k")
	require.NoError(t, err)
	require.Equal(t, int64(1), info.Size)

	// One that leads nowhere is no object, and a conditional put does not write through it.
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "gone"), filepath.Join(target, "dangling")))
	_, err = d.Stat(t.Context(), "dangling")
	require.ErrorIs(t, err, driver.ErrNotFound)
	require.ErrorIs(t, d.Put(t.Context(), "dangling", driver.Bytes(nil), ifAbsent), driver.ErrExists)
	require.NoFileExists(t, filepath.Join(elsewhere, "gone"))

	// A listing follows no links, so that a circle does not make it endless.
	require.NoError(t, os.Symlink(target, filepath.Join(target, "a", "circle")))
	var keys []string
	for info, err := range d.List(t.Context(), "") {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	require.Equal(t, []string{"a/k"}, keys)
}
