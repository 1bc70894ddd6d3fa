package artifacts

import (
	"bytes"
	"encoding"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// roundTrip encodes v as a field would be, decodes it and returns the copy.
func roundTrip[T any](t require.TestingT, v T) T {
	e, content := encoded(t, v)
	var back T
	require.NoError(t, Decode(e, content, &back))
	return back
}

type row struct {
	Name  string
	Cells []cell
	By    map[string][]cell
	Next  *row
}

type cell struct {
	At time.Time
	F  float32
	B  []byte
	X  [2][]string
	P  **int
}

// Slices and structs at places that reflection cannot address: values of maps, elements of arrays, behind pointers, and nested.
func TestCodecAnyPlace(t *testing.T) {
	t.Parallel()
	n := 7
	p := &n
	c := cell{At: time.Unix(5, 6).UTC(), F: float32(math.Inf(-1)), B: []byte{1}, X: [2][]string{{"a"}, nil}, P: &p}
	r := row{Name: "r", Cells: []cell{c, c}, By: map[string][]cell{"x": {c}, "nil": nil, "empty": {}}}
	r.Next = &row{Name: "next", Cells: make([]cell, 3000)}

	require.Equal(t, r, roundTrip(t, r))
	require.Equal(t, map[string][]row{"a": {r, r}, "b": {}}, roundTrip(t, map[string][]row{"a": {r, r}, "b": {}}))
	require.Equal(t, map[[2]int]row{{1, 2}: r}, roundTrip(t, map[[2]int]row{{1, 2}: r}))
	require.Equal(t, [2]map[string][2][]row{{"a": {{r}, nil}}}, roundTrip(t, [2]map[string][2][]row{{"a": {{r}, nil}}}))
	require.Equal(t, map[string]map[string][]string{"a": {"b": {"c", "d"}}}, roundTrip(t, map[string]map[string][]string{"a": {"b": {"c", "d"}}}))
	require.Equal(t, map[string]*[]*row{"a": {&r, nil}}, roundTrip(t, map[string]*[]*row{"a": {&r, nil}}))
	require.Equal(t, [][][]float64{{{1}, nil, {}}, nil}, roundTrip(t, [][][]float64{{{1}, nil, {}}, nil}))
	require.Equal(t, map[string][3]byte{"a": {1, 2, 3}}, roundTrip(t, map[string][3]byte{"a": {1, 2, 3}}))
	require.Equal(t, map[[3]byte]int{{1, 2, 3}: 1}, roundTrip(t, map[[3]byte]int{{1, 2, 3}: 1}))
}

// Any value comes back as it was, from bytes that are the same each time it is encoded, its copy too.
func TestCodecRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := richValue().Draw(t, "value")
		e, content := encoded(t, v)
		back := roundTrip(t, v)
		require.True(t, same(reflect.ValueOf(v), reflect.ValueOf(back)), "%+v\n%+v", v, back)
		for range 3 { // maps are walked in another order each time
			_, again := encoded(t, v)
			require.Equal(t, content, again)
		}
		_, again := encoded(t, back)
		require.Equal(t, content, again)

		var generic any
		require.NoError(t, Decode(e, content, &generic))
		require.Equal(t, v.Text, fmt.Sprintf("%s", generic.(map[string]any)["Text"])) // text or, if it is not UTF-8, bytes
	})
}

// The encoder's output is well formed, and canonical by another implementation's measure: decoded without a type and encoded in core
// deterministic form it is the same bytes.
func TestCodecIsCoreDeterministic(t *testing.T) {
	t.Parallel()
	canonical, err := cbor.CoreDetEncOptions().EncMode()
	require.NoError(t, err)
	strict, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode()
	require.NoError(t, err)
	// shared has what both sides write alike: no time (another tag form) and no key that a map[any]any cannot have.
	type shared struct {
		B      bool
		I      int64
		U      uint64
		F      float64
		S      float32
		Text   string
		Bytes  []byte
		List   []*shared
		ByText map[string]shared
		ByInt  map[int64]*float64
		ByRaw  map[uint64][3]int16
	}
	rapid.Check(t, func(t *rapid.T) {
		var all rich
		draw(t, reflect.ValueOf(&all).Elem(), 3)
		_, content := encoded(t, all)
		require.NoError(t, strict.Wellformed(content))

		var v shared
		draw(t, reflect.ValueOf(&v).Elem(), 3)
		_, content = encoded(t, v)
		var raw any
		require.NoError(t, strict.Unmarshal(content, &raw))
		again, err := canonical.Marshal(raw)
		require.NoError(t, err)
		require.Equal(t, again, content)
	})
}

