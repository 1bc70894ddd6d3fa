package devserver

import (
	"database/sql"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
)

// made is a state directory as this version makes it.
func made(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	_, _, err := openDatabase(t.Context(), dir)
	require.NoError(t, err)
	return dir
}

// alter changes a database and its record. With a nil record there is none afterwards.
func alter(t *testing.T, dir string, change func(*record) *record, statements ...string) {
	t.Helper()
	r, err := readRecord(dir)
	require.NoError(t, err)
	require.NoError(t, os.Remove(recordPath(dir)))
	if changed := change(&r); changed != nil {
		require.NoError(t, changed.write(dir))
	}
	conn := connect(t, dir)
	for _, s := range statements {
		_, err := conn.ExecContext(t.Context(), s)
		require.NoError(t, err, s)
	}
	require.NoError(t, conn.Close())
}

func connect(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db := &database{path: filepath.Join(dir, "temporal.db")}
	conn, err := sql.Open("sqlite", db.dsn())
	require.NoError(t, err)
	conn.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// tables are the statements that made the tables, without white space and comments.
func tables(t *testing.T, dir string) map[string]string {
	t.Helper()
	rows, err := connect(t, dir).QueryContext(t.Context(), "SELECT name, coalesce(sql, '') FROM sqlite_master")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	all := make(map[string]string)
	for rows.Next() {
		var name, statement string
		require.NoError(t, rows.Scan(&name, &statement))
		var words []string
		for line := range strings.Lines(statement) {
			line, _, _ = strings.Cut(line, "--")
			words = append(words, strings.Fields(strings.ReplaceAll(line, "(", " ("))...)
		}
		all[name] = strings.Join(words, " ")
	}
	require.NoError(t, rows.Err())
	return all
}

func version(t *testing.T, dir string) (v int) {
	t.Helper()
	require.NoError(t, connect(t, dir).QueryRowContext(t.Context(), "PRAGMA user_version").Scan(&v))
	return v
}

func TestOlderSchemaIsUpgraded(t *testing.T) {
	t.Parallel()
	fresh := made(t)
	// What the versions 0.9 to 0.11 added is taken away again.
	undo := map[int][]string{
		8:  {"DROP TABLE chasm_node_maps", "DROP TABLE tasks_v2", "DROP TABLE task_queues_v2", "DROP TABLE current_chasm_executions"},
		9:  {"DROP TABLE tasks_v2", "DROP TABLE task_queues_v2", "DROP TABLE current_chasm_executions"},
		10: {"DROP TABLE current_chasm_executions"},
	}
	for from, statements := range undo {
		t.Run(minorVersion(from), func(t *testing.T) {
			t.Parallel()
			dir := made(t)
			alter(t, dir, func(r *record) *record {
				r.Schema, r.Server, r.Port = minorVersion(from), "1.20.0", 0
				return r
			}, append(statements, "PRAGMA user_version = "+strconv.Itoa(from))...)
			before, err := readRecord(dir)
			require.NoError(t, err)

			s, err := Start(t.Context(), stepwell.DevOptions{Dir: dir, Headless: true})
			require.NoError(t, err)
			s.Stop()
			require.Equal(t, tables(t, fresh), tables(t, dir))
			require.Equal(t, version(t, fresh), version(t, dir))
			now, err := readRecord(dir)
			require.NoError(t, err)
			want, err := currentRecord()
			require.NoError(t, err)
			want.Cluster, want.Port = before.Cluster, now.Port
			require.Equal(t, want, now)
		})
	}
}

func minorVersion(n int) string { return "0." + strconv.Itoa(n) }

// An upgrade that is interrupted carries on where it stopped, and a version is never applied halfway.
func TestUpgradeIsResumed(t *testing.T) {
	t.Parallel()
	assets := func(second string) fstest.MapFS {
		file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
		return fstest.MapFS{
			versionedSchema + "/v0.9/manifest.json":  file(`{"SchemaUpdateCqlFiles": ["nothing.sql"]}`),
			versionedSchema + "/v0.9/nothing.sql":    file("CREATE TABLE too_old (x INT);"),
			versionedSchema + "/v0.10/manifest.json": file(`{"SchemaUpdateCqlFiles": ["a.sql", "b.sql"]}`),
			versionedSchema + "/v0.10/a.sql":         file("CREATE TABLE a (x INT);"),
			versionedSchema + "/v0.10/b.sql":         file("ALTER TABLE a ADD COLUMN y INT;\nCREATE TABLE b (x INT);"),
			versionedSchema + "/v0.11/manifest.json": file(`{"SchemaUpdateCqlFiles": ["c.sql"]}`),
			versionedSchema + "/v0.11/c.sql":         file("CREATE TABLE c (x INT);\n" + second),
			versionedSchema + "/v0.12/manifest.json": file(`{"SchemaUpdateCqlFiles": ["d.sql"]}`),
			versionedSchema + "/v0.12/d.sql":         file("CREATE TABLE too_new (x INT);"),
		}
	}
	dir := t.TempDir()
	conn := connect(t, dir)
	err := upgradeSchema(t.Context(), conn, assets("CREATE TABLE c (twice INT);"), "0.9", "0.11")
	require.ErrorContains(t, err, "upgrade the schema to 0.11")
	require.Len(t, tables(t, dir), 2, "a and b, but not c")
	require.Equal(t, 10, version(t, dir))

	require.NoError(t, upgradeSchema(t.Context(), conn, assets("CREATE TABLE d (x INT);"), "0.9", "0.11"))
	require.Len(t, tables(t, dir), 4)
	require.Equal(t, 11, version(t, dir))
	require.NoError(t, upgradeSchema(t.Context(), conn, assets("nonsense"), "0.9", "0.11"), "nothing is left to do")
}

func TestUnusableDirectories(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil        func(*testing.T, string)
		says         []string
		incompatible bool
	}{
		"newer schema": {
			spoil: func(t *testing.T, dir string) {
				alter(t, dir, func(r *record) *record { r.Schema = "0.1000"; return r })
			},
			says: []string{"a newer Stepwell made it", "0.1000", "use the newer program, or put its temporal.db*"}, incompatible: true,
		},
		"newer server": {
			spoil: func(t *testing.T, dir string) {
				alter(t, dir, func(r *record) *record { r.Server = "1.900.0"; return r })
			},
			says: []string{"a newer Stepwell made it", "1.900.0", "use the newer program"}, incompatible: true,
		},
		"newer record": {
			spoil: func(t *testing.T, dir string) {
				alter(t, dir, func(r *record) *record { r.Format = recordFormat + 1; return r })
			},
			says: []string{"a newer Stepwell made it", "use the newer program"}, incompatible: true,
		},
		"older lists": {
			spoil: func(t *testing.T, dir string) {
				alter(t, dir, func(r *record) *record { r.Server, r.Visibility = "1.20.0", "other"; return r })
			},
			says: []string{"an older Stepwell made it", "(put its temporal.db*", "mkdir", "none of them is lost"}, incompatible: true,
		},
		"no record": {
			spoil: func(t *testing.T, dir string) { alter(t, dir, func(*record) *record { return nil }) },
			says:  []string{"it does not say which version made it", "(put its temporal.db*"}, incompatible: true,
		},
		"damaged record": {
			spoil: func(t *testing.T, dir string) {
				require.NoError(t, os.WriteFile(recordPath(dir), []byte("{"), 0o600))
			},
			says: []string{"server.json", "is damaged", "(put"},
		},
		"not a database": {
			spoil: func(t *testing.T, dir string) {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "temporal.db"), []byte(strings.Repeat("no database ", 1000)), 0o600))
			},
			says: []string{"temporal.db", "file is not a database", "(put"},
		},
		"database with a hole": {
			spoil: func(t *testing.T, dir string) {
				path := filepath.Join(dir, "temporal.db")
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				for i := 100; i < len(b); i++ {
					b[i] = 0xff
				}
				require.NoError(t, os.WriteFile(path, b, 0o600))
			},
			says: []string{"temporal.db", "malformed", "(put"},
		},
		"database cut short": {
			spoil: func(t *testing.T, dir string) {
				require.NoError(t, os.Truncate(filepath.Join(dir, "temporal.db"), 3*4096))
			},
			says: []string{"temporal.db", "malformed", "(put"},
		},
		"directory for a database": {
			spoil: func(t *testing.T, dir string) {
				require.NoError(t, os.RemoveAll(filepath.Join(dir, "temporal.db")))
				require.NoError(t, os.Mkdir(filepath.Join(dir, "temporal.db"), 0o700))
			},
			says: []string{"temporal.db", "unable to open database file"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := made(t)
			// All is in the file itself: nobody else has it open in this test, and the log is empty.
			_, err := connect(t, dir).ExecContext(t.Context(), "PRAGMA wal_checkpoint(TRUNCATE)")
			require.NoError(t, err)
			c.spoil(t, dir)
			before, beforeErr := os.ReadFile(recordPath(dir))
			_, err = Start(t.Context(), stepwell.DevOptions{Dir: dir})
			for _, s := range c.says {
				require.ErrorContains(t, err, s)
			}
			if c.incompatible {
				require.ErrorIs(t, err, ErrIncompatible)
			}
			after, afterErr := os.ReadFile(recordPath(dir))
			require.Equal(t, before, after)
			require.Equal(t, beforeErr == nil, afterErr == nil)
			held, err := isLocked(filepath.Join(dir, "server.lock"))
			require.NoError(t, err)
			require.False(t, held, "the next try is free to go")
		})
	}
}

