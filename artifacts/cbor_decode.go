package artifacts

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"
)

// decoder reads what encoder wrote. It never trusts a length: damaged or hostile content gives an error, allocates no more than its
// budget and nests no deeper than maxDepth.
type decoder struct {
	b      []byte // what is left
	depth  int
	budget int64 // bytes that may still be allocated
}

func newDecoder(content []byte) *decoder {
	// The most memory for a byte of content is what an empty map takes. Fields added to a type since need more.
	return &decoder{b: content, budget: 256<<20 + 96*int64(len(content))}
}

var (
	errTruncated  = errors.New("content ends too early")
	errIndefinite = errors.New("indefinite length or reserved head")
)

// end checks that all content was read.
func (d *decoder) end() error {
	if len(d.b) > 0 {
		return fmt.Errorf("%d bytes follow the value", len(d.b))
	}
	return nil
}

func (d *decoder) peek() (byte, error) {
	if len(d.b) == 0 {
		return 0, errTruncated
	}
	return d.b[0], nil
}

// head reads a major type with its argument. For major type 7 the argument is the value's bits.
func (d *decoder) head() (major byte, n uint64, err error) {
	first, err := d.peek()
	if err != nil {
		return 0, 0, err
	}
	size := 0
	switch low := first & 31; {
	case low < 24:
		n = uint64(low)
	case low < 28:
		size = 1 << (low - 24)
	default:
		return 0, 0, errIndefinite
	}
	if len(d.b) < 1+size {
		return 0, 0, errTruncated
	}
	switch arg := d.b[1 : 1+size]; size {
	case 1:
		n = uint64(arg[0])
	case 2:
		n = uint64(binary.BigEndian.Uint16(arg))
	case 4:
		n = uint64(binary.BigEndian.Uint32(arg))
	case 8:
		n = binary.BigEndian.Uint64(arg)
	}
	d.b = d.b[1+size:]
	return first & 0xe0, n, nil
}

var majorNames = map[byte]string{
	cborUint: "an unsigned integer", cborNegint: "a negative integer", cborBytes: "bytes", cborText: "text", cborArray: "an array",
	cborMap: "a map", cborTag: "a tag", cborSimple: "a float, bool or null",
}

// want reads a head of one of the major types.
func (d *decoder) want(t reflect.Type, majors ...byte) (major byte, n uint64, err error) {
	major, n, err = d.head()
	if err == nil && !slices.Contains(majors, major) {
		err = fmt.Errorf("found %s, which cannot fill a %s", majorNames[major], t)
	}
	return major, n, err
}

// null reads a null if there is one.
func (d *decoder) null() bool {
	if len(d.b) > 0 && d.b[0] == cborNull {
		d.b = d.b[1:]
		return true
	}
	return false
}