// Numbers have the encodings of appendix A of RFC 8949.
func TestCodecVectors(t *testing.T) {
	t.Parallel()
	bytesOf := func(v any) []byte {
		c, problems := codecOf(reflect.TypeOf(v))
		require.NoError(t, problemsError(problems))
		var e encoder
		require.NoError(t, c.plan.encode(&e, reflect.ValueOf(v)))
		return e.b
	}
	for _, c := range []struct {
		value any
		want  string
	}{
		{0, "\x00"},
		{23, "\x17"},
		{24, "\x18\x18"},
		{1000, "\x19\x03\xe8"},
		{1000000, "\x1a\x00\x0f\x42\x40"},
		{uint64(math.MaxUint64), "\x1b\xff\xff\xff\xff\xff\xff\xff\xff"},
		{-1, "\x20"},
		{int64(math.MinInt64), "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff"},
		{0.0, "\xf9\x00\x00"},
		{math.Copysign(0, -1), "\xf9\x80\x00"},
		{1.1, "\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a"},
		{65504.0, "\xf9\x7b\xff"},
		{100000.0, "\xfa\x47\xc3\x50\x00"},
		{5.960464477539063e-8, "\xf9\x00\x01"},
		{0.00006103515625, "\xf9\x04\x00"},
		{math.Inf(-1), "\xf9\xfc\x00"},
		{math.Float64frombits(0xfff8000000000123), "\xf9\x7e\x00"},
		{false, "\xf4"},
		{(*int)(nil), "\xf6"},
		{[4]byte{1, 2, 3, 4}, "\x44\x01\x02\x03\x04"},
		{"ü", "\x62\xc3\xbc"},
		{"\xff", "\x41\xff"},
		{[]string{}, "\x80"},
		{map[string]string{"a": "A", "b": "B"}, "\xa2\x61\x61\x61\x41\x61\x62\x61\x42"},
		{map[int]bool{100: true, -1: true, 10: false}, "\xa3\x0a\xf4\x18\x64\xf5\x20\xf5"},
		{map[string]int{"aa": 2, "b": 1, "": 0}, "\xa3\x60\x00\x61\x62\x01\x62\x61\x61\x02"},
		{time.Date(2013, 3, 21, 20, 4, 0, 0, time.UTC), "\xc0\x742013-03-21T20:04:00Z"},
	} {
		require.Equal(t, []byte(c.want), bytesOf(c.value), "%T %v", c.value, c.value)
	}
}

func TestMapsEncodeInOneOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.String(), 0, 40, rapid.ID).Draw(t, "keys")
		order := rapid.Permutation(keys).Draw(t, "order")
		first, second := map[string]int{}, make(map[string]int, 100)
		for _, k := range keys {
			first[k] = len(k)
		}
		for _, k := range order {
			second[k+"x"] = 0
			second[k] = len(k)
			delete(second, k+"x")
		}
		for _, k := range keys { // a deleted key may have been one of them
			second[k] = len(k)
		}
		e, content := encoded(t, first)
		other, again := encoded(t, second)
		require.Equal(t, content, again)
		require.Equal(t, e, other)
	})
}

