package devserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.temporal.io/server/common/persistence"
	"go.temporal.io/server/schema"
)

const (
	mainSchema       = "sqlite/v3/temporal/schema.sql"
	visibilitySchema = "sqlite/v3/visibility/schema.sql"
	versionedSchema  = "sqlite/v3/temporal/versioned"
)

// statements splits embedded SQL files.
func statements(assets fs.FS, paths ...string) ([]string, error) {
	var readers []io.Reader
	for _, p := range paths {
		b, err := fs.ReadFile(assets, p)
		if err != nil {
			return nil, err
		}
		readers = append(readers, bytes.NewReader(b))
	}
	return persistence.LoadAndSplitQueryFromReaders(readers)
}

// visibilityDigest identifies the visibility schema by its statements, without comments and white space.
func visibilityDigest() (string, error) {
	stmts, err := statements(schema.Assets(), visibilitySchema)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, s := range stmts {
		for line := range strings.Lines(s) {
			line, _, _ = strings.Cut(line, "--")
			for field := range strings.FieldsSeq(line) {
				_, _ = io.WriteString(h, field+" ")
			}
		}
		_, _ = io.WriteString(h, ";")
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// createSchema makes all tables of the current version in one transaction: there is never half a database.
func createSchema(ctx context.Context, db *sql.DB, version string) error {
	stmts, err := statements(schema.Assets(), mainSchema, visibilitySchema)
	if err != nil {
		return err
	}
	return apply(ctx, db, stmts, minor(version))
}

// upgradeSchema brings the main schema to the wanted version, each version in a transaction of its own that also
// marks it as done, so that an interrupted upgrade carries on where it stopped.
func upgradeSchema(ctx context.Context, db *sql.DB, assets fs.FS, from, to string) error {
	var done int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&done); err != nil {
		return err
	}
	done = max(done, minor(from))
	entries, err := fs.ReadDir(assets, versionedSchema)
	if err != nil {
		return err
	}
	var versions []int
	for _, e := range entries {
		if v := minor(e.Name()); v > done && v <= minor(to) {
			versions = append(versions, v)
		}
	}
	slices.Sort(versions)
	for _, v := range versions {
		dir := path.Join(versionedSchema, "v0."+strconv.Itoa(v))
		b, err := fs.ReadFile(assets, path.Join(dir, "manifest.json"))
		if err != nil {
			return err
		}
		var manifest struct {
			SchemaUpdateCqlFiles []string `json:"SchemaUpdateCqlFiles"`
		}
		if err := json.Unmarshal(b, &manifest); err != nil {
			return fmt.Errorf("manifest of schema 0.%d: %w", v, err)
		}
		for i, f := range manifest.SchemaUpdateCqlFiles {
			manifest.SchemaUpdateCqlFiles[i] = path.Join(dir, f)
		}
		stmts, err := statements(assets, manifest.SchemaUpdateCqlFiles...)
		if err != nil {
			return err
		}
		if err := apply(ctx, db, stmts, v); err != nil {
			return fmt.Errorf("upgrade the schema to 0.%d: %w", v, err)
		}
	}
	return nil
}

// apply runs statements and marks the version as done, all or nothing.
func apply(ctx context.Context, db *sql.DB, stmts []string, version int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after Commit
	for _, s := range append(slices.Clip(stmts), fmt.Sprintf("PRAGMA user_version = %d", version)) {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("statement %q: %w", s, err)
		}
	}
	return tx.Commit()
}

// minor is the 11 in "0.11" or "v0.11": the major version of this schema is 0 since it exists.
func minor(version string) int {
	_, s, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(s)
	return n
}
