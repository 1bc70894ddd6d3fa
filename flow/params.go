package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
)

// Param describes a parameter of a flow: a field of the state with a `param` tag.
//
//	Alpha  float64       `param:"alpha" default:"0.5" help:"learning rate"`
//	Wait   time.Duration `param:"wait" default:"2s"`
//	Labels []string      `param:"labels" default:"[\"a\"]" help:"classes"`
//	Bucket string        `param:"bucket" required:"true"`
//
// Legal types are strings, booleans, integers and floats of any width, [time.Duration], [time.Time]
// (RFC 3339), and structs, slices, arrays and maps, which are written as JSON. A parameter without a
// default that is not required keeps its zero value.
//
// Numbers are decimal. JSON may have no fields that the type does not have. A value comes from the flag,
// else from the environment variable [Param.Env], else from the default. An environment variable that is
// set to nothing counts as not set, as with Metaflow; a flag may be empty.
type Param struct {
	Name     string    `json:"name"`
	Kind     ParamKind `json:"kind"`
	Default  *string   `json:"default,omitempty"` // nil: none
	Help     string    `json:"help,omitempty"`
	Required bool      `json:"required,omitempty"`
}

// ParamKind says how a parameter is written as text.
type ParamKind string

// The kinds of parameters.
const (
	ParamString   ParamKind = "string"
	ParamBool     ParamKind = "bool"
	ParamInt      ParamKind = "int"
	ParamFloat    ParamKind = "float"
	ParamDuration ParamKind = "duration"
	ParamTime     ParamKind = "time"
	ParamJSON     ParamKind = "json"
)

// EnvPrefix begins the environment variable of every parameter.
const EnvPrefix = "STEPWELL_RUN_"

// Env is the environment variable that sets the parameter: [EnvPrefix] and the name in capitals.
func (p Param) Env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_"))
}

type boundParam struct {
	Param
	field artifacts.Field
}

var legalParam = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

// reserved names are flags of the commands that take a flow's parameters.
var reserved = []string{
	"address", "branch", "detach", "help", "json", "log-format", "log-level", "max-parallel", "namespace", "origin", "param", "plan", "production",
	"profile", "project", "run-id", "state-dir", "step", "store", "tag", "task-queue", "token", "version",
}

func bindParams(fields []artifacts.Field) ([]boundParam, error) {
	var (
		params []boundParam
		errs   []error
		seen   = map[string]string{}
	)
	for _, field := range fields {
		name, tagged := field.Tag.Lookup("param")
		if !tagged {
			for _, tag := range []string{"default", "required", "help"} {
				if _, has := field.Tag.Lookup(tag); has {
					errs = append(errs, fmt.Errorf("field %s has a %s tag but no param tag (add `param:\"name\"`)", field.GoName, tag))
				}
			}
			continue
		}
		p := boundParam{field: field, Param: Param{Name: name, Help: field.Tag.Get("help")}}
		fail := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("param %q (field %s): %w", name, field.GoName, fmt.Errorf(format, args...)))
		}
		plain := strings.ReplaceAll(name, "_", "-")
		switch {
		case !legalParam.MatchString(name):
			fail("the name is not allowed (use a small letter, then up to 63 small letters, digits, _ or -)")
		case slices.Contains(reserved, plain):
			fail("the name is a flag of the run command (choose another)")
		case seen[plain] != "":
			fail("field %s has that name too (- and _ count as the same; rename one)", seen[plain])
		}
		seen[plain] = field.GoName
		kind, ok := paramKind(field.Type)
		if !ok {
			fail("type %s cannot be a parameter (use a string, number, bool, time.Duration, time.Time or a JSON-able struct, slice or map)", field.Type)
		}
		p.Kind = kind
		if text, has := field.Tag.Lookup("required"); has {
			required, err := strconv.ParseBool(text)
			if err != nil {
				fail("required:%q is neither true nor false", text)
			}
			p.Required = required
		}
		if text, has := field.Tag.Lookup("default"); has {
			p.Default = &text
			if p.Required {
				fail("it is required and has a default (drop one)")
			}
			if ok {
				if _, err := p.parse(text); err != nil {
					fail("default: %w", err)
				}
			}
		}
		params = append(params, p)
	}
	return params, errors.Join(errs...)
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	timeType     = reflect.TypeFor[time.Time]()
)

func paramKind(t reflect.Type) (ParamKind, bool) {
	switch {
	case t == durationType:
		return ParamDuration, true
	case t == timeType:
		return ParamTime, true
	}
	switch t.Kind() {
	case reflect.String:
		return ParamString, true
	case reflect.Bool:
		return ParamBool, true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return ParamInt, true
	case reflect.Float32, reflect.Float64:
		return ParamFloat, true
	case reflect.Struct, reflect.Slice, reflect.Array, reflect.Map:
		return ParamJSON, true
	default:
		return "", false
	}
}

