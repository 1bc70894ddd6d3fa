package flow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/driver"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/policies"
)

// counting is a driver that counts, and whose puts may fail.
type counting struct {
	*mem.Driver
	mu         sync.Mutex
	puts, gets int
	fail       func(put int) error
	deaf       bool // to a context that ends
}

func (d *counting) Put(ctx context.Context, key string, body driver.Body, o driver.PutOptions) error {
	d.mu.Lock()
	d.puts++
	n := d.puts
	d.mu.Unlock()
	if d.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	if d.fail != nil {
		if err := d.fail(n); err != nil {
			return err
		}
	}
	return d.Driver.Put(ctx, key, body, o)
}

func (d *counting) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	d.mu.Lock()
	d.gets++
	d.mu.Unlock()
	return d.Driver.Get(ctx, key, offset)
}

func uncached() (*counting, *artifacts.Store) {
	d := &counting{Driver: mem.New()}
	return d, artifacts.New(d, artifacts.Options{CacheBytes: -1})
}

// pointers yields pointers to the items, as a foreach does.
func pointers[E any](items []E) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		for _, item := range items {
			if !yield(&item, nil) {
				return
			}
		}
	}
}

// roundTrip writes and opens a list.
func roundTrip[E any](t require.TestingT, store *artifacts.Store, items []E) *Items {
	l, err := writeList(context.Background(), store, "f", pointers(items), MaxItems)
	require.NoError(t, err)
	require.Equal(t, len(items), l.Len)
	it, err := OpenItems(context.Background(), store, l)
	require.NoError(t, err)
	require.Equal(t, len(items), it.Len())
	return it
}

func requireItem[E any](t require.TestingT, it *Items, i int, want E) {
	var got E
	require.NoError(t, it.load(context.Background(), i, &got))
	require.Equal(t, want, got, "item %d", i)
}

func TestListSizes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ n, puts int }{
		{0, 0}, {1, 1}, {2, 1}, {999, 1}, {1000, 1}, {1001, 3}, {2000, 3}, {2500, 4},
	} {
		d, store := uncached()
		items := make([]int, test.n)
		for i := range items {
			items[i] = i * i
		}
		it := roundTrip(t, store, items)
		require.Equal(t, test.puts, d.puts, "%d items", test.n)
		for i := range items {
			requireItem(t, it, i, items[i])
		}
		for _, i := range []int{-1, test.n, test.n + 1000} {
			require.EqualError(t, it.load(t.Context(), i, new(int)), fmt.Sprintf("item %d of a list of %d", i, test.n))
		}
	}
}

// An item costs one object and not the list; a list of one chunk costs nothing beyond itself.
func TestListReadsOneChunk(t *testing.T) {
	t.Parallel()
	d, store := uncached()
	it := roundTrip(t, store, make([]string, 5000))
	require.Equal(t, 1, d.gets)
	requireItem(t, it, 4321, "")
	require.Equal(t, 2, d.gets)

	it = roundTrip(t, store, []string{"a", "b"})
	d.gets = 0
	requireItem(t, it, 1, "b")
	require.Zero(t, d.gets)
}

// Chunks end before they are too large; a single item may be larger than a chunk.
func TestListOfBigItems(t *testing.T) {
	t.Parallel()
	d, store := uncached()
	items := make([]string, 30)
	for i := range items {
		items[i] = fmt.Sprint(i) + strings.Repeat("x", 100<<10)
	}
	items[10] = "big" + strings.Repeat("x", 1<<20)
	items[11] = ""
	it := roundTrip(t, store, items)
	require.Equal(t, 15, it.head.Chunks) // twos, but for one of one, the big one, and three with the empty one
	require.Equal(t, 16, d.puts)
	for i := range items {
		requireItem(t, it, i, items[i])
	}

	_, err := writeList(t.Context(), store, "f", pointers([][]byte{{1}, make([]byte, artifacts.MaxFieldBytes+1)}), MaxItems)
	require.EqualError(t, err, `item 1 of foreach "f": it has 67108865 bytes or more, the limit is 67108864 (let items be keys of what they stand for)`)
}

