package artifacts

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// plan is how values of one type are written as CBOR and read back. It is compiled once per type and immutable then.
type plan struct {
	typ    reflect.Type
	how    how
	own    *registered // for registeredType
	encode func(e *encoder, v reflect.Value) error
	decode func(d *decoder, v reflect.Value) error
}

// how says who encodes a type.
type how uint8

const (
	plainType      how = iota // by its kind
	binaryType                // its encoding.BinaryMarshaler
	textType                  // its encoding.TextMarshaler
	registeredType            // RegisterCodec
)

var (
	timeType              = reflect.TypeFor[time.Time]()
	binaryMarshalerType   = reflect.TypeFor[encoding.BinaryMarshaler]()
	binaryUnmarshalerType = reflect.TypeFor[encoding.BinaryUnmarshaler]()
	textMarshalerType     = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType   = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// howOf decides who encodes t. A struct with unexported fields would lose them, so its text form counts too.
func howOf(t reflect.Type) how {
	p := reflect.PointerTo(t)
	switch {
	case registeredFor(t) != nil:
		return registeredType
	case t == timeType || t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface:
		return plainType
	case p.Implements(binaryMarshalerType) && p.Implements(binaryUnmarshalerType):
		return binaryType
	case t.Kind() == reflect.Struct && hidden(t) > 0 && p.Implements(textMarshalerType) && p.Implements(textUnmarshalerType):
		return textType
	}
	return plainType
}

// borrowed returns the embedded field of the struct t that brings a MarshalBinary or MarshalText and is not its only field.
func borrowed(t reflect.Type) (reflect.StructField, bool) {
	if t.Kind() != reflect.Struct || t.NumField() < 2 {
		return reflect.StructField{}, false
	}
	for f := range t.Fields() {
		if p := reflect.PointerTo(f.Type); f.Anonymous && (f.Type.Implements(binaryMarshalerType) || p.Implements(binaryMarshalerType) ||
			f.Type.Implements(textMarshalerType) || p.Implements(textMarshalerType)) {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// marshalsItself says that a struct is one value rather than a collection of fields.
func marshalsItself(t reflect.Type) bool { return t == timeType || howOf(t) != plainType }

// hidden counts the unexported fields of a struct.
func hidden(t reflect.Type) int {
	n := 0
	for f := range t.Fields() {
		if !f.IsExported() && !f.Anonymous {
			n++
		}
	}
	return n
}

// compiler makes the plans of a type and all it contains, and collects what cannot be stored.
type compiler struct {
	plans    map[reflect.Type]*plan
	problems []problem
}

func (k *compiler) fail(path string, t reflect.Type, format string, args ...any) {
	k.problems = append(k.problems, problem{path, t, fmt.Sprintf(format, args...)})
}

// compile returns the plan of t, which may be unfinished while a recursive type is compiled.
func (k *compiler) compile(t reflect.Type, path string) *plan {
	if p, ok := k.plans[t]; ok {
		return p
	}
	p := &plan{typ: t, how: howOf(t)}
	k.plans[t] = p
	if f, ok := borrowed(t); ok && (p.how == binaryType || p.how == textType) {
		k.fail(path, t, "the encoding of the embedded %s would be that of the whole struct and lose the other fields "+
			"(give the field a name, or use artifacts.RegisterCodec)", f.Type)
		return p
	}
	switch p.how {
	case registeredType:
		p.own = registeredFor(t)
		p.encode, p.decode = ownPlan(p.own.encode, p.own.decode)
		return p
	case binaryType:
		p.encode, p.decode = ownPlan(marshalBinary, unmarshalBinary)
		return p
	case textType:
		p.encode, p.decode = ownPlan(marshalText, unmarshalText)
		return p
	case plainType:
	}
	problems := len(k.problems)
	if lazyType(t) {
		k.fail(path, t, "a Ref or File cannot be inside another value (make it a field of the state)")
	} else {
		k.plain(p, path)
	}
	if len(k.problems) > problems && t.Kind() != reflect.Struct {
		delete(k.plans, t) // so that another place with this type is reported too
	}
	return p
}

func (k *compiler) plain(p *plan, path string) {
	t := p.typ
	switch t.Kind() {
	case reflect.Bool:
		p.encode, p.decode = encodeBool, decodeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		p.encode, p.decode = encodeInt, decodeInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		p.encode, p.decode = encodeUint, decodeUint
	case reflect.Float32, reflect.Float64:
		p.encode, p.decode = encodeFloat, decodeFloat
	case reflect.Complex64, reflect.Complex128:
		p.encode, p.decode = encodeComplex, decodeComplex
	case reflect.String:
		p.encode, p.decode = encodeString, decodeString
	case reflect.Pointer:
		elem := k.compile(t.Elem(), path)
		p.encode, p.decode = pointerPlan(elem, nullable(t.Elem()))
	case reflect.Slice, reflect.Array:
		k.list(p, path)
	case reflect.Map:
		if pointing(t.Key()) {
			k.fail(path+"[key]", t.Key(), "a pointer or interface is not a key that can be found again (use a plain key type)")
			k.compile(t.Elem(), path+"[]")
			return
		}
		p.encode, p.decode = mapPlan(k.compile(t.Key(), path+"[key]"), k.compile(t.Elem(), path+"[]"))
	case reflect.Struct:
		if t == timeType {
			p.encode, p.decode = encodeTime, decodeTime
			return
		}
		k.structure(p, path)
	case reflect.Interface:
		k.fail(path, t, "an interface does not say what to decode (use a concrete type, or register one with artifacts.RegisterCodec)")
	default: // func, chan, unsafe.Pointer, uintptr
		k.fail(path, t, "a %s means nothing outside this process (leave the field out with `flow:\"-\"`, or unexport it)", t.Kind())
	}
}

// pointing says whether values of the key type t, which have no encoding of their own, are told apart by a pointer or interface.
func pointing(t reflect.Type) bool {
	if howOf(t) != plainType || t == timeType {
		return false
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface:
		return true
	case reflect.Array:
		return pointing(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if f.Tag.Get("flow") != "-" && pointing(f.Type) {
				return true
			}
		}
	}
	return false
}

// nullable says that values of t may be written as null, so that a pointer to them needs another way to be nil.
func nullable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	}
	return false
}

func (k *compiler) list(p *plan, path string) {
	t := p.typ
	if t.Elem().Kind() == reflect.Uint8 && howOf(t.Elem()) == plainType {
		p.encode, p.decode = encodeBytes, decodeBytes
		return
	}
	elem := k.compile(t.Elem(), path+"[]")
	if t.Kind() == reflect.Array {
		p.encode, p.decode = arrayPlan(elem)
		return
	}
	p.encode, p.decode = slicePlan(elem)
}

// member is a field of a struct inside an artifact. Its name is the tag `flow:"name"`, else the Go name.
type member struct {
	name   string
	key    []byte // the name as CBOR
	goPath string
	index  []int
	plan   *plan
}

const lostText = "an embedded type that is unexported would be left out with its exported fields and encoding " +
	"(embed an exported one or, if it is a pointer, the struct itself, or give the field a name)"

// lost says whether an unexported field is embedded and adds more to its struct than an unexported field.
func lost(f reflect.StructField) bool {
	if !f.Anonymous {
		return false
	}
	return f.Type.Kind() == reflect.Pointer || f.Type.Kind() == reflect.Struct && !promoted(f.Type)
}

func (k *compiler) structure(p *plan, path string) {
	var members []member
	k.members(p.typ, nil, path, &members)
	if len(members) == 0 && p.typ.NumField() > 0 && hidden(p.typ) > 0 {
		k.fail(path, p.typ, "a struct with only unexported fields would be stored empty (give it MarshalBinary and UnmarshalBinary, export fields, or use artifacts.RegisterCodec)")
	}
	slices.SortFunc(members, func(a, b member) int { return slices.Compare(a.key, b.key) })
	for i := 1; i < len(members); i++ {
		if a, b := members[i-1], members[i]; a.name == b.name {
			k.fail(path, p.typ, "fields %s and %s have the same name %q (rename one)", a.goPath, b.goPath, a.name)
		}
	}
	p.encode, p.decode = structPlan(members)
}

func (k *compiler) members(t reflect.Type, index []int, path string, members *[]member) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(slices.Clip(index), i)
		name, below := f.Tag.Get("flow"), path+"."+f.Name
		switch {
		case name == "-":
			continue
		case f.Anonymous && name == "" && promoted(f.Type):
			k.members(f.Type, at, below, members)
			continue
		case !f.IsExported() && lost(f):
			k.fail(below, f.Type, "%s", lostText)
			continue
		case !f.IsExported():
			continue
		case name == "":
			name = f.Name
		case !legalName(name):
			k.fail(below, f.Type, "illegal name %q (use letters, digits, _ and -)", name)
			continue
		}
		e := encoder{}
		e.text(name)
		*members = append(*members, member{name: name, key: e.b, goPath: strings.TrimPrefix(below, path+"."), index: at, plan: k.compile(f.Type, below)})
	}
}
