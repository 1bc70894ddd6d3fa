package artifacts

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

type tiny struct {
	Alpha float64 `param:"alpha"`
	Name  string
	Rows  []int
	Model Ref[map[string]int]
	Data  File
}

// task saves and loads states of type S as the tasks of a run do.
type task[S any] struct {
	driver *faulty
	store  *Store
	schema *Schema
}

func newTask[S any](t *testing.T) task[S] {
	t.Helper()
	d := newFaulty()
	schema, err := SchemaOf(reflect.TypeFor[S]())
	require.NoError(t, err)
	return task[S]{driver: d, store: New(d, Options{}), schema: schema}
}

func (k task[S]) load(t *testing.T, entries map[string]Entry) *S {
	t.Helper()
	var s S
	require.NoError(t, k.schema.Load(t.Context(), k.store, throughJSON(t, entries), &s))
	return &s
}

func (k task[S]) save(t *testing.T, s *S, prev map[string]Entry, by string) (map[string]Entry, []string) {
	t.Helper()
	snap, err := k.schema.Snapshot(s)
	require.NoError(t, err)
	k.driver.reset()
	entries, changed, err := k.schema.Save(t.Context(), k.store, s, prev, snap, by)
	require.NoError(t, err)
	return entries, changed
}

// throughJSON is what a record does to entries.
func throughJSON(t *testing.T, entries map[string]Entry) map[string]Entry {
	t.Helper()
	b, err := json.Marshal(entries)
	require.NoError(t, err)
	var back map[string]Entry
	require.NoError(t, json.Unmarshal(b, &back))
	return back
}

func TestSaveLoad(t *testing.T) {
	t.Parallel()
	k := newTask[tiny](t)
	s := &tiny{Alpha: 0.5, Name: "x", Rows: make([]int, 5000)}
	s.Model.Set(map[string]int{"a": 1})
	entries, changed := k.save(t, s, nil, "run/start")
	require.Equal(t, []string{"alpha", "Name", "Rows", "Model"}, changed)
	require.Len(t, k.driver.blobs(), 1, "all but Rows are small and live in the record")
	require.Equal(t, "run/start", entries["Rows"].By)
	require.Nil(t, entries["Rows"].Inline)
	require.Equal(t, []byte("x"), entries["Name"].Inline)

	back := k.load(t, entries)
	require.Equal(t, s.Rows, back.Rows)
	m, err := back.Model.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]int{"a": 1}, m)
	require.True(t, back.Data.IsZero())

	// Nothing changed: the entries stay, and nothing is written or asked.
	again, changed := k.save(t, back, entries, "run/next")
	require.Empty(t, changed)
	require.Equal(t, entries, again)
	require.Empty(t, k.driver.calls)

	// One field changed: the others keep their digest and their task.
	back.Name = "y"
	again, changed = k.save(t, back, entries, "run/next")
	require.Equal(t, []string{"Name"}, changed)
	require.Equal(t, "run/next", again["Name"].By)
	require.Equal(t, "run/start", again["Rows"].By)
	require.Empty(t, k.driver.blobs())

	// Set back: the content is known, but the record names the task that set it last.
	back.Name = "x"
	again, changed = k.save(t, back, again, "run/third")
	require.Equal(t, []string{"Name"}, changed)
	require.Equal(t, entries["Name"].Digest, again["Name"].Digest)
	require.Equal(t, "run/third", again["Name"].By)
}

// The entries of a record own their bytes: a state that goes on being used does not change them.
func TestEntriesOwnTheirBytes(t *testing.T) {
	t.Parallel()
	type state struct {
		Numbers []int
		Bytes   []byte
	}
	k := newTask[state](t)
	s := &state{Numbers: []int{1, 2}, Bytes: []byte{3}}
	entries, _ := k.save(t, s, nil, "a")
	s.Numbers[0], s.Bytes[0] = 9, 9
	back := k.load(t, entries)
	require.Equal(t, &state{Numbers: []int{1, 2}, Bytes: []byte{3}}, back)
	back.Numbers[0] = 8
	require.Equal(t, []int{1, 2}, k.load(t, entries).Numbers)
}