type shapeItem struct {
	Name  string
	Alpha float64
	Tags  map[string][]int
	At    time.Time
	Next  *shapeItem
}

// An interface whose values are stored by a codec of their own.
type animal interface{ Sound() string }

type cat struct{ name string }

func (c cat) Sound() string { return c.name }

func TestListTypes(t *testing.T) {
	t.Parallel()
	_, store := uncached()
	day := time.Date(2024, 2, 29, 12, 0, 0, 5, time.FixedZone("", 3600))
	structs := []shapeItem{{}, {Name: "a", Alpha: 0.1, Tags: map[string][]int{"x": {1}, "y": nil}, At: day, Next: &shapeItem{Name: "b"}}}
	it := roundTrip(t, store, structs)
	var got shapeItem
	require.NoError(t, it.load(t.Context(), 1, &got))
	require.True(t, day.Equal(got.At))
	got.At = day
	require.Equal(t, structs[1], got)

	// Nil items among others: these types have a codec that cannot say nil.
	vectors := [][]float64{nil, {1, 2}, {}, nil, {3}, nil}
	it = roundTrip(t, store, vectors)
	for i := range vectors {
		requireItem(t, it, i, vectors[i])
	}
	it = roundTrip(t, store, [][]byte{nil, nil})
	requireItem(t, it, 1, []byte(nil))
	it = roundTrip(t, store, []*int{nil, new(int), nil})
	requireItem(t, it, 0, (*int)(nil))
	requireItem(t, it, 1, new(int))

	require.NoError(t, artifacts.RegisterCodec("test.animal/v1",
		func(a animal) ([]byte, error) { return []byte(a.Sound()), nil },
		func(b []byte) (animal, error) { return cat{string(b)}, nil }))
	animals := []animal{cat{"meow"}, nil, cat{""}}
	it = roundTrip(t, store, animals)
	for i := range animals {
		requireItem(t, it, i, animals[i])
	}

	require.ErrorContains(t, it.load(t.Context(), 0, new(int)), "item 0: stored as flow.animal with codec \"test.animal/v1\", which cannot fill a int")
	_, err := writeList(t.Context(), store, "f", pointers([]shapeItem{{}, {Tags: map[string][]int{"\xff": nil}}, cyclic()}), MaxItems)
	require.ErrorContains(t, err, "nested deeper than 1000 levels (is it cyclic?")
}

func cyclic() shapeItem {
	s := &shapeItem{}
	s.Next = s
	return *s
}

// Any items come back, whatever the borders of the chunks.
func TestListProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		_, store := uncached()
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.Just(-1), rapid.IntRange(0, 3), rapid.IntRange(0, chunkBytes*5/4)), 1, 8).Draw(t, "sizes")
		repeat := rapid.SampledFrom([]int{1, 1, 300}).Draw(t, "repeat")
		var items [][]byte
		for range repeat {
			for i, n := range sizes {
				if n > 100 && repeat > 1 {
					n = 100
				}
				var item []byte
				if n >= 0 {
					item = make([]byte, n)
					if n > 0 {
						item[n-1] = byte(i)
					}
				}
				items = append(items, item)
			}
		}
		it := roundTrip(t, store, items)
		for range 20 {
			i := rapid.IntRange(0, len(items)-1).Draw(t, "i")
			requireItem(t, it, i, items[i])
		}
	})
}

