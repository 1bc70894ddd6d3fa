package artifacts

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// problem is why a type, at a path below the field, cannot be encoded.
type problem struct {
	path string
	typ  reflect.Type
	text string
}

// codec encodes and decodes the values of one type.
type codec struct {
	typ      reflect.Type
	typeName string
}

var timeType = reflect.TypeFor[time.Time]()

func marshalsItself(reflect.Type) bool { return false }

func codecOf(t reflect.Type) (*codec, []problem) {
	switch t.Kind() {
	case reflect.Func, reflect.Chan, reflect.UnsafePointer, reflect.Uintptr, reflect.Interface:
		return nil, []problem{{"", t, "cannot be stored"}}
	}
	return &codec{t, t.String()}, nil
}

var encMode, decMode = func() (cbor.EncMode, cbor.DecMode) {
	o := cbor.CoreDetEncOptions()
	o.Time = cbor.TimeRFC3339Nano
	o.TimeTag = cbor.EncTagRequired
	e, err := o.EncMode()
	d, err2 := cbor.DecOptions{MaxArrayElements: 1 << 27, MaxMapPairs: 1 << 27, MaxNestedLevels: 1000}.DecMode()
	if err := errors.Join(err, err2); err != nil {
		panic(err)
	}
	return e, d
}()

func (c *codec) encode(v reflect.Value) (name string, content []byte, err error) {
	content, err = encMode.Marshal(v.Interface())
	return "cbor", content, err
}

func (c *codec) decodeEntry(e Entry, content []byte, v reflect.Value) error {
	if e.Codec != "cbor" {
		return fmt.Errorf("unknown codec %q", e.Codec)
	}
	return decMode.Unmarshal(content, v.Addr().Interface())
}

// Decode decodes the content of an artifact into the value that into points to.
func Decode(e Entry, content []byte, into any) error {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("decode into a %T (want a pointer)", into)
	}
	return (&codec{}).decodeEntry(e, content, v.Elem())
}

// Preview describes the content of an artifact in one line for people, without its Go type, in at most max bytes.
func Preview(e Entry, content []byte, max int) string {
	s, err := cbor.Diagnose(content)
	if err != nil {
		s = fmt.Sprintf("%d bytes", e.Size)
	}
	return s[:min(max, len(s))]
}

// RegisterCodec makes values of type T storable under a durable codec name.
func RegisterCodec[T any](name string, encode func(T) ([]byte, error), decode func([]byte) (T, error)) error {
	return nil
}