// A large artifact comes from the cache the second time, and the caller owns what it got all the same.
func TestLoadedStatesShareNothing(t *testing.T) {
	t.Parallel()
	k := newTask[tiny](t)
	entries, _ := k.save(t, &tiny{Rows: make([]int, 5000)}, nil, "a")
	k.driver.reset()
	first := k.load(t, entries)
	first.Rows[0] = 7
	require.Equal(t, 0, k.load(t, entries).Rows[0])
	require.Zero(t, k.driver.called("get"), "saving left the content in the cache")
}

func TestNilAndEmptyDiffer(t *testing.T) {
	t.Parallel()
	type inner struct {
		S []string
		M map[string]int
	}
	type state struct {
		Numbers []float64
		Texts   []string
		Bytes   []byte
		Map     map[string]int
		Ptr     *inner
		Inner   inner
		Lists   [][]byte
	}
	k := newTask[state](t)
	null := &state{}
	empty := &state{
		Numbers: []float64{}, Texts: []string{}, Bytes: []byte{}, Map: map[string]int{}, Ptr: &inner{},
		Inner: inner{S: []string{}, M: map[string]int{}}, Lists: [][]byte{nil, {}},
	}
	entries, _ := k.save(t, null, nil, "a")
	require.Equal(t, null, k.load(t, entries))
	next, changed := k.save(t, empty, entries, "b")
	require.Equal(t, []string{"Numbers", "Texts", "Bytes", "Map", "Ptr", "Inner", "Lists"}, changed)
	require.Equal(t, empty, k.load(t, next))
}

func TestParametersAreReadOnly(t *testing.T) {
	t.Parallel()
	type state struct {
		Alpha float64  `param:"alpha"`
		Files []string `param:"files"`
		Rows  []int
	}
	k := newTask[state](t)
	s := &state{Alpha: 1, Files: []string{"a"}}
	snap, err := k.schema.Snapshot(s)
	require.NoError(t, err)
	s.Alpha, s.Files[0], s.Rows = 2, "b", make([]int, 5000)
	k.driver.reset()
	_, _, err = k.schema.Save(t.Context(), k.store, s, nil, snap, "a")
	require.ErrorContains(t, err, `parameter "alpha" (field Alpha) was changed by the step (parameters are read-only: set another field)`)
	require.ErrorContains(t, err, `parameter "files" (field Files) was changed`)
	require.Empty(t, k.driver.blobs(), "nothing is written for a step that fails")
	_, err = k.schema.Snapshot(*s)
	require.ErrorContains(t, err, "state is a artifacts.state, not a *artifacts.state")
}

func TestTooLargeFields(t *testing.T) {
	t.Parallel()
	type state struct {
		Fits  []int
		Raw   []byte
		Texts []string
	}
	k := newTask[state](t)
	text := string(make([]byte, MaxFieldBytes/4))
	s := &state{Fits: make([]int, 5000), Raw: make([]byte, MaxFieldBytes+1), Texts: []string{text, text, text, text}}
	_, _, err := k.schema.Save(t.Context(), k.store, s, nil, Snapshot{}, "a")
	require.ErrorIs(t, err, ErrTooLarge)
	require.ErrorContains(t, err, `artifact "Raw" ([]uint8) has 64.0 MiB encoded, the limit of a plain field is 64.0 MiB (make the field an artifacts.File`)
	require.ErrorContains(t, err, `artifact "Texts" ([]string) has more than 64.0 MiB encoded`)
	var large *TooLargeError
	require.ErrorAs(t, err, &large)
	require.Equal(t, int64(MaxFieldBytes+1), large.Size)
	require.Empty(t, k.driver.calls, "nothing is written")
}

// A worker with an older state type hands on what it does not know, and one with a newer type starts its new fields from zero.
func TestFieldsComeAndGo(t *testing.T) {
	t.Parallel()
	type older struct{ A, B int }
	type newer struct{ B, C int }
	old, young := newTask[older](t), newTask[newer](t)
	entries, _ := old.save(t, &older{1, 2}, nil, "a")
	s := young.load(t, entries)
	require.Equal(t, &newer{B: 2}, s)
	s.C = 3
	next, changed := young.save(t, s, entries, "b")
	require.Equal(t, []string{"C"}, changed)
	require.Equal(t, []string{"A", "B", "C"}, slices.Sorted(maps.Keys(next)))
	require.Equal(t, &older{1, 2}, old.load(t, next))
}