// parse reads a value from text. Messages show the text: parameters are no place for secrets.
func (p boundParam) parse(text string) (reflect.Value, error) {
	v := reflect.New(p.field.Type).Elem()
	bad := func(want string) error { return fmt.Errorf("%q is not %s", text, want) }
	switch p.Kind {
	case ParamString:
		v.SetString(text)
	case ParamBool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return v, bad("a bool (true or false)")
		}
		v.SetBool(b)
	case ParamInt:
		if v.CanInt() {
			n, err := strconv.ParseInt(text, 10, v.Type().Bits())
			if err != nil {
				return v, bad(fmt.Sprintf("a decimal integer of %d bits", v.Type().Bits()))
			}
			v.SetInt(n)
			break
		}
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return v, bad(fmt.Sprintf("a non-negative decimal integer of %d bits", v.Type().Bits()))
		}
		v.SetUint(n)
	case ParamFloat:
		x, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return v, bad(fmt.Sprintf("a number of %d bits", v.Type().Bits()))
		}
		v.SetFloat(x)
	case ParamDuration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return v, bad("a duration (like 90s, 5m or 1h30m)")
		}
		v.SetInt(int64(d))
	case ParamTime:
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return v, bad("a time (like 2026-01-31T12:00:00Z)")
		}
		v.Set(reflect.ValueOf(t))
	case ParamJSON:
		dec := json.NewDecoder(bytes.NewReader([]byte(text)))
		dec.DisallowUnknownFields()
		err := dec.Decode(v.Addr().Interface())
		if err == nil {
			if _, more := dec.Token(); !errors.Is(more, io.EOF) {
				err = errors.New("something follows the value")
			}
		}
		if err != nil {
			return v, fmt.Errorf("%q is not JSON for %s: %w", text, p.field.Type, err)
		}
	default:
		return v, fmt.Errorf("kind %q is not known", p.Kind)
	}
	return v, nil
}

// Params lists the flow's parameters in the order of the state's fields.
func (f *Flow) Params() []Param {
	params := make([]Param, len(f.params))
	for i, b := range f.params {
		params[i] = b.Param
	}
	return params
}

// ResolveParams settles every parameter's value as text, from what was given by name (- and _ count
// as the same), the environment (lookup; nil for none) and the defaults, in that order. Parameters that
// keep their zero value are left out. All mistakes are reported at once: texts of the wrong type,
// required parameters without a value, unknown names, names given twice.
func (f *Flow) ResolveParams(given map[string]string, lookup func(string) (string, bool)) (map[string]string, error) {
	var errs []error
	left := map[string][]string{} // names as given, sorted, by plain name
	for _, name := range slices.Sorted(maps.Keys(given)) {
		plain := strings.ReplaceAll(name, "_", "-")
		left[plain] = append(left[plain], name)
	}
	values := map[string]string{}
	for _, p := range f.params {
		plain := strings.ReplaceAll(p.Name, "_", "-")
		text, from, has := "", "", false
		if names, ok := left[plain]; ok {
			text, has, from = given[names[0]], true, "parameter "+strconv.Quote(p.Name)
			if len(names) > 1 {
				errs = append(errs, fmt.Errorf("parameter %q is given twice, as %q (- and _ count as the same)", p.Name, names))
			}
			delete(left, plain)
		} else if lookup != nil {
			text, _ = lookup(p.Env())
			has = text != ""
			from = "environment variable " + p.Env()
		}
		if !has && p.Default != nil {
			text, has, from = *p.Default, true, "parameter "+strconv.Quote(p.Name)
		}
		if !has {
			if p.Required {
				errs = append(errs, fmt.Errorf("parameter %q is required (set --%s or %s)", p.Name, plain, p.Env()))
			}
			continue
		}
		if _, err := p.parse(text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", from, err))
			continue
		}
		values[p.Name] = text
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, ok := left[strings.ReplaceAll(name, "_", "-")]; !ok {
			continue
		}
		errs = append(errs, fmt.Errorf("flow %q has no parameter %q (%s)", f.name, name, f.paramHint()))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return values, nil
}

func (f *Flow) paramHint() string {
	if len(f.params) == 0 {
		return "it takes none"
	}
	names := make([]string, len(f.params))
	for i, p := range f.params {
		names[i] = p.Name
	}
	return "it has " + strings.Join(names, ", ")
}

// SetParams sets the state's parameter fields from resolved texts. A parameter that is not among
// them gets its zero value.
func (f *Flow) SetParams(state any, values map[string]string) error {
	var errs []error
	for _, p := range f.params {
		dst := p.field.Value(state)
		text, has := values[p.Name]
		if !has {
			dst.SetZero()
			continue
		}
		v, err := p.parse(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("parameter %q: %w", p.Name, err))
			continue
		}
		dst.Set(v)
	}
	return errors.Join(errs...)
}