// Two values that differ in anything a step can see have different bytes.
func TestDifferentValuesDiffer(t *testing.T) {
	t.Parallel()
	n := 0
	p := &n
	var none *int
	digests := map[Digest]any{}
	for _, v := range []any{
		[]int(nil), []int{}, []int{0}, map[string]int(nil), map[string]int{}, "", "\x00", []string(nil), []string{}, []byte(nil), []byte{},
		&p, &none, (**int)(nil), 0.0, math.Copysign(0, -1), []float64{0}, []float64{math.Copysign(0, -1)}, math.NaN(), math.Inf(1),
		time.Unix(0, 0).UTC(), time.Unix(0, 0).In(time.FixedZone("", 60)), time.Unix(0, 0).In(time.FixedZone("", 61)), time.Unix(0, 1).UTC(),
	} {
		c, problems := codecOf(reflect.TypeOf(v))
		require.NoError(t, problemsError(problems))
		name, content, err := c.encode(reflect.ValueOf(v))
		require.NoError(t, err)
		d := Sum(append([]byte(c.typeName+" "+name+" "), content...))
		require.NotContains(t, digests, d, "%T %v", v, v)
		digests[d] = v
	}
}

// A raw slice keeps every bit of its elements, and its own memory is not shared.
func TestRawSlices(t *testing.T) {
	t.Parallel()
	quiet, odd := math.NaN(), math.Float64frombits(0x7ff0000000000001)
	back := roundTrip(t, []float64{quiet, odd, math.Copysign(0, -1)})
	require.Equal(t, math.Float64bits(odd), math.Float64bits(back[1]))
	require.True(t, math.Signbit(back[2]))

	e, content := encoded(t, []int32{-2, 1})
	require.Equal(t, "int32s", e.Codec)
	require.Equal(t, []byte{0xfe, 0xff, 0xff, 0xff, 1, 0, 0, 0}, content)
	var into []int32
	require.NoError(t, Decode(e, content, &into))
	into[0] = 9
	require.Equal(t, byte(0xfe), content[0])

	require.ErrorContains(t, Decode(Entry{Codec: "int32s"}, []byte{1, 2, 3}, &into), "whole number of elements")
	require.Equal(t, []int32{9, 1}, into, "a failed Decode leaves the target alone")

	e, _ = encoded(t, []int{1})
	require.Equal(t, "int64s", e.Codec)
	e, _ = encoded(t, []level{1})
	require.Equal(t, bytesCodec, e.Codec)
	e, _ = encoded(t, []bool{true})
	require.Equal(t, cborCodec, e.Codec)
}

// A field's type may change in ways that lose nothing; every other change is an error that says what was stored.
func TestDecodeIntoAnotherType(t *testing.T) {
	t.Parallel()
	type before struct {
		Kept, Number int
		Gone         struct {
			List  []map[string]*float64
			Time  time.Time
			Bytes []byte
			None  *int
		}
	}
	type after struct {
		New    []string
		Number float64
		Kept   int64
	}
	old := before{Kept: 1, Number: 3}
	old.Gone.List, old.Gone.Bytes = []map[string]*float64{nil, {"a": nil, "b": new(float64)}}, []byte("x")
	e, content := encoded(t, old)
	into := after{New: []string{"stays out"}}
	require.NoError(t, Decode(e, content, &into))
	require.Equal(t, after{Kept: 1, Number: 3}, into)

	for _, c := range []struct {
		from any
		into any
		want string
	}{
		{300, new(uint8), "integer 300 does not fit a uint8"},
		{-1, new(uint), "found a negative integer, which cannot fill a uint"},
		{1e300, new(float32), "does not fit a float32 exactly"},
		{complex(1e300, 0), new(complex64), "does not fit a complex64 exactly"},
		{[2]int{1, 2}, new([3]int), "found an array of 2, which cannot fill a [3]int"},
		{[2]byte{1, 2}, new([3]byte), "found 2 bytes"},
		{1 << 60, new(float64), "does not fit a float64 exactly"},
		{"x", new(int), `stored as string with codec "string", which cannot fill a int`},
		{[]int64{1}, new([]int32), `stored as []int64 with codec "int64s", which cannot fill a []int32`},
		{map[string]int{"a": 1}, new([]string), "stored as map[string]int: found a map, which cannot fill a []string"},
		{map[string][]string{"a": {"x"}}, new(map[string][]int8), `at [a][0]: found text, which cannot fill a int8`},
	} {
		typ := reflect.TypeOf(c.from)
		codec, problems := codecOf(typ)
		require.NoError(t, problemsError(problems))
		name, content, err := codec.encode(reflect.ValueOf(c.from))
		require.NoError(t, err)
		require.ErrorContains(t, Decode(Entry{Codec: name, Type: typ.String()}, content, c.into), c.want)
	}
	for content, want := range map[string]string{
		"\xa2\x63New\x80\x63New\x80":                       `found the field "New" twice or out of order`,
		"\xa1\x64Gone\x82\x01":                             "content ends too early",
		"\xa1\x64Gone\xbb\xff\xff\xff\xff\xff\xff\xff\xff": "content ends too early",
		"\xa1\x64Gone\x9f\xff":                             "indefinite length",
		"\xa0\x00":                                         "1 bytes follow the value",
	} {
		require.ErrorContains(t, Decode(Entry{Codec: cborCodec}, []byte(content), &into), want)
	}
	require.ErrorContains(t, Decode(Entry{Codec: "acme/v9", Type: "acme.T"}, nil, new(int)), `codec "acme/v9", which this program does not know`)
	require.ErrorContains(t, Decode(Entry{}, nil, nil), "pass a pointer")
	require.ErrorContains(t, Decode(Entry{}, nil, 5), "pass a pointer")
}