func TestLoadNamesTheArtifact(t *testing.T) {
	t.Parallel()
	type state struct {
		Number int
		List   []string
		Data   File
	}
	k := newTask[state](t)
	entry := func(v string) Entry {
		e, content := encoded(t, v)
		e.Inline = content
		return e
	}
	broken := entry("text")
	broken.Inline = []byte("tex7")
	err := k.schema.Load(t.Context(), k.store, map[string]Entry{
		"Number": entry("text"), "List": broken, "Data": entry("text"), "Other": broken,
	}, &state{})
	require.ErrorContains(t, err, `load artifact "Number" (int): stored as string with codec "string", which cannot fill a int`)
	require.ErrorContains(t, err, `load artifact "List" ([]string): corrupt inline content`)
	require.ErrorContains(t, err, `load artifact "Data" (artifacts.File): stored as string with codec "string", which is not a file`)
	require.ErrorIs(t, err, ErrCorrupt)
	require.NotContains(t, err.Error(), "Other")
}

func TestRefLifecycle(t *testing.T) {
	t.Parallel()
	type state struct{ Model Ref[[]float64] }
	k := newTask[state](t)
	s := &state{}
	_, err := s.Model.Load(t.Context())
	require.ErrorContains(t, err, "load ref of []float64: empty (no step has set it)")
	require.True(t, s.Model.IsZero())
	entries, changed := k.save(t, s, nil, "a")
	require.Empty(t, changed)
	require.Empty(t, entries)

	s.Model.Set(make([]float64, 5000))
	require.False(t, s.Model.IsZero())
	require.True(t, s.Model.Digest().IsZero(), "not yet stored")
	v, err := s.Model.Load(t.Context())
	require.NoError(t, err)
	v[0] = 1 // the set value itself: it is stored as it is when the step returns
	entries, changed = k.save(t, s, entries, "b")
	require.Equal(t, []string{"Model"}, changed)
	require.Len(t, k.driver.blobs(), 1)
	require.Equal(t, entries["Model"].Digest, s.Model.Digest())
	require.Equal(t, int64(40000), s.Model.Size())

	// Loading the state loads nothing of it; each Load gives a value of the caller's own.
	k.store = New(k.driver, Options{})
	k.driver.reset()
	back := k.load(t, entries)
	require.Zero(t, k.driver.called("get"))
	first, err := back.Model.Load(t.Context())
	require.NoError(t, err)
	require.InDelta(t, 1, first[0], 0)
	first[0] = 5
	second, err := back.Model.Load(t.Context())
	require.NoError(t, err)
	require.InDelta(t, 1, second[0], 0)
	require.Equal(t, 1, k.driver.called("get"))

	// Set to what it was: unchanged, and no write.
	back.Model.Set(second)
	same, changed := k.save(t, back, entries, "c")
	require.Empty(t, changed)
	require.Equal(t, entries, same)
	require.Empty(t, k.driver.calls)

	// A copy is a handle of the same content; emptied, the artifact is gone.
	other := state{Model: back.Model}
	_, err = other.Model.Load(t.Context())
	require.NoError(t, err)
	back.Model = Ref[[]float64]{}
	none, changed := k.save(t, back, entries, "d")
	require.Equal(t, []string{"Model"}, changed)
	require.Empty(t, none)
}

