package devserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/uuid"
	"go.temporal.io/server/common/config"
	tlog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	temporalsql "go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/resolver"
	"go.temporal.io/server/schema"
)

const storeName = sqlite.PluginName

// Result codes of SQLite for a file that is damaged, or none of its own.
const (
	sqliteCorrupt = 11
	sqliteNotADB  = 26
)

// pragmas of every connection. With the write-ahead log and synchronous=NORMAL a commit costs no fsync: a killed
// process loses nothing, a power cut may lose the last moments but never damages the file.
var pragmas = map[string]string{
	"journal_mode": "wal",
	"synchronous":  "normal",
	"busy_timeout": "10000", // milliseconds; another process may hold the file for the moment of a takeover
}

// database is the SQLite file of one state directory.
type database struct {
	path       string
	clusterID  string
	generation int
}

// openDatabase makes sure that the file exists, fits this version and holds the namespace. The caller MUST hold the
// lock of the directory. It returns the record as it is now on disk.
func openDatabase(ctx context.Context, dir string) (*database, record, error) {
	db := &database{path: filepath.Join(dir, "temporal.db")}
	rec, err := db.open(ctx, dir)
	var code interface {
		error
		Code() int
	}
	if errors.As(err, &code) && (code.Code() == sqliteCorrupt || code.Code() == sqliteNotADB) {
		err = fmt.Errorf("%q is damaged: %w (%s)", db.path, err, putElsewhere(dir))
	}
	return db, rec, err
}

func (db *database) open(ctx context.Context, dir string) (record, error) {
	old, err := readRecord(dir)
	if err != nil {
		return old, err
	}
	current, err := currentRecord()
	if err != nil {
		return old, err
	}
	current.Cluster, current.Port, current.WebUIPort = old.Cluster, old.Port, old.WebUIPort

	conn, err := sql.Open("sqlite", db.dsn())
	if err != nil {
		return old, err
	}
	conn.SetMaxOpenConns(1)
	defer func() { _ = conn.Close() }()
	var tables int
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return old, fmt.Errorf("read %q: %w", db.path, err)
	}
	switch {
	case tables == 0:
		// The record is written first: whoever finds tables finds out which version made them.
		current.Cluster = uuid.NewString()
		if err := current.write(dir); err != nil {
			return old, err
		}
		if err := createSchema(ctx, conn, current.Schema); err != nil {
			return old, fmt.Errorf("create %q: %w", db.path, err)
		}
	default:
		if reason := old.check(current); reason != "" {
			return old, incompatible(dir, reason, strings.HasPrefix(reason, "a newer"))
		}
		if err := upgradeSchema(ctx, conn, schema.Assets(), old.Schema, current.Schema); err != nil {
			return old, fmt.Errorf("upgrade %q: %w", db.path, err)
		}
		if old != current {
			if err := current.write(dir); err != nil {
				return old, err
			}
		}
	}
	if db.generation, err = generationOf(db.path); err != nil {
		return old, err
	}
	db.clusterID = current.Cluster
	if err := db.ensureNamespace(ctx); err != nil {
		return old, fmt.Errorf("namespace %q: %w", namespace, err)
	}
	return current, nil
}

// uriPath escapes what SQLite would read as the end of the path.
func (db *database) uriPath() string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(db.path)
}

func (db *database) dsn() string {
	var b strings.Builder
	b.WriteString("file:" + db.uriPath() + "?mode=rwc")
	for k, v := range pragmas {
		b.WriteString("&_pragma=" + k + "=" + v)
	}
	return b.String()
}

// config says how the server opens the file. All its services share one connection.
func (db *database) config() *config.SQL {
	attributes := maps.Clone(pragmas)
	attributes["mode"] = "rwc"
	if db.generation > 0 {
		// An unknown pragma does nothing, but makes this another file for the plugin's pool (see generationOf).
		attributes["stepwell_generation"] = fmt.Sprint(db.generation)
	}
	return &config.SQL{PluginName: sqlite.PluginName, DatabaseName: db.uriPath(), ConnectAttributes: attributes}
}

// plugin gives access through the server's own SQL plugin.
func (db *database) plugin() (sqlplugin.DB, error) {
	return temporalsql.NewSQLDB(sqlplugin.DbKindMain, db.config(), resolver.NewNoopResolver(), tlog.NewNoopLogger(), metrics.NoopMetricsHandler)
}

// checkpoint moves the write-ahead log into the file and empties it.
func (db *database) checkpoint() error {
	admin, err := temporalsql.NewSQLAdminDB(sqlplugin.DbKindMain, db.config(), resolver.NewNoopResolver(), tlog.NewNoopLogger(), metrics.NoopMetricsHandler)
	if err != nil {
		return err
	}
	return errors.Join(admin.Exec("PRAGMA wal_checkpoint(TRUNCATE)"), admin.Close())
}

var generations = struct {
	sync.Mutex
	seen map[string]generation
}{seen: make(map[string]generation)}

type generation struct {
	file os.FileInfo
	n    int
}

// generationOf counts how often another file took the place of the one at path during the life of this process. The
// server's SQLite plugin never closes its connections and finds them again by path: without a new generation it would
// go on with a file that is no longer there.
func generationOf(path string) (int, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	generations.Lock()
	defer generations.Unlock()
	g, ok := generations.seen[path]
	if ok && !os.SameFile(g.file, info) {
		g.n++
	}
	g.file = info
	generations.seen[path] = g
	return g.n, nil
}
