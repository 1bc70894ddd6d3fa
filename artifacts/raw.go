package artifacts

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"unsafe"
)

// raw is the codec of strings, byte slices and numeric slices: the elements as they lie in memory, little endian. A nil slice has no
// raw form and is stored as a CBOR null.
type raw struct {
	name string
	size int // of an element in bytes
}

// rawNames has the element kind of each codec name. []int and []uint are stored with 64 bits per element.
var rawNames = map[string]reflect.Kind{
	"int8s": reflect.Int8, "int16s": reflect.Int16, "int32s": reflect.Int32, "int64s": reflect.Int64,
	bytesCodec: reflect.Uint8, "uint16s": reflect.Uint16, "uint32s": reflect.Uint32, "uint64s": reflect.Uint64,
	"float32s": reflect.Float32, "float64s": reflect.Float64,
	stringCodec: reflect.String,
}

var rawKinds = func() map[reflect.Kind]string {
	names := map[reflect.Kind]string{}
	for name, kind := range rawNames {
		names[kind] = name
	}
	if strconv.IntSize == 64 {
		names[reflect.Int], names[reflect.Uint] = names[reflect.Int64], names[reflect.Uint64]
	}
	return names
}()

// rawOf returns the raw codec of t, or nil.
func rawOf(t reflect.Type) *raw {
	switch {
	case t.Kind() == reflect.String:
		return &raw{name: stringCodec, size: 1}
	case t.Kind() != reflect.Slice || t.Elem().Kind() == reflect.String || howOf(t.Elem()) != plainType:
		return nil
	}
	name, ok := rawKinds[t.Elem().Kind()]
	if !ok {
		return nil
	}
	return &raw{name: name, size: int(t.Elem().Size())}
}

var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// view returns the content of v: its own memory, unless the machine is big endian.
func (r *raw) view(v reflect.Value) []byte {
	if v.Kind() == reflect.String {
		s := v.String()
		return unsafe.Slice(unsafe.StringData(s), len(s))
	}
	content := memory(v, r.size)
	if !littleEndian {
		content = bytes.Clone(content)
		swap(content, r.size)
	}
	return content
}

// memory is the memory of the slice v, whose elements of size bytes hold no pointers.
func memory(v reflect.Value, size int) []byte {
	return unsafe.Slice((*byte)(v.UnsafePointer()), v.Len()*size)
}

// swap turns the byte order of each element around.
func swap(content []byte, size int) {
	for ; len(content) >= size; content = content[size:] {
		slices.Reverse(content[:size])
	}
}

// decode sets v to a copy of content.
func (r *raw) decode(content []byte, v reflect.Value) error {
	if v.Kind() == reflect.String {
		v.SetString(string(content))
		return nil
	}
	if len(content)%r.size != 0 {
		return fmt.Errorf("%d bytes are not a whole number of elements of %d bytes", len(content), r.size)
	}
	n := len(content) / r.size
	s := reflect.MakeSlice(v.Type(), n, n)
	copy(memory(s, r.size), content)
	if !littleEndian {
		swap(memory(s, r.size), r.size)
	}
	v.Set(s)
	return nil
}
