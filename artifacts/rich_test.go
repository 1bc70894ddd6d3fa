package artifacts

import (
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"time"

	"pgregory.net/rapid"
)

type (
	level   uint8
	names   []string
	ratings map[string]float32

	base struct {
		ID    int64 `flow:"id"`
		Label string
	}
	// rich has every kind that can be stored.
	rich struct {
		base
		Bool   bool
		Ints   [2]int
		I8     int8
		I16    int16
		I32    int32
		I64    int64
		U      uint
		U8     level
		U16    uint16
		U32    uint32
		U64    uint64
		F32    float32
		F64    float64
		C64    complex64
		C128   complex128
		Text   string
		Bytes  []byte
		Fixed  [4]byte
		Names  names
		Floats []float64
		When   time.Time
		Ptr    *rich
		PtrPtr **string
		PtrNil *[]int
		Map    map[string]rich
		Rates  ratings
		ByInt  map[int16][]*base
		ByList map[[2]int8]map[bool]string
		ByKey  map[base]level
		Addr   netip.Addr
		URL    *url.URL
		Big    big.Int
		Digest Digest
		Lists  [][]map[string][]int32
		Empty  struct{}
	}
)

func richValue() *rapid.Generator[rich] {
	return rapid.Custom(func(t *rapid.T) rich {
		var v rich
		draw(t, reflect.ValueOf(&v).Elem(), 3)
		return v
	})
}

// draw fills v with random content that nests at most depth levels.
func draw(t *rapid.T, v reflect.Value, depth int) {
	var addr any
	if v.Addr().CanInterface() { // not an embedded struct of an unexported type
		addr = v.Addr().Interface()
	}
	switch to := addr.(type) {
	case *time.Time:
		*to = time.Unix(rapid.Int64Range(-1<<37, 1<<38).Draw(t, "unix"), rapid.Int64Range(0, 1e9-1).Draw(t, "nano")).UTC()
		if offset := rapid.IntRange(-86399, 86399).Draw(t, "offset"); offset != 0 {
			*to = to.In(time.FixedZone("", offset))
		}
		return
	case *netip.Addr:
		*to = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "addr")))
		return
	case *url.URL:
		*to = url.URL{Scheme: "https", Host: "h", Path: rapid.StringMatching(`/[a-z]{0,5}`).Draw(t, "path")}
		return
	case *big.Int:
		to.SetInt64(rapid.Int64().Draw(t, "big"))
		return
	case *Digest:
		*to = Sum([]byte(rapid.String().Draw(t, "digest")))
		return
	}
	few := func() int {
		if depth <= 0 {
			return 0
		}
		return rapid.IntRange(0, 3).Draw(t, "n")
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "int") >> rapid.IntRange(64-v.Type().Bits(), 63).Draw(t, "shift"))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "uint") >> rapid.IntRange(64-v.Type().Bits(), 63).Draw(t, "shift"))
	case reflect.Float32:
		v.SetFloat(float64(float32(drawFloat(t))))
	case reflect.Float64:
		v.SetFloat(drawFloat(t))
	case reflect.Complex64:
		v.SetComplex(complex128(complex(float32(drawFloat(t)), float32(drawFloat(t)))))
	case reflect.Complex128:
		v.SetComplex(complex(drawFloat(t), drawFloat(t)))
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.String(), rapid.Custom(func(t *rapid.T) string {
			return string(rapid.SliceOf(rapid.Byte()).Draw(t, "raw"))
		})).Draw(t, "string"))
	case reflect.Array:
		for i := range v.Len() {
			draw(t, v.Index(i), depth)
		}
	case reflect.Struct:
		for _, field := range v.Fields() {
			draw(t, field, depth-1)
		}
	case reflect.Pointer:
		if few() > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			draw(t, v.Elem(), depth-1)
		}
	case reflect.Slice:
		n := few()
		if n == 0 && rapid.Bool().Draw(t, "nil") {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			draw(t, v.Index(i), depth-1)
		}
	case reflect.Map:
		n := few()
		if n == 0 && rapid.Bool().Draw(t, "nil") {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for range n {
			key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			draw(t, key, depth-1)
			draw(t, elem, depth-1)
			v.SetMapIndex(key, elem)
		}
	default:
		panic("draw a " + v.Type().String())
	}
}

func drawFloat(t *rapid.T) float64 {
	special := rapid.SampledFrom([]float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), 1, -1.5, 65504, 65505, 65536,
		0x1p-14, 0x1p-24, 0x1.8p-24, 0x1p-25, 0x1.004p-14, math.MaxFloat32, math.SmallestNonzeroFloat32, math.MaxFloat64, math.SmallestNonzeroFloat64})
	return rapid.OneOf(special, rapid.Float64(), rapid.Custom(func(t *rapid.T) float64 {
		return float64(rapid.Float32().Draw(t, "single"))
	})).Draw(t, "float")
}

// same says whether two values are equal in all that must be kept: as reflect.DeepEqual, but any NaN is like another, a zero has its
// sign, and a time is its instant and offset.
func same(a, b reflect.Value) bool {
	sameFloat := func(x, y float64) bool {
		return x != x && y != y || x == y && math.Signbit(x) == math.Signbit(y)
	}
	if a.CanInterface() { // not an embedded struct of an unexported type
		switch x := a.Interface().(type) {
		case time.Time:
			y := b.Interface().(time.Time)
			_, offset := x.Zone()
			_, other := y.Zone()
			return x.Equal(y) && offset == other
		case netip.Addr, url.URL, Digest:
			return reflect.DeepEqual(x, b.Interface())
		case big.Int:
			y := b.Interface().(big.Int)
			return x.Cmp(&y) == 0
		}
	}
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return sameFloat(a.Float(), b.Float())
	case reflect.Complex64, reflect.Complex128:
		return sameFloat(real(a.Complex()), real(b.Complex())) && sameFloat(imag(a.Complex()), imag(b.Complex()))
	case reflect.Array, reflect.Slice:
		if a.Len() != b.Len() || a.Kind() == reflect.Slice && a.IsNil() != b.IsNil() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		return a.IsNil() == b.IsNil() && (a.IsNil() || same(a.Elem(), b.Elem()))
	case reflect.Map:
		if a.Len() != b.Len() || a.IsNil() != b.IsNil() {
			return false
		}
		for it := a.MapRange(); it.Next(); {
			if v := b.MapIndex(it.Key()); !v.IsValid() || !same(it.Value(), v) {
				return false
			}
		}
		return true
	}
	return a.Interface() == b.Interface()
}
