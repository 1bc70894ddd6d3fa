package artifacts

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"
)

// Plain values are written as CBOR (RFC 8949) in the core deterministic encoding: shortest heads and floats, definite lengths, map
// keys in ascending byte order, one NaN. What Go knows and CBOR does not is kept like this:
//
//   - a nil pointer, slice, map or interface is null, an empty slice or map is empty; a pointer to one of these types is an array of
//     its one element, so that a nil pointer differs from a pointer to nil;
//   - a struct is a map from its field names, a complex number an array of two floats, a [N]byte a byte string;
//   - a string that is not UTF-8 is a byte string;
//   - a time is tag 0 with nanoseconds and offset; one that RFC 3339 cannot write (a year beyond four digits, an offset with seconds)
//     is tag 1001, an extended time, with its offset in seconds under the key "offset";
//   - a type with its own encoding is a byte string.
//
// The digest of an artifact depends on every one of these rules: changing one changes what counts as equal to artifacts already stored.

// Major types and the simple values in use.
const (
	cborUint   byte = 0 << 5
	cborNegint byte = 1 << 5
	cborBytes  byte = 2 << 5
	cborText   byte = 3 << 5
	cborArray  byte = 4 << 5
	cborMap    byte = 5 << 5
	cborTag    byte = 6 << 5
	cborSimple byte = 7 << 5

	cborFalse   = cborSimple | 20
	cborTrue    = cborSimple | 21
	cborNull    = cborSimple | 22
	cborFloat16 = cborSimple | 25
	cborFloat32 = cborSimple | 26
	cborFloat64 = cborSimple | 27
)

const (
	timeTag         = 0
	extendedTimeTag = 1001
)

// maxDepth bounds how deep values nest, which is what stops a cyclic one.
const maxDepth = 1000

type encoder struct {
	b     []byte
	depth int
}

func (e *encoder) head(major byte, n uint64) {
	switch {
	case n < 24:
		e.b = append(e.b, major|byte(n))
	case n <= math.MaxUint8:
		e.b = append(e.b, major|24, byte(n))
	case n <= math.MaxUint16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, major|25), uint16(n))
	case n <= math.MaxUint32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, major|26), uint32(n))
	default:
		e.b = binary.BigEndian.AppendUint64(append(e.b, major|27), n)
	}
}