func TestFileLifecycle(t *testing.T) {
	t.Parallel()
	type state struct{ Data File }
	k := newTask[state](t)
	s := &state{}
	_, err := s.Data.Open(t.Context())
	require.ErrorContains(t, err, "open file: empty (no step has set it)")
	require.True(t, s.Data.IsZero())

	dir := t.TempDir()
	path := filepath.Join(dir, "rows.csv")
	content := noise(100_000)
	require.NoError(t, os.WriteFile(path, content, 0o600))
	s.Data.SetPath(path)
	require.Equal(t, "rows.csv", s.Data.Name())
	require.Equal(t, int64(len(content)), s.Data.Size())
	r, err := s.Data.Open(t.Context())
	require.NoError(t, err, "a file that is set and not yet stored is read from the disk")
	require.NoError(t, r.Close())

	entries, changed := k.save(t, s, nil, "a")
	require.Equal(t, []string{"Data"}, changed)
	require.Equal(t, Entry{Digest: Sum(content), Size: int64(len(content)), Codec: fileCodec, Type: "artifacts.File", By: "a", Name: "rows.csv"}, entries["Data"])
	require.NoError(t, os.Remove(path))

	back := k.load(t, entries)
	require.Equal(t, "rows.csv", back.Data.Name())
	require.Equal(t, Sum(content), back.Data.Digest())
	to := filepath.Join(dir, "copy.csv")
	require.NoError(t, os.WriteFile(to, []byte("old"), 0o600))
	require.NoError(t, back.Data.Save(t.Context(), to))
	got, err := os.ReadFile(to)
	require.NoError(t, err)
	require.Equal(t, content, got)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "no temporary file stays")

	// The same content again under the same name is no change; under another name it is, but is not written again.
	require.NoError(t, os.WriteFile(path, content, 0o600))
	back.Data.SetPath(path)
	same, changed := k.save(t, back, entries, "b")
	require.Empty(t, changed)
	require.Equal(t, entries, same)
	require.NoError(t, os.Rename(path, path+".old"))
	back.Data.SetPath(path + ".old")
	_, changed = k.save(t, back, entries, "b")
	require.Equal(t, []string{"Data"}, changed)
	require.Empty(t, k.driver.blobs())

	back.Data.SetPath(path)
	_, _, err = k.schema.Save(t.Context(), k.store, back, entries, Snapshot{}, "c")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, `save artifact "Data" (artifacts.File)`)
	require.ErrorContains(t, err, "a file must be there until the step has returned")
	back.Data.SetPath(dir)
	_, _, err = k.schema.Save(t.Context(), k.store, back, entries, Snapshot{}, "c")
	require.ErrorContains(t, err, "not a regular file")
}

// A file that comes damaged does not replace the one at its path.
func TestFileSaveIsAllOrNothing(t *testing.T) {
	t.Parallel()
	type state struct{ Data File }
	k := newTask[state](t)
	path := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(path, noise(50_000), 0o600))
	s := &state{}
	s.Data.SetPath(path)
	entries, _ := k.save(t, s, nil, "a")
	key := entries["Data"].Digest.key()
	object := k.driver.object(t, key)
	object[len(object)-1] ^= 1
	k.driver.set(t, key, object)

	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	require.ErrorIs(t, k.load(t, entries).Data.Save(t.Context(), path), ErrCorrupt)
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "precious", string(got))
	left, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, left, 1)
}

// A handle of one store that gets into the state of another brings its content along.
func TestHandlesOfAnotherStore(t *testing.T) {
	t.Parallel()
	type state struct {
		Model Ref[[]int]
		Small Ref[int]
		Data  File
		None  File
	}
	from, to := newTask[state](t), newTask[state](t)
	path := filepath.Join(t.TempDir(), "zeros")
	require.NoError(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
	s := &state{}
	s.Model.Set(make([]int, 5000))
	s.Small.Set(3)
	s.Data.SetPath(path)
	entries, _ := from.save(t, s, nil, "there")
	s = from.load(t, entries)

	moved, changed := to.save(t, s, nil, "here")
	require.Equal(t, []string{"Model", "Small", "Data"}, changed)
	require.Len(t, to.driver.blobs(), 2)
	back := to.load(t, moved)
	v, err := back.Model.Load(t.Context())
	require.NoError(t, err)
	require.Len(t, v, 5000)
	r, err := back.Data.Open(t.Context())
	require.NoError(t, err)
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), n)
}

// The first error of the store ends a save, and names the artifact.
func TestSaveFailsWithTheStore(t *testing.T) {
	t.Parallel()
	k := newTask[tiny](t)
	full := errors.New("disk full")
	k.driver.fail = func(op, _ string, _ int) error {
		if op == "put" {
			return full
		}
		return nil
	}
	_, _, err := k.schema.Save(t.Context(), k.store, &tiny{Rows: make([]int, 5000)}, nil, Snapshot{}, "a")
	require.ErrorIs(t, err, full)
	require.ErrorContains(t, err, `save artifact "Rows" ([]int)`)
}
