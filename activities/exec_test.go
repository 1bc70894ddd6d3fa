//go:build unix

package activities

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/isolate"
	"github.com/stepwell-flows/stepwell/policies"
)

// A script among the files of a program can be started, though an embed.FS knows no rights.
func TestProgramsOwnFileIsExecutable(t *testing.T) {
	t.Parallel()
	p := &program{t: &attempt{}, base: t.TempDir(), c: flow.Command{
		Args: []string{"./bin/run.sh"}, Files: fstest.MapFS{"bin/run.sh": {Data: []byte("#!/bin/sh\nexit 3\n"), Mode: 0o444}},
	}}
	dir, err := p.workDir()
	require.NoError(t, err)
	path, err := isolate.Find(p.c.Args[0], nil, dir)
	require.NoError(t, err)
	process, err := isolate.Start(isolate.Command{Path: path, Args: p.c.Args, Dir: dir})
	require.NoError(t, err)
	require.Equal(t, 3, process.Wait().Code)
}

// An exit code means what the author says, whatever the program has printed.
func TestAuthorsExitCodesCount(t *testing.T) {
	t.Parallel()
	p := &program{name: "it", c: flow.Command{ExitCodes: map[int]policies.Class{2: policies.Invalid}}}
	require.Equal(t, policies.Invalid, p.failed(isolate.Exit{Code: 2}, 0, "panic: boom").Class)
	p.c.ExitCodes = nil
	require.Equal(t, policies.Bug, p.failed(isolate.Exit{Code: 2}, 0, "panic: boom").Class)
	p.c.ExitCodes = map[int]policies.Class{-1: policies.Invalid}
	require.Equal(t, policies.OutOfMemory, p.failed(isolate.Exit{Code: -1, Signal: 9, Memory: 1 << 20}, 1<<20, "").Class)
}
