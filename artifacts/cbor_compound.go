package artifacts

import (
	"bytes"
	"fmt"
	"reflect"
)

type (
	encodeFunc = func(*encoder, reflect.Value) error
	decodeFunc = func(*decoder, reflect.Value) error
)

func ownPlan(marshal func(reflect.Value) ([]byte, error), unmarshal func([]byte, reflect.Value) error) (encodeFunc, decodeFunc) {
	return encodeOwn(marshal), decodeOwn(unmarshal)
}

func pointerPlan(elem *plan, wrap bool) (encodeFunc, decodeFunc) {
	return encodePointer(elem, wrap), func(d *decoder, v reflect.Value) error {
		if d.null() {
			v.SetZero()
			return nil
		}
		if err := d.enter(1, 1); err != nil {
			return err
		}
		defer d.leave()
		if wrap {
			if _, n, err := d.want(v.Type(), cborArray); err != nil {
				return err
			} else if n != 1 {
				return fmt.Errorf("found an array of %d, which cannot fill a %s", n, v.Type())
			}
		}
		if err := d.spend(1, elem.typ); err != nil {
			return err
		}
		to := reflect.New(elem.typ)
		if err := elem.decode(d, to.Elem()); err != nil {
			return err
		}
		v.Set(to)
		return nil
	}
}

func arrayPlan(elem *plan) (encodeFunc, decodeFunc) {
	return encodeList(elem), func(d *decoder, v reflect.Value) error {
		_, n, err := d.want(v.Type(), cborArray)
		if err != nil {
			return err
		}
		if n != uint64(v.Len()) {
			return fmt.Errorf("found an array of %d, which cannot fill a %s", n, v.Type())
		}
		if err := d.enter(n, 1); err != nil {
			return err
		}
		defer d.leave()
		for i := range v.Len() {
			if err := elem.decode(d, v.Index(i)); err != nil {
				return at(fmt.Sprintf("[%d]", i), err)
			}
		}
		return nil
	}
}

// A slice or map allocates at most this much before its first elements have been read.
const (
	firstElements = 1024
	firstBytes    = 64 << 10
)

// first is how many of n elements of size bytes to make room for at once.
func first(n int, size uintptr) int {
	return min(n, firstElements, max(1, firstBytes/int(max(size, 1))))
}

func slicePlan(elem *plan) (encodeFunc, decodeFunc) {
	return encodeList(elem), func(d *decoder, v reflect.Value) error {
		if d.null() {
			v.SetZero()
			return nil
		}
		_, n, err := d.want(v.Type(), cborArray)
		if err != nil {
			return err
		}
		if err := d.enter(n, 1); err != nil {
			return err
		}
		defer d.leave()
		s := reflect.New(v.Type()).Elem() // only a slice with an address can grow
		s.Set(reflect.MakeSlice(v.Type(), 0, 0))
		for i := range int(n) {
			if i == s.Cap() {
				more := first(int(n), elem.typ.Size())
				if i > 0 {
					more = min(i, int(n)-i)
				}
				if err := d.spend(more, elem.typ); err != nil {
					return err
				}
				s.Grow(more)
			}
			s.SetLen(i + 1)
			if err := elem.decode(d, s.Index(i)); err != nil {
				return at(fmt.Sprintf("[%d]", i), err)
			}
		}
		v.Set(s)
		return nil
	}
}

func mapPlan(key, elem *plan) (encodeFunc, decodeFunc) {
	return encodeMap(key, elem), func(d *decoder, v reflect.Value) error {
		if d.null() {
			v.SetZero()
			return nil
		}
		_, n, err := d.want(v.Type(), cborMap)
		if err != nil {
			return err
		}
		if err := d.enter(n, 2); err != nil {
			return err
		}
		defer d.leave()
		if err := d.spend(1, mapHeader); err != nil {
			return err
		}
		m := reflect.MakeMapWithSize(v.Type(), first(int(n), key.typ.Size()+elem.typ.Size()))
		k, e := reflect.New(key.typ).Elem(), reflect.New(elem.typ).Elem() // the map keeps copies
		for i := range int(n) {
			// A map that is not full takes about twice the size of what is in it.
			if err := d.spend(2, key.typ); err != nil {
				return err
			}
			if err := d.spend(2, elem.typ); err != nil {
				return err
			}
			k.SetZero()
			e.SetZero()
			if err := key.decode(d, k); err != nil {
				return at("[key]", err)
			}
			if err := elem.decode(d, e); err != nil {
				return at(fmt.Sprintf("[%.50v]", k), err)
			}
			if m.SetMapIndex(k, e); m.Len() != i+1 {
				return fmt.Errorf("found the key %.50v twice", k)
			}
		}
		v.Set(m)
		return nil
	}
}

func structPlan(members []member) (encodeFunc, decodeFunc) {
	names := map[string]int{}
	for i, m := range members {
		names[m.name] = i
	}
	return encodeStruct(members), func(d *decoder, v reflect.Value) error {
		_, n, err := d.want(v.Type(), cborMap)
		if err != nil {
			return err
		}
		if err := d.enter(n, 2); err != nil {
			return err
		}
		defer d.leave()
		v.SetZero()
		next := 0 // fields come in the order of members as long as the type has not changed
		for range n {
			if next < len(members) && bytes.HasPrefix(d.b, members[next].key) {
				d.b = d.b[len(members[next].key):]
			} else {
				name, err := d.text(v.Type())
				if err != nil {
					return err
				}
				i, ok := names[string(name)]
				if !ok { // a field that the type no longer has
					if err := d.skip(); err != nil {
						return err
					}
					continue
				}
				if i < next {
					return fmt.Errorf("found the field %q twice or out of order", name)
				}
				next = i
			}
			m := &members[next]
			next++
			if err := m.plan.decode(d, v.FieldByIndex(m.index)); err != nil {
				return at("."+m.goPath, err)
			}
		}
		return nil
	}
}

// skip reads one value of any kind.
func (d *decoder) skip() error {
	major, n, err := d.head()
	if err != nil {
		return err
	}
	switch major {
	case cborBytes, cborText:
		_, err = d.take(n)
		return err
	case cborTag:
		n = 1
	case cborArray:
	case cborMap:
		if n > uint64(len(d.b)) {
			return errTruncated
		}
		n *= 2
	default:
		return nil
	}
	if err := d.enter(n, 1); err != nil {
		return err
	}
	defer d.leave()
	for range n {
		if err := d.skip(); err != nil {
			return err
		}
	}
	return nil
}
