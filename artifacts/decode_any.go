package artifacts

import (
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
)

// decodeAny decodes the content of an artifact without its Go type.
func decodeAny(e Entry, content []byte) (any, error) {
	switch e.Codec {
	case cborCodec:
		d := newDecoder(content)
		v, err := d.any()
		if err == nil {
			err = d.end()
		}
		if err != nil {
			return nil, fmt.Errorf("stored as %s: %w", e.Type, err)
		}
		return v, nil
	case stringCodec, textCodec:
		return string(content), nil
	}
	if kind := rawNames[e.Codec]; rawTypes[kind] != nil {
		t := reflect.SliceOf(rawTypes[kind])
		v := reflect.New(t).Elem()
		err := rawOf(t).decode(content, v)
		return v.Interface(), err
	}
	return append([]byte{}, content...), nil // bytes, a file, or an author's own encoding
}

var rawTypes = map[reflect.Kind]reflect.Type{
	reflect.Int8: reflect.TypeFor[int8](), reflect.Int16: reflect.TypeFor[int16](), reflect.Int32: reflect.TypeFor[int32](),
	reflect.Int64: reflect.TypeFor[int64](), reflect.Uint16: reflect.TypeFor[uint16](), reflect.Uint32: reflect.TypeFor[uint32](),
	reflect.Uint64: reflect.TypeFor[uint64](), reflect.Float32: reflect.TypeFor[float32](), reflect.Float64: reflect.TypeFor[float64](),
}

var (
	anyType    = reflect.TypeFor[any]()
	stringType = reflect.TypeFor[string]()
)

// any reads one value without its Go type, as nil, bool, int64 (uint64 if it is larger), float64, string, []byte, time.Time, []any or
// map[string]any. The last has text for every key, as JSON wants it.
func (d *decoder) any() (any, error) {
	first, err := d.peek()
	if err != nil {
		return nil, err
	}
	major, n, err := d.head()
	if err != nil {
		return nil, err
	}
	switch major {
	case cborUint:
		if n > math.MaxInt64 {
			return n, nil
		}
		return int64(n), nil
	case cborNegint:
		if n > math.MaxInt64 {
			return -1 - float64(n), nil // no Go integer is so small
		}
		return ^int64(n), nil
	case cborBytes:
		b, err := d.take(n)
		return append([]byte{}, b...), err
	case cborText:
		b, err := d.take(n)
		return string(b), err
	case cborArray:
		return d.anyList(n)
	case cborMap:
		return d.anyMap(n)
	case cborTag:
		return d.anyTagged(n)
	}
	switch first {
	case cborFalse, cborTrue:
		return first == cborTrue, nil
	case cborNull:
		return nil, nil
	case cborFloat16:
		return fromFloat16(uint16(n)), nil
	case cborFloat32:
		return float64(math.Float32frombits(uint32(n))), nil
	case cborFloat64:
		return math.Float64frombits(n), nil
	}
	return nil, fmt.Errorf("found the simple value %d, which has no meaning here", n)
}

func (d *decoder) anyList(n uint64) (any, error) {
	if err := d.enter(n, 1); err != nil {
		return nil, err
	}
	defer d.leave()
	list := make([]any, 0, min(n, firstElements))
	for i := range n {
		// Twice: an element of the list, and the value that it points to.
		if err := d.spend(2, anyType); err != nil {
			return nil, err
		}
		v, err := d.any()
		if err != nil {
			return nil, at(fmt.Sprintf("[%d]", i), err)
		}
		list = append(list, v)
	}
	return list, nil
}

func (d *decoder) anyMap(n uint64) (any, error) {
	if err := d.enter(n, 2); err != nil {
		return nil, err
	}
	defer d.leave()
	if err := d.spend(1, mapHeader); err != nil {
		return nil, err
	}
	m := make(map[string]any, min(n, firstElements))
	for range n {
		if err := d.spend(2, stringType); err != nil {
			return nil, err
		}
		if err := d.spend(2, anyType); err != nil {
			return nil, err
		}
		k, err := d.any()
		if err != nil {
			return nil, at("[key]", err)
		}
		key := keyText(k)
		if _, ok := m[key]; ok {
			return nil, fmt.Errorf("found the key %.50q twice", key)
		}
		if m[key], err = d.any(); err != nil {
			return nil, at(fmt.Sprintf("[%.50q]", key), err)
		}
	}
	return m, nil
}

func (d *decoder) anyTagged(tag uint64) (any, error) {
	if tag == timeTag || tag == extendedTimeTag {
		return d.time(tag)
	}
	if err := d.enter(1, 1); err != nil {
		return nil, err
	}
	defer d.leave()
	return d.any()
}

// keyText is a map's key as text: different keys of one Go type have different texts.
func keyText(key any) string {
	switch key := key.(type) {
	case string:
		return key
	case []byte:
		return hex.EncodeToString(key)
	case time.Time:
		return key.Format(time.RFC3339Nano)
	case float64:
		return strconv.FormatFloat(key, 'g', -1, 64)
	}
	return fmt.Sprint(key)
}
