package artifacts

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// registered is a codec of an author.
type registered struct {
	name   string
	typ    reflect.Type
	encode func(reflect.Value) ([]byte, error)
	decode func([]byte, reflect.Value) error
}

var registry = struct {
	sync.RWMutex
	byType map[reflect.Type]*registered
	byName map[string]*registered
}{byType: map[reflect.Type]*registered{}, byName: map[string]*registered{}}

// RegisterCodec makes values of type T storable, as a field or anywhere inside one, by the author's own encoding. T may be an
// interface type, which has no encoding otherwise; its nil is stored without calling encode. Encode must be deterministic: equal values
// must give equal bytes, or steps seem to change what they did not.
//
// The name is stored beside each artifact and found again by every later version of the program, so it must never be given another
// meaning; it is letters, digits and the characters ._-/+ and contains a dot or a slash, for example "acme.shape/v1". Call
// RegisterCodec before flows are checked or states loaded, in every program that reads the artifacts. Registering a name again for the
// same type replaces its functions. It is an error if another type has the name or if T has another name.
func RegisterCodec[T any](name string, encode func(T) ([]byte, error), decode func([]byte) (T, error)) error {
	t := reflect.TypeFor[T]()
	if !legalCodec(name) {
		return fmt.Errorf("register codec %q for %s: illegal name (use letters, digits and ._-/+, with a dot or a slash, as in %q)", name, t, "acme.shape/v1")
	}
	if encode == nil || decode == nil {
		return fmt.Errorf("register codec %q for %s: both functions are needed", name, t)
	}
	if t == timeType || lazyType(t) {
		return fmt.Errorf("register codec %q for %s: the type has its own encoding (define a type of your own)", name, t)
	}
	r := &registered{
		name:   name,
		typ:    t,
		encode: func(v reflect.Value) ([]byte, error) { return encode(v.Interface().(T)) },
		decode: func(b []byte, v reflect.Value) error {
			decoded, err := decode(slices.Clone(b)) // its own copy, which it may keep
			if err == nil {
				v.Set(reflect.ValueOf(&decoded).Elem())
			}
			return err
		},
	}
	registry.Lock()
	defer registry.Unlock()
	if old, ok := registry.byName[name]; ok && old.typ != t {
		return fmt.Errorf("register codec %q for %s: the name is taken by %s (choose another)", name, t, old.typ)
	}
	if old, ok := registry.byType[t]; ok && old.name != name {
		return fmt.Errorf("register codec %q for %s: the type has the codec %q already (remove one)", name, t, old.name)
	}
	registry.byName[name], registry.byType[t] = r, r
	codecs.Clear()
	schemas.Clear()
	return nil
}

func legalCodec(name string) bool {
	return len(name) <= maxNameBytes && strings.ContainsAny(name, "./") && strings.IndexFunc(name, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-/+", r)
	}) < 0
}

func registeredFor(t reflect.Type) *registered {
	registry.RLock()
	defer registry.RUnlock()
	return registry.byType[t]
}

func registeredName(name string) bool {
	registry.RLock()
	defer registry.RUnlock()
	_, ok := registry.byName[name]
	return ok
}
