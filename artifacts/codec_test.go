package artifacts

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// roundTrip encodes v as a field would be, decodes it and returns the copy.
func roundTrip[T any](t require.TestingT, v T) T {
	c, problems := codecOf(reflect.TypeFor[T]())
	require.NoError(t, problemsError(problems))
	name, content, err := c.encode(reflect.ValueOf(&v).Elem())
	require.NoError(t, err)
	var back T
	require.NoError(t, Decode(Entry{Codec: name, Type: c.typeName}, content, &back))
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
