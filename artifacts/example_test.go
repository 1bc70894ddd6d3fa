package artifacts_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"

	"github.com/stepwell-flows/stepwell/artifacts"
)

type trainState struct {
	Alpha  float64 `param:"alpha"`
	Scores map[string]float64
	Table  artifacts.Ref[[]string] `flow:"table"`
	Model  artifacts.File
}

// A state goes to the store after a step and comes back before the next one.
func ExampleSchema_Save() {
	ctx := context.Background()
	store, err := artifacts.Open(ctx, "mem:", artifacts.Options{})
	if err != nil {
		panic(err)
	}
	schema, err := artifacts.SchemaOf(reflect.TypeFor[trainState]())
	if err != nil {
		panic(err)
	}

	before := &trainState{Alpha: 0.5}
	params, _ := schema.Snapshot(before)
	before.Scores = map[string]float64{"auc": 0.81} // what the step does
	entries, changed, err := schema.Save(ctx, store, before, nil, params, "run/fit")
	fmt.Println(changed, err)

	var after trainState
	fmt.Println(schema.Load(ctx, store, entries, &after), after.Scores["auc"])

	after.Alpha = 0.9
	_, _, err = schema.Save(ctx, store, &after, entries, params, "run/next")
	fmt.Println(err)
	// Output:
	// [alpha Scores] <nil>
	// <nil> 0.81
	// parameter "alpha" (field Alpha) was changed by the step (parameters are read-only: set another field)
}

func ExampleSchemaOf() {
	schema, _ := artifacts.SchemaOf(reflect.TypeFor[trainState]())
	for _, f := range schema.Fields() {
		fmt.Println(f.Name, f.Type, f.Param, f.Lazy())
	}
	type mistaken struct {
		Notify chan int
		When   func()
	}
	_, err := artifacts.SchemaOf(reflect.TypeFor[mistaken]())
	fmt.Println(err)
	// Output:
	// alpha float64 true false
	// Scores map[string]float64 false false
	// table artifacts.Ref[[]string] false true
	// Model artifacts.File false true
	// field artifacts_test.mistaken.Notify (chan int): a chan means nothing outside this process (leave the field out with `flow:"-"`, or unexport it)
	// field artifacts_test.mistaken.When (func()): a func means nothing outside this process (leave the field out with `flow:"-"`, or unexport it)
}

func ExampleOpen() {
	ctx := context.Background()
	folder, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(folder)
	store, err := artifacts.Open(ctx, folder, artifacts.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println("usable:", store.Check(ctx) == nil)

	digest, _ := store.PutBlob(ctx, []byte("hello"))
	content, _ := store.GetBlob(ctx, digest)
	fmt.Println(digest, string(content))

	_, err = store.GetBlob(ctx, artifacts.Sum([]byte("something else")))
	fmt.Println(errors.Is(err, artifacts.ErrNotFound))
	// Output:
	// usable: true
	// sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 hello
	// true
}

// A step sets a Ref, and a later one that needs the content loads it.
func ExampleRef() {
	ctx := context.Background()
	var s trainState
	_, err := s.Table.Load(ctx)
	fmt.Println(err)

	s.Table.Set([]string{"a", "b"})
	table, _ := s.Table.Load(ctx)
	fmt.Println(table)
	// Output:
	// load ref of []string: empty (no step has set it)
	// [a b]
}

// A step writes a file and gives it to the state; a later one reads it, on whichever machine it runs.
func ExampleFile() {
	ctx := context.Background()
	folder, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "model.bin")
	_ = os.WriteFile(path, []byte("weights"), 0o600)

	var s trainState
	s.Model.SetPath(path)
	fmt.Println(s.Model.Name(), s.Model.Size())

	r, err := s.Model.Open(ctx)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	content, _ := io.ReadAll(r)
	fmt.Println(string(content))
	// Output:
	// model.bin 7
	// weights
}

type shape interface{ Area() float64 }

type square struct{ Side float64 }

func (s square) Area() float64 { return s.Side * s.Side }

// An interface does not say what to decode, so it needs a codec.
func ExampleRegisterCodec() {
	err := artifacts.RegisterCodec("example.shape/v1",
		func(s shape) ([]byte, error) { return fmt.Appendf(nil, "square %g", s.(square).Side), nil },
		func(b []byte) (shape, error) {
			var s square
			_, err := fmt.Sscanf(string(b), "square %g", &s.Side)
			return s, err
		})
	fmt.Println(err)
	type state struct{ Shapes map[string]shape } // could not be stored otherwise
	_, err = artifacts.SchemaOf(reflect.TypeFor[state]())
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
}

func ExamplePreview() {
	content := []byte("line one\nline two\nline three")
	e := artifacts.Entry{Codec: "string", Type: "string", Size: int64(len(content))}
	fmt.Println(artifacts.Preview(e, content, 20))
	// Output:
	// "line one\nline …"
}
