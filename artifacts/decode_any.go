package artifacts

import (
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// anyMode reads CBOR without a Go type. Its limits are those of content that Save can write.
var anyMode = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		IntDec:           cbor.IntDecConvertSignedOrFail,
		MapKeyByteString: cbor.MapKeyByteStringAllowed,
		MaxArrayElements: MaxFieldBytes,
		MaxMapPairs:      MaxFieldBytes,
		MaxNestedLevels:  maxDepth + 2,
		TimeTagToAny:     cbor.TimeTagToTime,
	}.DecMode()
	if err != nil {
		panic(err) // only for options out of range
	}
	return m
}()

// decodeAny decodes the content of an artifact without its Go type.
func decodeAny(e Entry, content []byte) (any, error) {
	switch e.Codec {
	case cborCodec:
		var v any
		if err := anyMode.Unmarshal(content, &v); err != nil {
			return nil, fmt.Errorf("stored as %s: %w", e.Type, err)
		}
		return plainMaps(v), nil
	case stringCodec, textCodec:
		return string(content), nil
	case bytesCodec, binaryCodec:
		return append([]byte{}, content...), nil
	}
	kind, ok := rawNames[e.Codec]
	if !ok {
		return append([]byte{}, content...), nil
	}
	t := reflect.SliceOf(rawTypes[kind])
	v := reflect.New(t).Elem()
	err := rawOf(t).decode(content, v)
	return v.Interface(), err
}

var rawTypes = map[reflect.Kind]reflect.Type{
	reflect.Int8: reflect.TypeFor[int8](), reflect.Int16: reflect.TypeFor[int16](), reflect.Int32: reflect.TypeFor[int32](),
	reflect.Int64: reflect.TypeFor[int64](), reflect.Uint16: reflect.TypeFor[uint16](), reflect.Uint32: reflect.TypeFor[uint32](),
	reflect.Uint64: reflect.TypeFor[uint64](), reflect.Float32: reflect.TypeFor[float32](), reflect.Float64: reflect.TypeFor[float64](),
}

// plainMaps gives every map text keys, as JSON wants them.
func plainMaps(v any) any {
	switch v := v.(type) {
	case map[any]any:
		m := make(map[string]any, len(v))
		for key, value := range v {
			m[fmt.Sprint(key)] = plainMaps(value)
		}
		return m
	case []any:
		for i := range v {
			v[i] = plainMaps(v[i])
		}
	case cbor.Tag:
		return plainMaps(v.Content)
	}
	return v
}