// The fix that the message names works.
func TestIncompatibleCanBePutElsewhere(t *testing.T) {
	t.Parallel()
	dir := made(t)
	alter(t, dir, func(r *record) *record { r.Schema = "0.1000"; return r })
	_, err := Start(t.Context(), stepwell.DevOptions{Dir: dir})
	require.ErrorIs(t, err, ErrIncompatible)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "old"), 0o700))
	found, err := filepath.Glob(filepath.Join(dir, "temporal.db*"))
	require.NoError(t, err)
	for _, path := range append(found, recordPath(dir)) {
		require.NoError(t, os.Rename(path, filepath.Join(dir, "old", filepath.Base(path))))
	}
	s, err := Start(t.Context(), stepwell.DevOptions{Dir: dir})
	require.NoError(t, err)
	s.Stop()
}

func TestUnwritableDirectories(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for name, dir := range map[string]string{"a file": file, "below a file": filepath.Join(file, "x"), "read-only": readOnly(t)} {
		_, err := Start(t.Context(), stepwell.DevOptions{Dir: dir})
		require.ErrorContains(t, err, `state directory "`+dir+`"`, name)
		require.ErrorContains(t, err, "(choose another one, or make it writable)", name)
	}
	_, err := Start(t.Context(), stepwell.DevOptions{})
	require.ErrorContains(t, err, "set DevOptions.Dir")
}

