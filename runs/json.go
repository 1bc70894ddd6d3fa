package runs

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"time"
)

// LoadJSON reads an artifact of a finished task, whatever its type, as a value that package encoding/json can write: NaN and
// infinities are text, and so are the keys of maps and times.
func LoadJSON(ctx context.Context, t *Task, name string) (any, error) {
	v, err := Load[any](ctx, t, name)
	if err != nil {
		return nil, err
	}
	return jsonable(reflect.ValueOf(v)), nil
}

// jsonable turns a decoded value into one that JSON can hold: NaN and infinities become text.
func jsonable(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Invalid:
		return nil
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		if v.Kind() == reflect.Interface {
			return jsonable(v.Elem())
		}
		return v.Interface()
	case reflect.Float32, reflect.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Sprint(f)
		}
		return v.Interface()
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Interface() // base64
		}
		out := make([]any, v.Len())
		for i := range out {
			out[i] = jsonable(v.Index(i))
		}
		return out
	case reflect.Map:
		out := make(map[string]any, v.Len())
		for _, key := range v.MapKeys() {
			out[fmt.Sprint(key.Interface())] = jsonable(v.MapIndex(key))
		}
		return out
	default:
		if t, ok := reflect.TypeAssert[time.Time](v); ok {
			return t.Format(time.RFC3339Nano) // years that JSON's own form refuses included
		}
		return v.Interface()
	}
}
