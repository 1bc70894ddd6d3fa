package artifacts

import (
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"strings"
	"sync"
)

// Durable names of the built-in codecs. Those of numeric slices are in raw.go.
const (
	cborCodec   = "cbor"   // any Go value, see encoder
	stringCodec = "string" // the bytes of a string
	bytesCodec  = "bytes"  // a []byte as it is
	binaryCodec = "binary" // what MarshalBinary returned
	textCodec   = "text"   // what MarshalText returned
)

// codec encodes and decodes the values of one type. It is immutable.
type codec struct {
	typ      reflect.Type
	typeName string
	plan     *plan
	raw      *raw // nil if the type has no raw form
}

var codecs sync.Map // of reflect.Type to *codec

// codecOf returns the codec of t, or why values of t cannot be stored.
func codecOf(t reflect.Type) (*codec, []problem) {
	if c, ok := codecs.Load(t); ok {
		return c.(*codec), nil
	}
	k := compiler{plans: map[reflect.Type]*plan{}}
	p := k.compile(t, "")
	if len(k.problems) > 0 {
		return nil, k.problems
	}
	c := &codec{typ: t, typeName: t.String(), plan: p}
	if p.how == plainType {
		c.raw = rawOf(t)
	}
	codecs.Store(t, c)
	return c, nil
}

// encode returns the content of v and the name of its encoding. The content may be v's own memory: it is valid until v changes.
func (c *codec) encode(v reflect.Value) (name string, content []byte, err error) {
	defer recovered("encoding", &err)
	if isNil(v) {
		return cborCodec, []byte{cborNull}, nil
	}
	switch {
	case c.raw != nil:
		return c.raw.name, c.raw.view(v), nil
	case c.plan.how == binaryType:
		content, err = marshalBinary(v)
		return binaryCodec, content, err
	case c.plan.how == textType:
		content, err = marshalText(v)
		return textCodec, content, err
	case c.plan.how == registeredType:
		content, err = c.plan.own.encode(v)
		return c.plan.own.name, content, err
	}
	e := encoder{b: make([]byte, 0, 64)}
	err = c.plan.encode(&e, v)
	return cborCodec, e.b, err
}

// decodeEntry decodes the content of an artifact into v, which can be set.
func (c *codec) decodeEntry(e Entry, content []byte, v reflect.Value) (err error) {
	defer recovered("decoding", &err)
	switch {
	case e.Codec == cborCodec:
		d := newDecoder(content)
		if err := c.plan.decode(d, v); err != nil {
			return fmt.Errorf("stored as %s: %w (give the field its old type, or another name)", e.Type, err)
		}
		return d.end()
	case c.raw != nil && e.Codec == c.raw.name:
		return c.raw.decode(content, v)
	case c.plan.how == binaryType && e.Codec == binaryCodec:
		return unmarshalBinary(content, v)
	case c.plan.how == textType && e.Codec == textCodec:
		return unmarshalText(content, v)
	case c.plan.how == registeredType && e.Codec == c.plan.own.name:
		return c.plan.own.decode(content, v)
	case known(e.Codec):
		return fmt.Errorf("stored as %s with codec %q, which cannot fill a %s (give the field its old type, or another name)", e.Type, e.Codec, c.typeName)
	}
	return fmt.Errorf("stored as %s with codec %q, which this program does not know (register it with artifacts.RegisterCodec)", e.Type, e.Codec)
}

func known(name string) bool {
	switch name {
	case cborCodec, stringCodec, bytesCodec, binaryCodec, textCodec, fileCodec:
		return true
	}
	_, ok := rawNames[name]
	return ok || registeredName(name)
}

// Decode decodes the content of an artifact into the value that into points to, which is set only if all went well. The content
// stays as it is and can be used again.
//
// Into a *any it decodes without the Go type, for reading a run back: maps become map[string]any, other values what they look like.
func Decode(e Entry, content []byte, into any) error {
	to := reflect.ValueOf(into)
	if to.Kind() != reflect.Pointer || to.IsNil() {
		return fmt.Errorf("decode into a %T (pass a pointer)", into)
	}
	if generic, ok := into.(*any); ok {
		v, err := decodeAny(e, content)
		if err == nil {
			*generic = v
		}
		return err
	}
	c, problems := codecOf(to.Type().Elem())
	if err := problemsError(problems); err != nil {
		return err
	}
	v := reflect.New(c.typ).Elem()
	if err := c.decodeEntry(e, content, v); err != nil {
		return err
	}
	to.Elem().Set(v)
	return nil
}

// problem is why a type, at a path below the one asked for, cannot be stored.
type problem struct {
	path string
	typ  reflect.Type
	text string
}

func problemsError(problems []problem) error {
	var errs []error
	for _, p := range problems {
		at := ""
		if p.path != "" {
			at = " at " + p.path
		}
		errs = append(errs, fmt.Errorf("type %s%s: %s", p.typ, at, p.text))
	}
	return errors.Join(errs...)
}

// recovered turns a panic, which can only come from an author's marshaler, into an error.
func recovered(doing string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic while %s: %v (at %s)", doing, p, panicSite(debug.Stack()))
	}
}

// panicSite is the function that panicked: the first of the stack below the runtime's.
func panicSite(stack []byte) string {
	_, below, _ := strings.Cut(string(stack), "\npanic(")
	for line := range strings.SplitSeq(below, "\n") {
		if name, _, ok := strings.Cut(line, "("); ok && !strings.HasPrefix(line, "\t") && !strings.HasPrefix(line, "runtime.") && strings.Contains(name, ".") {
			return line[:strings.LastIndex(line, "(")]
		}
	}
	return "an unknown place"
}

func isNil(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return v.IsNil()
	}
	return false
}