func (e *encoder) text(s string) {
	major := cborText
	if !utf8.ValidString(s) {
		major = cborBytes
	}
	e.head(major, uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) integer(n int64) {
	if n < 0 {
		e.head(cborNegint, uint64(^n))
		return
	}
	e.head(cborUint, uint64(n))
}

func (e *encoder) float(f float64) {
	if f != f {
		e.b = append(e.b, cborFloat16, 0x7e, 0)
		return
	}
	if single := float32(f); float64(single) == f {
		if half, ok := float16(single); ok {
			e.b = binary.BigEndian.AppendUint16(append(e.b, cborFloat16), half)
			return
		}
		e.b = binary.BigEndian.AppendUint32(append(e.b, cborFloat32), math.Float32bits(single))
		return
	}
	e.b = binary.BigEndian.AppendUint64(append(e.b, cborFloat64), math.Float64bits(f))
}

// float16 returns f, which is not NaN, as an IEEE 754 half if it fits without loss.
func float16(f float32) (uint16, bool) {
	bits := math.Float32bits(f)
	sign := uint16(bits>>16) & 0x8000
	exponent := int(bits>>23&0xff) - 127
	mantissa := bits & 0x7fffff
	switch {
	case bits<<1 == 0:
		return sign, true
	case exponent == 128:
		return sign | 0x7c00, true
	case exponent >= -14 && exponent <= 15 && mantissa&0x1fff == 0:
		return sign | uint16(exponent+15)<<10 | uint16(mantissa>>13), true
	case exponent >= -24 && exponent < -14:
		full, shift := mantissa|0x800000, -exponent-1
		return sign | uint16(full>>shift), full&(1<<shift-1) == 0
	}
	return 0, false
}

// enter begins a value that has others inside; each enter needs a leave.
func (e *encoder) enter() error {
	if e.depth++; e.depth > maxDepth {
		return fmt.Errorf("nested deeper than %d levels (is it cyclic? store identifiers instead of pointers)", maxDepth)
	}
	if len(e.b) > MaxFieldBytes {
		return &TooLargeError{Size: MaxFieldBytes, AtLeast: true, Limit: MaxFieldBytes}
	}
	return nil
}

func (e *encoder) leave() { e.depth-- }

func encodeBool(e *encoder, v reflect.Value) error {
	b := cborFalse
	if v.Bool() {
		b = cborTrue
	}
	e.b = append(e.b, b)
	return nil
}

func encodeInt(e *encoder, v reflect.Value) error {
	e.integer(v.Int())
	return nil
}

func encodeUint(e *encoder, v reflect.Value) error {
	e.head(cborUint, v.Uint())
	return nil
}

func encodeFloat(e *encoder, v reflect.Value) error {
	e.float(v.Float())
	return nil
}

func encodeComplex(e *encoder, v reflect.Value) error {
	c := v.Complex()
	e.head(cborArray, 2)
	e.float(real(c))
	e.float(imag(c))
	return nil
}

func encodeString(e *encoder, v reflect.Value) error {
	e.text(v.String())
	return nil
}

func encodeBytes(e *encoder, v reflect.Value) error {
	switch {
	case v.Kind() == reflect.Slice && v.IsNil():
		e.b = append(e.b, cborNull)
		return nil
	case v.Kind() == reflect.Array && !v.CanAddr():
		v = addressable(v)
	}
	e.head(cborBytes, uint64(v.Len()))
	e.b = append(e.b, v.Bytes()...)
	return nil
}

// addressable returns a copy of v that has an address.
func addressable(v reflect.Value) reflect.Value {
	c := reflect.New(v.Type()).Elem()
	c.Set(v)
	return c
}

func encodeTime(e *encoder, v reflect.Value) error {
	t := v.Interface().(time.Time)
	_, offset := t.Zone()
	if year := t.Year(); year >= 0 && year <= 9999 && offset%60 == 0 && offset > -24*3600 && offset < 24*3600 {
		e.head(cborTag, timeTag)
		e.text(t.Format(time.RFC3339Nano))
		return nil
	}
	e.head(cborTag, extendedTimeTag)
	e.head(cborMap, 3)
	e.integer(1)
	e.integer(t.Unix())
	e.integer(-9)
	e.integer(int64(t.Nanosecond()))
	e.text("offset")
	e.integer(int64(offset))
	return nil
}

func encodePointer(elem *plan, wrap bool) func(*encoder, reflect.Value) error {
	return func(e *encoder, v reflect.Value) error {
		if v.IsNil() {
			e.b = append(e.b, cborNull)
			return nil
		}
		if err := e.enter(); err != nil {
			return err
		}
		defer e.leave()
		if wrap {
			e.head(cborArray, 1)
		}
		return elem.encode(e, v.Elem())
	}
}

func encodeList(elem *plan) func(*encoder, reflect.Value) error {
	return func(e *encoder, v reflect.Value) error {
		if v.Kind() == reflect.Slice && v.IsNil() {
			e.b = append(e.b, cborNull)
			return nil
		}
		if err := e.enter(); err != nil {
			return err
		}
		defer e.leave()
		n := v.Len()
		e.head(cborArray, uint64(n))
		for i := range n {
			if err := elem.encode(e, v.Index(i)); err != nil {
				return at(fmt.Sprintf("[%d]", i), err)
			}
			if len(e.b) > MaxFieldBytes {
				return &TooLargeError{Size: MaxFieldBytes, AtLeast: true, Limit: MaxFieldBytes}
			}
		}
		return nil
	}
}

func encodeMap(key, elem *plan) func(*encoder, reflect.Value) error {
	// pair is one key and value, as a part of the pairs' bytes.
	type pair struct{ key, all []byte }
	return func(e *encoder, v reflect.Value) error {
		if v.IsNil() {
			e.b = append(e.b, cborNull)
			return nil
		}
		if err := e.enter(); err != nil {
			return err
		}
		defer e.leave()
		e.head(cborMap, uint64(v.Len()))
		pairs := make([]pair, 0, v.Len())
		begin := len(e.b)
		for it := v.MapRange(); it.Next(); {
			from := len(e.b)
			if err := key.encode(e, it.Key()); err != nil {
				return at("[key]", err)
			}
			to := len(e.b)
			if err := elem.encode(e, it.Value()); err != nil {
				return at(fmt.Sprintf("[%.50v]", it.Key()), err)
			}
			if len(e.b) > MaxFieldBytes {
				return &TooLargeError{Size: MaxFieldBytes, AtLeast: true, Limit: MaxFieldBytes}
			}
			// Growing e.b leaves these parts where they were, with the same bytes.
			pairs = append(pairs, pair{key: e.b[from:to:to], all: e.b[from:len(e.b):len(e.b)]})
		}
		slices.SortFunc(pairs, func(a, b pair) int { return slices.Compare(a.key, b.key) })
		sorted := make([]byte, 0, len(e.b)-begin)
		for i, p := range pairs {
			if i > 0 && slices.Equal(p.key, pairs[i-1].key) {
				return fmt.Errorf("two keys of the %s have the same encoding (NaN, or an encoding of its own that drops something)", v.Type())
			}
			sorted = append(sorted, p.all...)
		}
		e.b = append(e.b[:begin], sorted...)
		return nil
	}
}

func encodeStruct(members []member) func(*encoder, reflect.Value) error {
	return func(e *encoder, v reflect.Value) error {
		if err := e.enter(); err != nil {
			return err
		}
		defer e.leave()
		e.head(cborMap, uint64(len(members)))
		for i := range members {
			m := &members[i]
			e.b = append(e.b, m.key...)
			if err := m.plan.encode(e, v.FieldByIndex(m.index)); err != nil {
				return at("."+m.goPath, err)
			}
		}
		return nil
	}
}

func encodeOwn(marshal func(reflect.Value) ([]byte, error)) func(*encoder, reflect.Value) error {
	return func(e *encoder, v reflect.Value) error {
		if isNil(v) {
			e.b = append(e.b, cborNull)
			return nil
		}
		content, err := marshal(v)
		if err != nil {
			return err
		}
		e.head(cborBytes, uint64(len(content)))
		e.b = append(e.b, content...)
		return nil
	}
}

func marshalBinary(v reflect.Value) ([]byte, error) {
	return addressable(v).Addr().Interface().(encoding.BinaryMarshaler).MarshalBinary()
}

func marshalText(v reflect.Value) ([]byte, error) {
	return addressable(v).Addr().Interface().(encoding.TextMarshaler).MarshalText()
}

// pathError says where inside a value an error happened.
type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return fmt.Sprintf("at %s: %v", e.path, e.err) }

func (e *pathError) Unwrap() error { return e.err }

// maxPath bounds what an error deep inside a value repeats.
const maxPath = 200

func at(step string, err error) error {
	if p, ok := err.(*pathError); ok { //nolint:errorlint // only the outermost: one that is wrapped has its own place
		if len(p.path) < maxPath {
			p.path = step + p.path
		}
		return p
	}
	return &pathError{step, err}
}
