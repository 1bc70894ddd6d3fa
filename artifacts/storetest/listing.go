package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

func listed(ctx context.Context, d driver.Driver, prefix string) ([]driver.Info, error) {
	var infos []driver.Info
	for info, err := range d.List(ctx, prefix) {
		if err != nil {
			if info != (driver.Info{}) {
				err = fmt.Errorf("%w, together with %v", err, info)
			}
			return infos, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func dirNames(ctx context.Context, d driver.Driver, prefix string) ([]string, error) {
	var names []string
	for name, err := range d.Dirs(ctx, prefix) {
		if err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}

func keysOf(infos []driver.Info) []string {
	var keys []string
	for _, info := range infos {
		keys = append(keys, info.Key)
	}
	return keys
}

// some are keys in ascending byte order, chosen so that the order of names in a folder is another one.
var some = []string{"a-b/x", "a.b", "a/b", "a/b-c/d", "a/b.c", "a/c/d", "a/c/e", "a0", "b/c", "é"}

func list(t *testing.T, d driver.Driver) {
	infos, err := listed(t.Context(), d, "")
	require.NoError(t, err)
	require.Empty(t, infos)
	for _, i := range []int{3, 1, 9, 5, 0, 7, 2, 8, 6, 4} {
		put(t, d, some[i], some[i])
	}
	for prefix, want := range map[string][]string{
		"":        some,
		"a":       some[:8],
		"a/":      some[2:7],
		"a/b":     some[2:5],
		"a/b-":    {"a/b-c/d"},
		"a/c/":    some[5:7],
		"a/c/d":   {"a/c/d"},
		"a-b/x":   {"a-b/x"},
		"é":       {"é"},
		"a/c/d/":  nil,
		"nothing": nil,
		"a0/":     nil,
	} {
		infos, err := listed(t.Context(), d, prefix)
		require.NoError(t, err, "list %q", prefix)
		require.Equal(t, want, keysOf(infos), "list %q", prefix)
		for _, info := range infos {
			there, err := d.Stat(t.Context(), info.Key)
			require.NoError(t, err)
			require.Equal(t, there.Size, info.Size)
			// Some servers tell fractions of a second in one of the answers only.
			require.Equal(t, there.Modified.Unix(), info.Modified.Unix())
		}
	}
	for info, err := range d.List(t.Context(), "") {
		require.NoError(t, err)
		require.Equal(t, some[0], info.Key)
		break // must not be called again
	}
}

func dirs(t *testing.T, d driver.Driver) {
	for _, key := range some {
		put(t, d, key, "x")
	}
	for prefix, want := range map[string][]string{
		"":       {"a-b", "a", "b"},
		"a/":     {"b-c", "c"},
		"a/c/":   nil,
		"a-b/":   nil,
		"none/":  nil,
		"a/b-c/": nil,
	} {
		names, err := dirNames(t.Context(), d, prefix)
		require.NoError(t, err, "dirs %q", prefix)
		require.Equal(t, want, names, "dirs %q", prefix)
	}
	for name, err := range d.Dirs(t.Context(), "") {
		require.NoError(t, err)
		require.Equal(t, "a-b", name)
		break
	}
}

// manyKeys lists more than fit one page of any server.
func manyKeys(t *testing.T, d driver.Driver) {
	const n = 2050
	want := make([]string, n)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range n {
		want[i] = fmt.Sprintf("flows/F/run-%d/run.json", i)
		group.Go(func() error { return d.Put(t.Context(), want[i], driver.Bytes([]byte("{}")), ifNoneIs) })
	}
	require.NoError(t, group.Wait())
	slices.Sort(want)
	infos, err := listed(t.Context(), d, "flows/F/")
	require.NoError(t, err)
	require.Equal(t, want, keysOf(infos))

	names, err := dirNames(t.Context(), d, "flows/F/")
	require.NoError(t, err)
	for i := range want {
		want[i] = want[i][len("flows/F/") : len(want[i])-len("/run.json")]
	}
	require.Equal(t, want, names)
}