func TestListErrors(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	endless := func(stop int, err error) iter.Seq2[any, error] {
		return func(yield func(any, error) bool) {
			for i := 0; ; i++ {
				var at error
				if i == stop {
					at = err
				}
				if !yield(&i, at) {
					return
				}
			}
		}
	}
	d, store := uncached()
	_, err := writeList(t.Context(), store, "f", endless(2500, boom), MaxItems)
	require.EqualError(t, err, `items of foreach "f": boom`)
	require.ErrorIs(t, err, boom)

	// What the store refuses ends even an endless list.
	d.fail = func(put int) error {
		if put > 3 {
			return boom
		}
		return nil
	}
	_, err = writeList(t.Context(), store, "f", endless(-1, nil), MaxItems)
	require.ErrorContains(t, err, `write the items of foreach "f": `)
	require.ErrorIs(t, err, boom)

	// The list itself is written last: no error is taken for an end.
	for failing := 1; failing <= 4; failing++ {
		d, store := uncached()
		d.fail = func(put int) error {
			if put == failing {
				return boom
			}
			return nil
		}
		_, err = writeList(t.Context(), store, "f", pointers(make([]string, 2500)), MaxItems)
		require.ErrorIs(t, err, boom, "put %d", failing)
	}
	for _, deaf := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		d, store := uncached()
		d.deaf = deaf
		_, err = writeList(ctx, store, "f", endless(-1, nil), MaxItems)
		require.ErrorIs(t, err, context.Canceled)
	}

	// A panic of the items is the caller's.
	require.PanicsWithValue(t, "items", func() {
		_, _ = writeList(t.Context(), artifacts.New(mem.New(), artifacts.Options{}), "f", func(yield func(any, error) bool) {
			for i := range 1500 {
				yield(&i, nil)
			}
			panic("items")
		}, MaxItems)
	})
}

func TestListTooLong(t *testing.T) {
	t.Parallel()
	_, store := uncached()
	for _, n := range []int{2, 3000} {
		l, err := writeList(t.Context(), store, "f", pointers(make([]int, n)), n)
		require.NoError(t, err)
		require.Equal(t, n, l.Len)
		_, err = writeList(t.Context(), store, "f", pointers(make([]int, n+1)), n)
		require.EqualError(t, err, fmt.Sprintf(`foreach "f" has more than %d items (put a foreach into another one)`, n))
		require.Equal(t, policies.Permanent, policies.Classify(err).Class)
	}
}

func TestDamagedLists(t *testing.T) {
	t.Parallel()
	_, store := uncached()
	put := func(content string) artifacts.Digest {
		d, err := store.PutBlob(t.Context(), []byte(content))
		require.NoError(t, err)
		return d
	}
	for content, want := range map[string]string{
		"":                                  "it is no list: unexpected end of JSON input",
		"not JSON":                          "it is no list: invalid character 'o' in literal null (expecting 'u')",
		"{}":                                "it is no list",
		`{"version":2,"len":2}`:             "it has version 2, this program knows 1 (upgrade this program)",
		`{"version":1,"len":-1}`:            "it is no list",
		`{"version":1,"len":2,"chunks":-1}`: "it is no list",
		`{"version":1,"len":2,"chunks":3}`:  "it is no list",
		`{"version":1,"len":2,"chunks":1}` + "\nxyz":     "it is no list",
		`{"version":1,"len":20000000,"type":"x"}` + "\n": "it is no list",
	} {
		d := put(content)
		_, err := OpenItems(t.Context(), store, List{Len: 2, Digest: d})
		require.EqualError(t, err, fmt.Sprintf("list of items %s: %s", d, want), content)
	}
	d := put(`{"version":1,"len":3,"type":"int"}` + "\n")
	_, err := OpenItems(t.Context(), store, List{Len: 2, Digest: d})
	require.EqualError(t, err, fmt.Sprintf("list of items %s has 3 items, not 2", d))
	_, err = OpenItems(t.Context(), store, List{Len: 2, Digest: artifacts.Sum([]byte("gone"))})
	require.ErrorIs(t, err, artifacts.ErrNotFound)
	_, err = OpenItems(t.Context(), store, List{Len: 2})
	require.ErrorContains(t, err, "zero digest")

	// A list that does not have what it says.
	it, err := OpenItems(t.Context(), store, List{Len: 3, Digest: d})
	require.NoError(t, err)
	err = it.load(t.Context(), 0, new(int))
	require.EqualError(t, err, "item 0: its chunk does not have it: corrupt")
	require.ErrorIs(t, err, artifacts.ErrCorrupt)

	// A chunk that is gone, one that is damaged, and a line that is no digest.
	items := make([]int, 2500)
	l, err := writeList(t.Context(), store, "f", pointers(items), MaxItems)
	require.NoError(t, err)
	it, err = OpenItems(t.Context(), store, l)
	require.NoError(t, err)
	c, err := it.find(1500)
	require.NoError(t, err)
	require.Equal(t, 1000, c.first)
	it.body = append([]byte(nil), it.body...)
	copy(it.body[lineBytes:], fmt.Sprintf("%0*d %s\n", firstBytes, 1000, artifacts.Sum([]byte("gone"))))
	require.ErrorIs(t, it.load(t.Context(), 1500, new(int)), artifacts.ErrNotFound)
	requireItem(t, it, 999, 0)
	requireItem(t, it, 2000, 0)
	copy(it.body[lineBytes+firstBytes+1:], "md5:")
	require.ErrorContains(t, it.load(t.Context(), 1500, new(int)), "item 1500: malformed digest")
}