func TestDecodeWithoutType(t *testing.T) {
	t.Parallel()
	at := time.Date(12345, 1, 2, 3, 4, 5, 6, time.UTC)
	e, content := encoded(t, map[string]struct {
		U uint64
		I *int
		T time.Time
		B []byte
		M map[[2]int]float32
	}{"a": {U: math.MaxUint64, T: at, B: []byte{1}, M: map[[2]int]float32{{1, 2}: 0.5}}})
	var v any
	require.NoError(t, Decode(e, content, &v))
	require.Equal(t, map[string]any{"a": map[string]any{
		"U": uint64(math.MaxUint64), "I": nil, "T": at, "B": []byte{1}, "M": map[string]any{"[1 2]": 0.5},
	}}, v)

	e, content = encoded(t, []float32{1, 2})
	require.NoError(t, Decode(e, content, &v))
	require.Equal(t, []float32{1, 2}, v)
	e, content = encoded(t, "text")
	require.NoError(t, Decode(e, content, &v))
	require.Equal(t, "text", v)
}

func TestEncodeErrors(t *testing.T) {
	t.Parallel()
	type node struct{ Next *node }
	cyclic := &node{}
	cyclic.Next = cyclic
	encode := func(v any) error {
		c, problems := codecOf(reflect.TypeOf(v))
		require.NoError(t, problemsError(problems))
		_, _, err := c.encode(reflect.ValueOf(v))
		return err
	}
	require.ErrorContains(t, encode(cyclic), "is it cyclic?")
	require.ErrorContains(t, encode(map[float64]int{math.NaN(): 1, math.Copysign(math.NaN(), -1): 2}), "two keys")
	require.ErrorContains(t, encode(map[string]panicky{"a": {}}), "panic while encoding: boom (at github.com/stepwell-flows/stepwell/artifacts.panicky.MarshalBinary)")
	require.ErrorContains(t, Decode(Entry{Codec: binaryCodec}, nil, new(panicky)), "panic while decoding: bang")
	many := make([]string, 100)
	for i := range many {
		many[i] = string(make([]byte, 1<<20))
	}
	require.ErrorIs(t, encode(many), ErrTooLarge)
}

type panicky struct{}

func (panicky) MarshalBinary() ([]byte, error) { panic("boom") }
func (*panicky) UnmarshalBinary([]byte) error  { panic("bang") }

var _ encoding.BinaryUnmarshaler = (*panicky)(nil)

