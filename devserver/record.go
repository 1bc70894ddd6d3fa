package devserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.temporal.io/server/common/headers"
	sqliteschema "go.temporal.io/server/schema/sqlite"
)

// ErrIncompatible says that the state directory was made by another version of the server and cannot be used by this
// one. The message says what to do.
var ErrIncompatible = errors.New("incompatible state directory")

// recordFormat is the format of server.json that this package writes.
const recordFormat = 1

// record is the content of server.json: what made the database, and the ports used last.
type record struct {
	Format int `json:"format"`
	// Server is the version of the Temporal server that last ran here.
	Server string `json:"server"`
	// Schema is the version of the main schema, and Visibility the digest of the visibility schema, which has no
	// versions that move.
	Schema     string `json:"schema"`
	Visibility string `json:"visibility"`
	// Cluster is the id that the server of this directory answers with.
	Cluster   string `json:"cluster"`
	Port      int    `json:"port,omitempty"`
	WebUIPort int    `json:"web_ui_port,omitempty"`
}

// currentRecord describes a database that this version makes.
func currentRecord() (record, error) {
	digest, err := visibilityDigest()
	return record{
		Format:     recordFormat,
		Server:     headers.ServerVersion,
		Schema:     sqliteschema.Version,
		Visibility: digest,
	}, err
}

func recordPath(dir string) string { return filepath.Join(dir, "server.json") }

// readRecord returns the zero record when there is none.
func readRecord(dir string) (record, error) {
	var r record
	b, err := os.ReadFile(recordPath(dir))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%q is damaged: %w (%s)", recordPath(dir), err, putElsewhere(dir))
	}
	return r, nil
}

// write keeps the record. It is safe on the disk afterwards: without it the database is of no use.
func (r record) write(dir string) error { return writeJSON(recordPath(dir), r, true) }

// check compares a record with what this version needs. It returns the reason why it cannot be used, or nothing.
func (r record) check(current record) (reason string) {
	switch {
	case r.Format == 0:
		return "it does not say which version made it"
	case r.Format > current.Format, newer(r.Schema, current.Schema), newer(minorOf(r.Server), minorOf(current.Server)):
		return fmt.Sprintf("a newer Stepwell made it: Temporal server %s with schema %s, this one has %s with %s",
			r.Server, r.Schema, current.Server, current.Schema)
	case r.Visibility != current.Visibility:
		return fmt.Sprintf("an older Stepwell made it: Temporal server %s, whose tables for lists cannot be converted for %s",
			r.Server, current.Server)
	}
	return ""
}

// incompatible makes the one error line for a directory that cannot be used.
func incompatible(dir, reason string, isNewer bool) error {
	fix := putElsewhere(dir)
	if isNewer {
		fix = "use the newer program, or " + fix
	}
	return fmt.Errorf("%w %q: %s (%s)", ErrIncompatible, dir, reason, fix)
}

// putElsewhere is the way out of a database that cannot be used.
func putElsewhere(dir string) string {
	return fmt.Sprintf("put its temporal.db* and server.json elsewhere, e.g. mkdir %[1]s/old && mv %[1]s/temporal.db* %[1]s/server.json %[1]s/old/, "+
		"and start again: artifacts and records are in the store, none of them is lost; runs that were still going can be resumed from there", dir)
}

// newer compares dotted numbers such as "0.11" and "1.32.1". A part that is not a number counts as 0.
func newer(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		var x, y int
		if i < len(as) {
			x, _ = strconv.Atoi(as[i])
		}
		if i < len(bs) {
			y, _ = strconv.Atoi(bs[i])
		}
		if x != y {
			return x > y
		}
	}
	return false
}

// minorOf cuts "1.32.1" to "1.32": patch versions of the server read each other's data.
func minorOf(version string) string {
	parts := strings.SplitN(version, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}