// A chunk may hold anything: reading an item of it returns an error or what is in it.
func FuzzItems(f *testing.F) {
	_, store := uncached()
	it := roundTrip(f, store, []string{"a", "", "ccc"})
	f.Add([]byte(`{"version":1,"len":3,"codec":"string","type":"string"}`+"\n"+string(it.body)), 2)
	it = roundTrip(f, store, make([]string, 1500))
	f.Add([]byte(`{"version":1,"len":1500,"codec":"string","type":"string","chunks":2}`+"\n"+string(it.body)), 1200)
	for _, chunk := range []string{"\xff\xff\xff\xff", "\x01\x00\x00\x00\xff\xff\xff\xff", "\x02\x00\x00\x00\x05\x00\x00\x00\x01\x00\x00\x00"} {
		f.Add([]byte(`{"version":1,"len":3,"type":"x"}`+"\n"+chunk), 1)
	}
	f.Fuzz(func(t *testing.T, blob []byte, i int) {
		var it Items
		if it.parse(blob) != nil || i < 0 || i >= it.Len() {
			return
		}
		if it.head.Chunks > 0 {
			if c, err := it.find(i); err == nil {
				require.False(t, c.digest.IsZero())
			}
			return
		}
		e, content, err := it.item(it.body, i)
		if err != nil {
			require.ErrorIs(t, err, artifacts.ErrCorrupt)
			return
		}
		require.LessOrEqual(t, len(content), len(it.body)+1)
		require.EqualValues(t, len(content), e.Size)
	})
}

func BenchmarkItemsLoad(b *testing.B) {
	store := artifacts.New(mem.New(), artifacts.Options{})
	items := make([]int, 1_000_000)
	for i := range items {
		items[i] = i
	}
	l, err := writeList(b.Context(), store, "f", pointers(items), MaxItems)
	require.NoError(b, err)
	i := 0
	b.ReportAllocs()
	for b.Loop() { // as a task does it: the list is opened for each item
		it, err := OpenItems(b.Context(), store, l)
		if err != nil {
			b.Fatal(err)
		}
		var n int
		if err := it.load(b.Context(), i, &n); err != nil || n != i {
			b.Fatal(n, err)
		}
		i = (i + 7919) % len(items)
	}
}

func BenchmarkWriteList(b *testing.B) {
	items := make([]int, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := writeList(b.Context(), artifacts.New(mem.New(), artifacts.Options{}), "f", pointers(items), MaxItems); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(items)), "ns/item")
}
