package artifacts

import (
	"bytes"
	"math"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hostile is a type in which a few bytes could ask for much.
type hostile struct {
	Big    [][4096]byte
	Deep   *hostile
	List   []hostile
	Maps   []map[string][]map[int]string
	Times  []time.Time
	Ptr    ***[]*int
	Keys   map[[2]string]map[bool]float32
	C      complex64
	Owns   []Digest
	Fixed  [3]uint16
	Bytes  []byte
	Number uint8
}

// FuzzDecode feeds the CBOR decoder with hostile bytes: it must not panic, and what it accepts must encode to bytes that stay as they
// are from then on.
func FuzzDecode(f *testing.F) {
	n := 5
	p := &n
	list := []*int{p, nil}
	pp := &list
	e, content := encoded(f, hostile{
		Big: make([][4096]byte, 1), Deep: &hostile{Number: 7}, List: []hostile{{C: 1i}}, Maps: []map[string][]map[int]string{{"a": {{1: "x"}}}, nil},
		Times: []time.Time{{}, time.Date(20000, 1, 1, 0, 0, 0, 0, time.FixedZone("", 90))}, Ptr: func() ***[]*int { q := &pp; return &q }(),
		Keys: map[[2]string]map[bool]float32{{"a", "\xff"}: {true: float32(math.NaN())}}, Owns: []Digest{Sum(nil)}, Bytes: []byte{1},
	})
	require.Equal(f, cborCodec, e.Codec)
	f.Add(content)
	f.Add(content[:len(content)-9])
	for _, seed := range []string{
		"", "\xff", "\xf6", "\x1f", "\x9f\xff", "\xbf\xff", "\xa1\x63Big\x9a\xff\xff\xff\xff", "\xa1\x63Big\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
		"\xa1\x64Maps\x81\xbb\x00\x00\x00\x01\x00\x00\x00\x00", "\xa2\x66Number\x01\x66Number\x02", "\xa1\x65Times\x81\xc0\x741985-04-12T23:20:50Z",
		"\xa1\x65Times\x81\xd9\x03\xe9\xa3\x01\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x28\x00\x66offset\x00", "\xa1\x63new" + "\xc1\xc1\xc1\xc1\x00",
		"\xa1\x65Times\x81\xc0\x78\x192013-03-21T20:04:00+24:00", "\xfb\x7f\xf0\x00\x00\x00\x00\x00\x01", "\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Add(bytes.Repeat([]byte{0x81}, 5000))
	f.Add(bytes.Repeat([]byte("\xa1\x64Deep"), 3000))
	f.Fuzz(func(t *testing.T, content []byte) {
		c, problems := codecOf(reflect.TypeFor[hostile]())
		require.NoError(t, problemsError(problems))
		var v hostile
		if err := c.decodeEntry(Entry{Codec: cborCodec}, content, reflect.ValueOf(&v).Elem()); err == nil {
			requireStable(t, v)
		} else {
			require.NotContains(t, err.Error(), "panic")
		}
		var generic any
		if err := Decode(Entry{Codec: cborCodec}, content, &generic); err == nil {
			require.LessOrEqual(t, len(Preview(Entry{Codec: cborCodec, Size: int64(len(content))}, content, 80)), 80)
		} else {
			require.NotContains(t, err.Error(), "panic")
		}
	})
}

// requireStable encodes v, decodes that and encodes again.
func requireStable(t *testing.T, v hostile) {
	t.Helper()
	c, _ := codecOf(reflect.TypeFor[hostile]())
	name, first, err := c.encode(reflect.ValueOf(v))
	if err != nil { // NaN twice as a key, for one
		return
	}
	var back hostile
	require.NoError(t, Decode(Entry{Codec: name}, first, &back))
	_, second := encoded(t, back)
	require.Equal(t, first, second)
}

// A few bytes that claim to be much allocate no more than the budget.
//
// It is not parallel, because it measures what the process allocates.
func TestDecodeAllocatesWithinItsBudget(t *testing.T) {
	for name, content := range map[string][]byte{
		"array of a length that is not there": []byte("\xa1\x63Big\x9a\x00\xff\xff\xff\x40"),
		"large elements from small content":   append([]byte("\xa1\x63Big\x9a\x00\x01\x00\x00"), bytes.Repeat([]byte{0xf6}, 1<<16)...),
		"elements of many fields":             append([]byte("\xa1\x64List\x9a\x00\x03\x00\x00"), bytes.Repeat([]byte{0xa0}, 0x30000)...),
		"empty maps":                          append([]byte("\xa1\x64Maps\x9a\x00\x03\x00\x00"), bytes.Repeat([]byte{0xa0}, 0x30000)...),
		"nested arrays":                       bytes.Repeat([]byte{0x9a, 0, 0, 0, 200}, 3000),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var v hostile
		typed := Decode(Entry{Codec: cborCodec}, content, &v)
		var generic any
		untyped := Decode(Entry{Codec: cborCodec}, content, &generic)
		runtime.ReadMemStats(&after)
		budget := newDecoder(content).budget
		// Twice for two decoders, and twice because a slice that grows leaves its old half behind.
		require.LessOrEqual(t, int64(after.TotalAlloc-before.TotalAlloc), 4*budget, "%s: %v, %v", name, typed, untyped)
	}
	// What an honest encoder writes is within the budget, the worst of it too.
	worst, content := encoded(t, make([]map[string]int, 1<<20))
	require.NoError(t, Decode(worst, content, new([]map[string]int)))
	for i := range 6 {
		_, content := encoded(t, make([][4096]struct{ A int8 }, 1<<i))
		require.NoError(t, Decode(Entry{Codec: cborCodec}, content, new([][4096]struct{ A int8 })))
	}
}

func FuzzParseDigest(f *testing.F) {
	for _, seed := range []string{"", "sha256:", Sum(nil).String(), Sum(nil).String() + "0", "sha256:" + string(bytes.Repeat([]byte{'A'}, 64)), "md5:00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDigest(s)
		if err != nil {
			require.True(t, d.IsZero())
			return
		}
		require.Equal(t, s, d.String())
		var again Digest
		require.NoError(t, again.UnmarshalText([]byte(s)))
		require.Equal(t, d, again)
	})
}

// FuzzUnpack feeds the reader of objects with hostile bytes: both its forms agree, and neither decodes more than it may.
func FuzzUnpack(f *testing.F) {
	const limit = 1 << 20
	for _, content := range [][]byte{nil, []byte("a"), zstdMagic, append(bytes.Clone(zstdMagic), 1, 2, 3), make([]byte, 5000), make([]byte, 2*limit)} {
		object := pack(content)
		f.Add(object)
		f.Add(object[:len(object)/2])
		f.Add(append(bytes.Clone(object), object...))
	}
	f.Add([]byte("\x28\xb5\x2f\xfd\xa0\xff\xff\xff\xff\x03\x00\x00"))                                    // claims 4 GiB
	f.Add([]byte("\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x7f\x03\x00\x00"))                    // claims 8 EiB
	f.Add([]byte("\x28\xb5\x2f\xfd\x00\xf8\x03\x00\x00"))                                                // a window of terabytes
	f.Add(append([]byte("\x28\xb5\x2f\xfd\x00\x58"), bytes.Repeat([]byte("\x02\x00\x10\x00"), 1000)...)) // blocks of one repeated byte
	f.Fuzz(func(t *testing.T, object []byte) {
		content, err := unpack(object, limit)
		if err != nil {
			return
		}
		if looksFramed(object) {
			require.LessOrEqual(t, len(content), limit)
		}
		r, err := unpackReader(bytes.NewReader(object))
		require.NoError(t, err)
		defer r.Close()
		streamed, err := readAll(r)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, streamed))
		again, err := unpack(pack(content), limit)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, again))
	})
}
