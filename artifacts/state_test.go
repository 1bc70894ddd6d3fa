package artifacts_test

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts"
)

type tiny struct {
	Alpha float64 `param:"alpha"`
	Name  string
	Rows  []int
	Model artifacts.Ref[map[string]int]
	Data  artifacts.File
}

func TestSaveLoad(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, err := artifacts.Open(ctx, t.TempDir(), artifacts.Options{})
	require.NoError(t, err)
	require.NoError(t, store.Check(ctx))
	schema, err := artifacts.SchemaOf(reflect.TypeFor[tiny]())
	require.NoError(t, err)

	s := &tiny{Alpha: 0.5, Name: "x", Rows: make([]int, 5000)}
	snap, err := schema.Snapshot(s)
	require.NoError(t, err)
	s.Model.Set(map[string]int{"a": 1})
	entries, changed, err := schema.Save(ctx, store, s, nil, snap, "start")
	require.NoError(t, err)
	require.Equal(t, []string{"alpha", "Name", "Rows", "Model"}, changed)

	var back tiny
	require.NoError(t, schema.Load(ctx, store, entries, &back))
	require.Equal(t, s.Rows, back.Rows)
	m, err := back.Model.Load(ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 1}, m)
	again, changed, err := schema.Save(ctx, store, &back, entries, snap, "next")
	require.NoError(t, err)
	require.Empty(t, changed)
	require.Equal(t, entries, again)

	back.Alpha = 1
	_, _, err = schema.Save(ctx, store, &back, entries, snap, "next")
	require.ErrorContains(t, err, `parameter "alpha"`)
}