// keeper keeps the bytes that it is given, and changes them.
type keeper struct{ b []byte }

func (k keeper) MarshalBinary() ([]byte, error) { return k.b, nil }

func (k *keeper) UnmarshalBinary(b []byte) error {
	k.b = b
	for i := range b {
		b[i] ^= 0xff
	}
	return nil
}

type shape interface{ Area() float64 }

type square struct{ side byte }

func (s square) Area() float64 { return float64(s.side) * float64(s.side) }

// Code of an author may keep and change the bytes it is given: they are not those of the store's cache.
func TestAuthorsCodecs(t *testing.T) {
	t.Parallel()
	require.NoError(t, RegisterCodec("test.shape/v1", func(s shape) ([]byte, error) {
		return []byte{s.(square).side}, nil
	}, func(b []byte) (shape, error) {
		side := b[0]
		b[0] = 0
		return square{side}, nil
	}))
	require.Equal(t, shape(square{3}), roundTrip[shape](t, square{3}))
	require.Nil(t, roundTrip[shape](t, nil))
	shapes := map[string][]shape{"a": {square{1}, nil}}
	require.Equal(t, shapes, roundTrip(t, shapes))

	e, content := encoded[shape](t, square{3})
	require.Equal(t, "test.shape/v1", e.Codec)
	before := bytes.Clone(content)
	for range 2 {
		var s shape
		require.NoError(t, Decode(e, content, &s))
		require.Equal(t, before, content)
	}
	e, content = encoded(t, keeper{[]byte("abc")})
	require.Equal(t, binaryCodec, e.Codec)
	before = bytes.Clone(content)
	var k keeper
	require.NoError(t, Decode(e, content, &k))
	require.Equal(t, before, content)

	e, _ = encoded(t, *big.NewInt(5))
	require.Equal(t, textCodec, e.Codec)

	id := func(s string) ([]byte, error) { return []byte(s), nil }
	from := func(b []byte) (string, error) { return string(b), nil }
	for _, name := range []string{"", "plain", "a b/c", "ä.b", string(bytes.Repeat([]byte("a."), 60))} {
		require.ErrorContains(t, RegisterCodec(name, id, from), "illegal name")
	}
	require.ErrorContains(t, RegisterCodec("test.shape/v1", id, from), "the name is taken by artifacts.shape")
	require.ErrorContains(t, RegisterCodec[shape]("test.shape/v2", func(shape) ([]byte, error) { return nil, nil },
		func([]byte) (shape, error) { return nil, nil }), `has the codec "test.shape/v1" already`)
	require.ErrorContains(t, RegisterCodec("test.nothing/v1", nil, from), "both functions")
	require.ErrorContains(t, RegisterCodec("test.time/v1", func(time.Time) ([]byte, error) { return nil, nil },
		func([]byte) (time.Time, error) { return time.Time{}, nil }), "its own encoding")
	require.ErrorContains(t, RegisterCodec("test.ref/v1", func(Ref[int]) ([]byte, error) { return nil, nil },
		func([]byte) (Ref[int], error) { return Ref[int]{}, nil }), "its own encoding")
}

// A time keeps its offset, whatever the zone of the machine that reads it.
func TestTimes(t *testing.T) {
	t.Parallel()
	local := time.Date(2026, 7, 1, 12, 0, 0, 0, time.Local)
	require.NotSame(t, time.Local, roundTrip(t, local).Location())
	for _, v := range []time.Time{
		{}, local, time.Unix(0, 0).UTC(), time.Date(-5, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 1, 1, 0, 0, 0, 999999999, time.FixedZone("x", -3*3600-30*60)), time.Date(1890, 1, 1, 0, 0, 0, 0, time.FixedZone("LMT", -17762)),
		time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("far", 30*3600)),
	} {
		require.True(t, same(reflect.ValueOf(v), reflect.ValueOf(roundTrip(t, v))), v)
		require.True(t, slices.Equal([]time.Time{v.UTC()}, []time.Time{roundTrip(t, v).UTC()}), v)
	}
}