// take reads n bytes. They are the decoder's own.
func (d *decoder) take(n uint64) ([]byte, error) {
	if n > uint64(len(d.b)) {
		return nil, errTruncated
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b, nil
}

// mapHeader stands for what a map takes beside its keys and values.
var mapHeader = reflect.TypeFor[[48]byte]()

// spend takes n values of type t from the budget.
func (d *decoder) spend(n int, t reflect.Type) error {
	size := int64(t.Size())
	if size > 0 && int64(n) > d.budget/size {
		return errors.New("content would take far more memory than it has bytes")
	}
	d.budget -= int64(n) * size
	return nil
}

// enter begins a value of n parts of at least min bytes each; each enter needs a leave.
func (d *decoder) enter(n uint64, least uint64) error {
	if d.depth++; d.depth > maxDepth {
		return fmt.Errorf("nested deeper than %d levels", maxDepth)
	}
	if n > uint64(len(d.b))/least {
		return errTruncated
	}
	return nil
}

func (d *decoder) leave() { d.depth-- }

func decodeBool(d *decoder, v reflect.Value) error {
	b, err := d.take(1)
	if err != nil {
		return errTruncated
	}
	if b[0] != cborFalse && b[0] != cborTrue {
		return fmt.Errorf("found %s, which cannot fill a %s", majorNames[b[0]&0xe0], v.Type())
	}
	v.SetBool(b[0] == cborTrue)
	return nil
}

func (d *decoder) integer(t reflect.Type) (int64, error) {
	major, n, err := d.want(t, cborUint, cborNegint)
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt64 {
		return 0, fmt.Errorf("integer does not fit a %s", t)
	}
	if major == cborNegint {
		return ^int64(n), nil
	}
	return int64(n), nil
}

func decodeInt(d *decoder, v reflect.Value) error {
	n, err := d.integer(v.Type())
	if err != nil {
		return err
	}
	if v.OverflowInt(n) {
		return fmt.Errorf("integer %d does not fit a %s", n, v.Type())
	}
	v.SetInt(n)
	return nil
}

func decodeUint(d *decoder, v reflect.Value) error {
	_, n, err := d.want(v.Type(), cborUint)
	if err != nil {
		return err
	}
	if v.OverflowUint(n) {
		return fmt.Errorf("integer %d does not fit a %s", n, v.Type())
	}
	v.SetUint(n)
	return nil
}

// float reads a float, or an integer that a float can hold exactly: a field may become a float later.
func (d *decoder) float(t reflect.Type) (float64, error) {
	first, err := d.peek()
	if err != nil {
		return 0, err
	}
	major, n, err := d.want(t, cborSimple, cborUint, cborNegint)
	if err != nil {
		return 0, err
	}
	switch {
	case major != cborSimple:
		f := float64(n)
		if n >= 1<<53 {
			return 0, fmt.Errorf("integer %d does not fit a %s exactly", n, t)
		}
		if major == cborNegint {
			f = -1 - f
		}
		return f, nil
	case first == cborFloat16:
		return fromFloat16(uint16(n)), nil
	case first == cborFloat32:
		return float64(math.Float32frombits(uint32(n))), nil
	case first == cborFloat64:
		return math.Float64frombits(n), nil
	}
	return 0, fmt.Errorf("found a bool or null, which cannot fill a %s", t)
}

func fromFloat16(half uint16) float64 {
	exponent, mantissa := int(half>>10&31), float64(half&0x3ff)
	var f float64
	switch exponent {
	case 0:
		f = math.Ldexp(mantissa, -24)
	case 31:
		f = math.Inf(1)
		if mantissa != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(1024+mantissa, exponent-25)
	}
	if half&0x8000 != 0 {
		f = -f
	}
	return f
}

func decodeFloat(d *decoder, v reflect.Value) error {
	f, err := d.float(v.Type())
	if err != nil {
		return err
	}
	if v.Kind() == reflect.Float32 && !fits32(f) {
		return fmt.Errorf("%g does not fit a %s exactly", f, v.Type())
	}
	v.SetFloat(f)
	return nil
}

// fits32 says whether a float32 holds f exactly.
func fits32(f float64) bool { return f != f || float64(float32(f)) == f }

func decodeComplex(d *decoder, v reflect.Value) error {
	_, n, err := d.want(v.Type(), cborArray)
	if err == nil && n != 2 {
		err = fmt.Errorf("found an array of %d, which cannot fill a %s", n, v.Type())
	}
	if err != nil {
		return err
	}
	re, err := d.float(v.Type())
	if err != nil {
		return err
	}
	im, err := d.float(v.Type())
	if err != nil {
		return err
	}
	c := complex(re, im)
	if v.Kind() == reflect.Complex64 && (!fits32(re) || !fits32(im)) {
		return fmt.Errorf("%g does not fit a %s exactly", c, v.Type())
	}
	v.SetComplex(c)
	return nil
}

func (d *decoder) text(t reflect.Type) ([]byte, error) {
	_, n, err := d.want(t, cborText, cborBytes)
	if err != nil {
		return nil, err
	}
	return d.take(n)
}

func decodeString(d *decoder, v reflect.Value) error {
	s, err := d.text(v.Type())
	if err == nil {
		v.SetString(string(s))
	}
	return err
}

func decodeBytes(d *decoder, v reflect.Value) error {
	if v.Kind() == reflect.Slice && d.null() {
		v.SetZero()
		return nil
	}
	_, n, err := d.want(v.Type(), cborBytes)
	if err != nil {
		return err
	}
	b, err := d.take(n)
	switch {
	case err != nil:
		return err
	case v.Kind() == reflect.Slice:
		s := reflect.MakeSlice(v.Type(), len(b), len(b))
		copy(s.Bytes(), b)
		v.Set(s)
	case len(b) != v.Len():
		return fmt.Errorf("found %d bytes, which cannot fill a %s", len(b), v.Type())
	default:
		copy(v.Bytes(), b)
	}
	return nil
}

func decodeTime(d *decoder, v reflect.Value) error {
	_, tag, err := d.want(v.Type(), cborTag)
	if err != nil {
		return err
	}
	t, err := d.time(tag)
	if err == nil {
		v.Set(reflect.ValueOf(t))
	}
	return err
}

// time reads what follows the tag of a time.
func (d *decoder) time(tag uint64) (t time.Time, err error) {
	switch tag {
	case timeTag:
		var s []byte
		if s, err = d.text(timeType); err == nil {
			// Parse would give the offset of this machine's own zone the name of that zone.
			t, err = time.ParseInLocation(time.RFC3339Nano, string(s), time.UTC)
		}
	case extendedTimeTag:
		t, err = d.extendedTime()
	default:
		err = fmt.Errorf("found tag %d, which cannot fill a %s", tag, timeType)
	}
	return t, err
}

// extendedTime reads exactly the map that encodeTime writes.
func (d *decoder) extendedTime() (time.Time, error) {
	_, n, err := d.want(timeType, cborMap)
	if err == nil && n != 3 {
		err = fmt.Errorf("found %d parts of an extended time instead of 3", n)
	}
	var parts [3]int64
	for i, want := range []int64{1, -9, 0} {
		if err != nil {
			return time.Time{}, err
		}
		if want == 0 {
			_, err = d.text(timeType)
		} else if got, keyErr := d.integer(timeType); keyErr != nil || got != want {
			err = errors.Join(fmt.Errorf("found part %d of an extended time instead of %d", got, want), keyErr)
		}
		if err == nil {
			parts[i], err = d.integer(timeType)
		}
	}
	switch {
	case err != nil:
		return time.Time{}, err
	case parts[1] < 0 || parts[1] >= 1e9 || parts[2] <= -1<<31 || parts[2] >= 1<<31:
		return time.Time{}, errors.New("extended time out of range")
	}
	at := time.Unix(parts[0], parts[1]).UTC()
	if parts[2] != 0 {
		at = at.In(time.FixedZone("", int(parts[2])))
	}
	return at, nil
}

func decodeOwn(unmarshal func([]byte, reflect.Value) error) func(*decoder, reflect.Value) error {
	return func(d *decoder, v reflect.Value) error {
		if nullable(v.Type()) && d.null() {
			v.SetZero()
			return nil
		}
		_, n, err := d.want(v.Type(), cborBytes)
		if err != nil {
			return err
		}
		b, err := d.take(n)
		if err != nil {
			return err
		}
		return unmarshal(b, v)
	}
}

// Code of an author gets its own copy of the bytes, which it may keep.

func unmarshalBinary(content []byte, v reflect.Value) error {
	return v.Addr().Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary(slices.Clone(content))
}

func unmarshalText(content []byte, v reflect.Value) error {
	return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(slices.Clone(content))
}
