package artifacts

import (
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

type (
	secret  struct{ hidden int }
	stamped struct {
		time.Time
		Note string
	}
	withRef struct {
		Ref[int]
		More int
	}
	// Common is embedded.
	Common struct {
		Seed int `param:"seed"`
	}
	selfMade struct{ Level int }
	keyed    struct{ At *int }
	wired    struct {
		Done chan int
		Call func()
	}
)

func (selfMade) MarshalBinary() ([]byte, error) { return nil, nil }
func (*selfMade) UnmarshalBinary([]byte) error  { return nil }

// Every mistake is reported at once, and names the field, its type and the fix.
func TestSchemaOfReportsEveryMistake(t *testing.T) {
	t.Parallel()
	type broken struct {
		Common
		*secret
		selfMade
		Fn       func()
		Fn2      func()
		Ch       map[string][]chan int
		Any      any
		Err      error
		Ptr      unsafe.Pointer
		Addr     uintptr
		Twice    int `flow:"seed"`
		Bad      int `flow:"a b"`
		BadParam int `param:"1st"`
		Left     int `flow:"-" param:"left"`
		Nested   struct{ Model Ref[int] }
		File     *File
		Param    Ref[int] `param:"model"`
		InRef    Ref[func()]
		RefRef   Ref[Ref[int]]
		Secret   secret
		Stamped  stamped
		Keys     map[*int]int
		Keyed    map[keyed]int
		Wired    []wired
		hidden   int `flow:"hidden"`
	}
	_, err := SchemaOf(reflect.TypeFor[broken]())
	require.Error(t, err)
	for _, want := range []string{
		"field artifacts.broken.secret (*artifacts.secret): a pointer cannot be embedded (embed the struct itself",
		"field artifacts.broken.selfMade (artifacts.selfMade): an embedded type that is unexported would be left out",
		"field artifacts.broken.Fn (func()): a func means nothing outside this process (leave the field out with `flow:\"-\"`",
		"field artifacts.broken.Fn2 (func()): a func means",
		"field artifacts.broken.Ch[][] (chan int): a chan means",
		"field artifacts.broken.Any (interface {}): an interface does not say what to decode (use a concrete type, or register one with artifacts.RegisterCodec)",
		"field artifacts.broken.Err (error): an interface does not say",
		"field artifacts.broken.Ptr (unsafe.Pointer): a unsafe.Pointer means",
		"field artifacts.broken.Addr (uintptr): a uintptr means",
		`field artifacts.broken.Twice (int): artifact name "seed" is taken by field Common.Seed (rename one of them)`,
		`field artifacts.broken.Bad (int): illegal artifact name "a b" (use letters, digits, _ and -`,
		`field artifacts.broken.BadParam (int): illegal artifact name "1st"`,
		"field artifacts.broken.Left (int): a parameter cannot be left out (remove one of the tags flow and param)",
		"field artifacts.broken.Nested.Model (artifacts.Ref[int]): a Ref or File cannot be inside another value (make it a field of the state)",
		"field artifacts.broken.File (artifacts.File): a Ref or File cannot be inside another value",
		"field artifacts.broken.Param (artifacts.Ref[int]): a parameter is given as text when a run starts (use a plain type)",
		"field artifacts.broken.InRef (func()): a func means",
		"field artifacts.broken.RefRef (artifacts.Ref[int]): a Ref or File cannot be inside another value",
		"field artifacts.broken.Secret (artifacts.secret): a struct with only unexported fields would be stored empty (give it MarshalBinary",
		"field artifacts.broken.Stamped (artifacts.stamped): the encoding of the embedded time.Time would be that of the whole struct",
		"field artifacts.broken.Keys[key] (*int): a pointer or interface is not a key",
		"field artifacts.broken.Keyed[key] (artifacts.keyed): a pointer or interface is not a key",
		"field artifacts.broken.Wired[].Done (chan int)",
		"field artifacts.broken.Wired[].Call (func())",
		"field artifacts.broken.hidden (int): an unexported field never leaves the process (export it, or remove its tag)",
	} {
		require.ErrorContains(t, err, want)
	}
	_, again := SchemaOf(reflect.TypeFor[broken]())
	require.EqualError(t, again, err.Error(), "in the order of the fields")

	var unused broken
	_, _ = unused.hidden, secret{}.hidden
}

func TestSchemaOfOtherMistakes(t *testing.T) {
	t.Parallel()
	type sameGoName struct {
		Common
		Seed int `flow:"other"`
	}
	type nestedNames struct {
		V struct {
			A int `flow:"x"`
			B int `flow:"x"`
			C int `flow:"x y"`
		}
	}
	type base struct{ *secret }
	for _, c := range []struct {
		typ  reflect.Type
		want string
	}{
		{nil, "state type <nil> is not a struct"},
		{reflect.TypeFor[int](), "state type int is not a struct (declare one whose exported fields are the artifacts)"},
		{reflect.TypeFor[*Common](), "state type *artifacts.Common is not a struct"},
		{reflect.TypeFor[sameGoName](), "field artifacts.sameGoName.Seed (int): Go name Seed is taken by field Common.Seed (rename one of them)"},
		{reflect.TypeFor[nestedNames](), `fields A and B have the same name "x" (rename one)`},
		{reflect.TypeFor[nestedNames](), `illegal name "x y"`},
		{reflect.TypeFor[struct{ V base }](), "an embedded type that is unexported would be left out"},
		{reflect.TypeFor[struct{ V withRef }](), "field struct { V artifacts.withRef }.V.Ref (artifacts.Ref[int]): a Ref or File cannot be inside another value"},
	} {
		_, err := SchemaOf(c.typ)
		require.ErrorContains(t, err, c.want)
	}
	_, err := SchemaOf(reflect.TypeFor[nestedNames]())
	require.ErrorContains(t, err, "nestedNames.V")
}

func TestSchemaOf(t *testing.T) {
	t.Parallel()
	type lower struct{ FromLower string }
	type state struct {
		Common
		lower
		Named   int `flow:"named"`
		Alpha   int `param:"alpha"`
		Both    int `param:"text" flow:"both"`
		When    time.Time
		Model   Ref[[]float64]
		Data    File
		Out     func() `flow:"-"`
		private func()
		File
	}
	s, err := SchemaOf(reflect.TypeFor[state]())
	require.NoError(t, err)
	type field struct {
		name, goName string
		param, lazy  bool
	}
	var got []field
	for _, f := range s.Fields() {
		got = append(got, field{f.Name, f.GoName, f.Param, f.Lazy()})
	}
	require.Equal(t, []field{
		{"seed", "Seed", true, false}, {"FromLower", "FromLower", false, false}, {"named", "Named", false, false}, {"alpha", "Alpha", true, false},
		{"both", "Both", true, false}, {"When", "When", false, false}, {"Model", "Model", false, true}, {"Data", "Data", false, true}, {"File", "File", false, true},
	}, got)
	again, err := SchemaOf(reflect.TypeFor[state]())
	require.NoError(t, err)
	require.Same(t, s, again)
	require.Equal(t, reflect.TypeFor[state](), s.Type())

	f, ok := s.Field("FromLower")
	require.True(t, ok)
	v := state{private: nil}
	f.Value(&v).SetString("set")
	require.Equal(t, "set", v.FromLower)
	_, ok = s.Field("Nothing")
	require.False(t, ok)
}
