package artifacts

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// Schema says which fields of a state struct are artifacts and how each is encoded. It is immutable and safe for concurrent use;
// SchemaOf makes one per type and keeps it.
type Schema struct {
	typ    reflect.Type
	fields []Field
	byName map[string]int
}

// Field is one artifact of a state: an exported field, or one promoted from an embedded struct.
//
// Its name is the tag `flow:"name"`, else the tag `param:"name"`, else the Go name. The tag `flow:"-"` leaves the field out. The tag
// param makes it a parameter, set when a run starts and read-only in steps. Names are letters, digits, "_" and "-", and begin with
// a letter or "_".
type Field struct {
	// Name is the artifact's durable name, GoName that of the field.
	Name, GoName string
	// Type is the type of the field: T, Ref[T] or File.
	Type reflect.Type
	// Param says that the field is a parameter.
	Param bool
	// Tag is the field's whole tag.
	Tag reflect.StructTag

	index []int
	kind  fieldKind
	codec *codec // of the field's type, or of T in a Ref[T]; nil for a File
}

type fieldKind uint8

const (
	plainField fieldKind = iota
	refField
	fileField
)

// Lazy says that loading a state does not load the field's content: it is a Ref or a File.
func (f Field) Lazy() bool { return f.kind != plainField }

// Value returns the field of state, a pointer to a struct of the schema's type. The value can be set.
func (f Field) Value(state any) reflect.Value {
	return reflect.ValueOf(state).Elem().FieldByIndex(f.index)
}

var schemas sync.Map // of reflect.Type to *Schema

// SchemaOf returns the schema of the struct type t. Its error joins every mistake, each naming the field and its type.
func SchemaOf(t reflect.Type) (*Schema, error) {
	if s, ok := schemas.Load(t); ok {
		return s.(*Schema), nil
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("state type %v is not a struct (declare one whose exported fields are the artifacts)", t)
	}
	b := builder{state: t, schema: &Schema{typ: t, byName: map[string]int{}}, names: map[string]string{}, goNames: map[string]string{}}
	b.add(t, nil, "")
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	s, _ := schemas.LoadOrStore(t, b.schema)
	return s.(*Schema), nil
}

// Type is the struct type.
func (s *Schema) Type() reflect.Type { return s.typ }

// Fields returns the artifacts in the order of the struct.
func (s *Schema) Fields() []Field { return append([]Field(nil), s.fields...) }

// Field returns the artifact with that name.
func (s *Schema) Field(name string) (Field, bool) {
	i, ok := s.byName[name]
	if !ok {
		return Field{}, false
	}
	return s.fields[i], true
}

// value returns the value that state points to.
func (s *Schema) value(state any) (reflect.Value, error) {
	v := reflect.ValueOf(state)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Type().Elem() != s.typ {
		return reflect.Value{}, fmt.Errorf("state is a %T, not a *%s", state, s.typ)
	}
	return v.Elem(), nil
}

// builder collects the fields and the mistakes of one state type.
type builder struct {
	state   reflect.Type
	schema  *Schema
	names   map[string]string // path of the field by artifact name
	goNames map[string]string // path of the field by Go name
	errs    []error
}

func (b *builder) fail(path string, t reflect.Type, format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf("field %s.%s (%s): %s", b.state, path, t, fmt.Sprintf(format, args...)))
}

func (b *builder) add(t reflect.Type, index []int, path string) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(slices.Clip(index), i)
		name := path + f.Name
		flowTag, hasFlow := f.Tag.Lookup("flow")
		paramTag, isParam := f.Tag.Lookup("param")
		if flowTag == "-" {
			if isParam {
				b.fail(name, f.Type, "a parameter cannot be left out (remove one of the tags flow and param)")
			}
			continue
		}
		if f.Anonymous && !hasFlow && !isParam && promoted(f.Type) {
			b.add(f.Type, at, name+".")
			continue
		}
		if f.Anonymous && f.Type.Kind() == reflect.Pointer && f.Type.Elem().Kind() == reflect.Struct {
			b.fail(name, f.Type, "a pointer cannot be embedded (embed the struct itself, or give the field a name)")
			continue
		}
		if !f.IsExported() {
			if lost(f) {
				b.fail(name, f.Type, "%s", lostText)
			} else if hasFlow || isParam {
				b.fail(name, f.Type, "an unexported field never leaves the process (export it, or remove its tag)")
			}
			continue
		}
		b.addField(f, at, name, cmp.Or(flowTag, paramTag, f.Name), isParam)
	}
}

func (b *builder) addField(f reflect.StructField, index []int, path, name string, param bool) {
	if !legalName(name) {
		b.fail(path, f.Type, "illegal artifact name %q (use letters, digits, _ and -, beginning with a letter or _, at most %d bytes)", name, maxNameBytes)
		return
	}
	if other, ok := b.names[name]; ok {
		b.fail(path, f.Type, "artifact name %q is taken by field %s (rename one of them)", name, other)
		return
	}
	if other, ok := b.goNames[f.Name]; ok {
		b.fail(path, f.Type, "Go name %s is taken by field %s (rename one of them)", f.Name, other)
		return
	}
	b.names[name], b.goNames[f.Name] = path, path
	field := Field{Name: name, GoName: f.Name, Type: f.Type, Param: param, Tag: f.Tag, index: index}
	content := f.Type
	switch {
	case f.Type == fileType:
		field.kind = fileField
	case lazyType(f.Type):
		field.kind = refField
		_, content = reflect.New(f.Type).Interface().(lazyField).types()
	}
	if param && field.Lazy() {
		b.fail(path, f.Type, "a parameter is given as text when a run starts (use a plain type)")
		return
	}
	if field.kind != fileField {
		var problems []problem
		field.codec, problems = codecOf(content)
		for _, p := range problems {
			b.fail(path+p.path, p.typ, "%s", p.text)
		}
	}
	b.schema.byName[name] = len(b.schema.fields)
	b.schema.fields = append(b.schema.fields, field)
}

// promoted says whether the fields of an embedded type are artifacts of their own, as against the embedded value as a whole.
func promoted(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !lazyType(t) && !marshalsItself(t)
}

const maxNameBytes = 100

func legalName(name string) bool {
	if name == "" || len(name) > maxNameBytes {
		return false
	}
	first := true
	return strings.IndexFunc(name, func(r rune) bool {
		begin := first
		first = false
		return !(r == '_' || unicode.IsLetter(r) || !begin && (r == '-' || unicode.IsDigit(r)))
	}) < 0
}