// readOnly is a directory that nothing can be created in, not even by root.
func readOnly(t *testing.T) string {
	t.Helper()
	if os.Getuid() == 0 && runtime.GOOS == "linux" {
		return "/proc/self"
	}
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o500))
	return dir
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"with space", "50%25 off", "what?mode=ro", "no #1", "Ωλ 名前", "a&b=c;d", "'quoted\"", "new\nline"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			dir := filepath.Join(parent, name)
			for range 2 {
				s, err := Start(t.Context(), stepwell.DevOptions{Dir: dir, Headless: true})
				require.NoError(t, err)
				s.Stop()
			}
			var found []string
			require.NoError(t, filepath.WalkDir(parent, func(path string, _ os.DirEntry, err error) error {
				found = append(found, strings.TrimPrefix(path, parent))
				return err
			}))
			require.Subset(t, found, []string{"/" + name, "/" + name + "/temporal.db", "/" + name + "/server.json"})
			for _, path := range found {
				require.True(t, path == "" || path == "/"+name || strings.HasPrefix(path, "/"+name+"/"), path)
			}
			require.NotEmpty(t, tables(t, dir))
		})
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	_, port := occupied(t)
	for _, o := range []stepwell.DevOptions{{Port: port}, {WebUIPort: port}} {
		o.Dir = t.TempDir()
		_, err := Start(t.Context(), o)
		require.ErrorIs(t, err, errPort)
		require.ErrorContains(t, err, "(choose another one, or none to have a free one chosen)")
	}
}

// The ports of last time are a habit, not a must.
func TestRememberedPortTaken(t *testing.T) {
	t.Parallel()
	dir := made(t)
	_, port := occupied(t)
	alter(t, dir, func(r *record) *record { r.Port, r.WebUIPort = port, port; return r })
	s, err := Start(t.Context(), stepwell.DevOptions{Dir: dir})
	require.NoError(t, err)
	defer s.Stop()
	require.NotEqual(t, hostPort(port), s.Address)
	require.NotEqual(t, "http://"+hostPort(port), s.WebUI)
	require.NoError(t, waitReady(t.Context(), s.Address))
}

func TestNewer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"0.11", "0.9", true}, {"0.9", "0.11", false}, {"0.11", "0.11", false}, {"1.0", "0.99", true},
		{"1.32.1", "1.32", true}, {"1.32", "1.32.1", false}, {"", "0.1", false}, {"0.1", "", true}, {"x", "0.1", false},
	} {
		require.Equal(t, c.want, newer(c.a, c.b), "newer(%q, %q)", c.a, c.b)
	}
	require.Equal(t, "1.32", minorOf("1.32.1"))
	require.Equal(t, "1", minorOf("1"))
}
