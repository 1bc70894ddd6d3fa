package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// List implements driver.Driver. It holds the names of one folder per level in memory.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[driver.Info, error] {
	return func(yield func(driver.Info, error) bool) {
		if err := driver.CheckPrefix(prefix); err != nil {
			yield(driver.Info{}, err)
			return
		}
		folder := prefix[:strings.LastIndex(prefix, "/")+1]
		if err := d.walk(ctx, folder, prefix, yield); err != nil && !errors.Is(err, errStop) {
			yield(driver.Info{}, fmt.Errorf("list %q: %w", prefix, err))
		}
	}
}

var errStop = errors.New("listing stopped")

// walk yields the files at and below folder (empty, or ending in a slash) whose key begins with prefix.
func (d *Driver) walk(ctx context.Context, folder, prefix string, yield func(driver.Info, error) bool) error {
	entries, err := d.entries(ctx, folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		key := folder + e.name
		if !strings.HasPrefix(key, prefix) && !strings.HasPrefix(prefix, key) {
			continue
		}
		if e.IsDir() {
			if err := d.walk(ctx, key, prefix, yield); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if absent(err) { // deleted since the folder was read
			continue
		}
		if err != nil {
			return err
		}
		if !strings.HasPrefix(key, prefix) || !info.Mode().IsRegular() {
			continue
		}
		if !yield(driver.Info{Key: key, Size: info.Size(), Modified: info.ModTime()}, nil) {
			return errStop
		}
	}
	return nil
}

// Dirs implements driver.Driver. A folder that has become empty is still yielded.
func (d *Driver) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := driver.CheckPrefix(prefix)
		var entries []entry
		if err == nil {
			entries, err = d.entries(ctx, prefix)
		}
		if err != nil {
			yield("", fmt.Errorf("list %q: %w", prefix, err))
			return
		}
		for _, e := range entries {
			if e.IsDir() && !yield(strings.TrimSuffix(e.name, "/"), nil) {
				return
			}
		}
	}
}

// entry is a file or folder; the name of a folder ends in a slash, which makes the order of names the order of keys.
type entry struct {
	fs.DirEntry
	name string
}

func (d *Driver) entries(ctx context.Context, folder string) ([]entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	read, err := os.ReadDir(d.path(strings.TrimSuffix(folder, "/")))
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(read))
	for _, e := range read {
		name := e.Name()
		if strings.HasPrefix(name, ".tmp") {
			continue
		}
		if e.IsDir() {
			name += "/"
		}
		entries = append(entries, entry{e, name})
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}
