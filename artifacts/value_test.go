package artifacts

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEncodeDecode(t *testing.T) {
	t.Parallel()
	type point struct{ X, Y int }
	roundTrip := func(from, into any, codec string) {
		t.Helper()
		e, content, err := Encode(from)
		require.NoError(t, err)
		require.Equal(t, codec, e.Codec)
		require.Equal(t, Sum(content), e.Digest)
		require.EqualValues(t, len(content), e.Size)
		require.Nil(t, e.Inline)
		require.NoError(t, Decode(e, content, into))
		require.Equal(t, from, into)
	}
	roundTrip(&point{1, 2}, new(point), "cbor")
	s, p, list, none := "x", &point{3, 4}, []float64{1.5}, []float64(nil)
	roundTrip(&s, new(string), "string")
	roundTrip(&p, new(*point), "cbor")
	roundTrip(&list, new([]float64), "float64s")
	roundTrip(&none, &[]float64{1}, "cbor")

	for _, from := range []any{nil, point{}, (*point)(nil)} {
		_, _, err := Encode(from)
		require.EqualError(t, err, fmt.Sprintf("encode a %T (pass a pointer)", from))
	}
	var iface any
	_, _, err := Encode(&iface)
	require.EqualError(t, err, "type interface {}: an interface does not say what to decode (use a concrete type, or register one with artifacts.RegisterCodec)")
	require.EqualError(t, CheckType(reflect.TypeFor[struct{ F func() }]()), "type func() at .F: a func means nothing outside this process (leave the field out with `flow:\"-\"`, or unexport it)")
	require.ErrorContains(t, CheckType(reflect.TypeFor[File]()), "a Ref or File cannot be inside another value")
	require.NoError(t, CheckType(reflect.TypeFor[map[string][]point]()))

	large := make([]byte, MaxFieldBytes+1)
	_, _, err = Encode(&large)
	require.ErrorIs(t, err, ErrTooLarge)
	_, _, err = Encode(&struct{ A, B []byte }{large, large})
	require.ErrorIs(t, err, ErrTooLarge)
}

// What states share is read once, and each state has its own copy of it.
func TestLoader(t *testing.T) {
	t.Parallel()
	type S struct {
		Shared, Own []byte
		Small       string
		Model       Ref[string]
	}
	k := newTask[S](t)
	k.store.cache = nil
	split := &S{Shared: []byte(strings.Repeat("s", 5000)), Small: "small"}
	split.Model.Set(strings.Repeat("m", 5000))
	base, _ := k.save(t, split, nil, "split")
	loader := k.schema.Loader(k.store, base)
	require.Zero(t, loader.Remote(base))

	for i := range 5 {
		s := &S{Shared: split.Shared, Own: []byte(strings.Repeat("o", 5000+i)), Small: "other", Model: split.Model}
		entries, _ := k.save(t, s, base, "item")
		require.EqualValues(t, 5000+i, loader.Remote(entries), "neither what is shared, nor a Ref, nor what is in the record")
		k.driver.reset()
		var got S
		require.NoError(t, loader.Load(t.Context(), entries, &got))
		require.True(t, bytes.Equal(s.Shared, got.Shared) && bytes.Equal(s.Own, got.Own))
		require.Equal(t, "other", got.Small)
		require.Equal(t, base["Model"].Digest, got.Model.Digest())
		clear(got.Shared)
		want := 1
		if i == 0 {
			want = 2
		}
		require.Equal(t, want, k.driver.called("get"))
	}

	// An error is no content.
	require.NoError(t, k.driver.Driver.Delete(t.Context(), base["Shared"].Digest.key()))
	loader = k.schema.Loader(k.store, base)
	require.ErrorIs(t, loader.Load(t.Context(), base, &S{}), ErrNotFound)
	require.ErrorIs(t, loader.Load(t.Context(), base, &S{}), ErrNotFound)
}

func TestFieldEntry(t *testing.T) {
	t.Parallel()
	k := newTask[tiny](t)
	s := &tiny{Name: "x"}
	of := func(name string) Entry {
		f, ok := k.schema.Field(name)
		require.True(t, ok)
		e, err := f.Entry(s)
		require.NoError(t, err)
		return e
	}
	require.Equal(t, Entry{}, of("Model"))
	require.Equal(t, Entry{}, of("Data"))
	s.Model.Set(map[string]int{"a": 1})
	s.Data.SetPath("nowhere")
	require.Equal(t, Entry{Codec: fileCodec}, of("Data"), "a file is not read")
	model, name := of("Model"), of("Name")
	s.Data = File{}
	entries, _ := k.save(t, s, nil, "t")
	require.True(t, entries["Model"].Same(model))
	require.True(t, entries["Name"].Same(name))
	require.True(t, entries["Model"].Same(of("Model")), "stored or not")
}
