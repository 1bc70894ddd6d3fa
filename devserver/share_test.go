package devserver_test

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
	"github.com/stepwell-flows/stepwell/devserver"
)

func TestTakeover(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*process, testing.TB){"killed": (*process).kill, "ended": (*process).end} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 60
			dir, path := t.TempDir(), filepath.Join(t.TempDir(), "steps")
			first := spawn(t, childOptions{Dir: dir})
			require.False(t, first.server.Shared)
			second := start(t, stepwell.DevOptions{Dir: dir})
			require.Equal(t, []any{first.server.Address, first.server.WebUI, true}, []any{second.Address, second.WebUI, second.Shared})
			require.Equal(t, first.cmd.Process.Pid, servingProcess(t, dir))

			c := dial(t, second)
			work(t, c)
			r := inTheMiddle(t, c, path, n, func() { end(first, t) })
			finished(t, r, path, n)
			require.Equal(t, os.Getpid(), servingProcess(t, dir))

			// And on it goes: the next one joins the one that took over, on the same ports.
			third := spawn(t, childOptions{Dir: dir})
			require.Equal(t, []any{second.Address, second.WebUI, true}, []any{third.server.Address, third.server.WebUI, third.server.Shared})
		})
	}
}

func servingProcess(t testing.TB, dir string) int {
	t.Helper()
	var o struct {
		PID int `json:"pid"`
	}
	b, err := os.ReadFile(filepath.Join(dir, "server.owner"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &o))
	return o.PID
}

func TestManyStartAtOnce(t *testing.T) {
	t.Parallel()
	const n = 6
	dir := filepath.Join(t.TempDir(), "made", "by", "one", "of", "them")
	var all []*process
	for range n {
		all = append(all, launch(t, childOptions{Dir: dir, Wait: true}))
	}
	for _, p := range all {
		_, err := io.WriteString(p.in, "\n")
		require.NoError(t, err)
	}
	owners := make(map[int]bool)
	for _, p := range all {
		p.read(t)
		require.Equal(t, all[0].server.Address, p.server.Address)
		require.Equal(t, all[0].server.WebUI, p.server.WebUI)
		if !p.server.Shared {
			owners[p.cmd.Process.Pid] = true
		}
	}
	require.Equal(t, map[int]bool{servingProcess(t, dir): true}, owners)

	// Each end makes another one take over, until the last has let go.
	for _, p := range all[:n-1] {
		p.end(t)
	}
	require.Eventually(t, func() bool { return answers(all[n-1].server.Address) }, time.Minute, 20*time.Millisecond)
	all[n-1].end(t)
	gone(t, all[0].server.Address)
}

func portOf(t testing.TB, address string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	require.NoError(t, err)
	return a.Port
}

func TestPortOfSharedServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, stepwell.DevOptions{Dir: dir, Headless: true})
	_, err := devserver.Start(t.Context(), stepwell.DevOptions{Dir: dir, Port: 1})
	require.ErrorContains(t, err, "leave the port out to share it")
	second := start(t, stepwell.DevOptions{Dir: dir, Port: portOf(t, first.Address)})
	require.True(t, second.Shared)
	require.Empty(t, second.WebUI, "the one that runs is headless")
}

func TestExistingFindsNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	_, err := devserver.Start(t.Context(), stepwell.DevOptions{Dir: missing, Existing: true})
	require.ErrorContains(t, err, "no process runs a server in")
	require.NoDirExists(t, missing)

	_, err = devserver.Start(t.Context(), stepwell.DevOptions{Dir: dir, Existing: true})
	require.ErrorContains(t, err, "no process runs a server in")
	require.Empty(t, files(t, dir))
}

func TestExistingFollowsNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	owner := spawn(t, childOptions{Dir: dir})
	before := files(t, dir)
	s := start(t, stepwell.DevOptions{Dir: dir, Existing: true})
	require.Equal(t, []any{owner.server.Address, owner.server.WebUI, true}, []any{s.Address, s.WebUI, s.Shared})
	require.Equal(t, before, files(t, dir))
	dial(t, s)

	owner.kill(t)
	before = files(t, dir)
	_, err := devserver.Start(t.Context(), stepwell.DevOptions{Dir: dir, Existing: true})
	require.ErrorContains(t, err, "no process runs a server in")
	time.Sleep(500 * time.Millisecond) // five times as long as a follower takes to notice
	require.False(t, answers(s.Address))
	require.Equal(t, before, files(t, dir))
	s.Stop()
	s.Stop()
}

// A server that is starting is waited for, so that a reader does not miss the run that is about to begin.
func TestExistingWaitsForAStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := launch(t, childOptions{Dir: dir})
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "server.lock"))
		return err == nil
	}, time.Minute, time.Millisecond)
	var s *stepwell.DevServer
	require.Eventually(t, func() bool {
		var err error
		s, err = devserver.Start(t.Context(), stepwell.DevOptions{Dir: dir, Existing: true})
		return err == nil
	}, time.Minute, time.Millisecond)
	p.read(t)
	require.Equal(t, p.server.Address, s.Address)
	require.False(t, p.server.Shared)
}

// files are the names and sizes of what is in dir, without what a running server changes by itself.
func files(t testing.TB, dir string) map[string]int64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	sizes := make(map[string]int64)
	for _, e := range entries {
		sizes[e.Name()] = 0
		if filepath.Ext(e.Name()) != ".db" && e.Name() != "temporal.db-wal" && e.Name() != "temporal.db-shm" {
			info, err := e.Info()
			require.NoError(t, err)
			sizes[e.Name()] = info.Size()
		}
	}
	return sizes
}
