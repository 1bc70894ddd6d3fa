package artifacts

import (
	"errors"
	"fmt"
	"reflect"
)

// CheckType returns why values of t cannot be encoded, all reasons joined, or nil if they can. A Ref or File is a field's type, not
// a value's.
func CheckType(t reflect.Type) error {
	_, problems := codecOf(t)
	return problemsError(problems)
}

// Encode encodes the value that from points to like the content of an artifact of its type. The entry has no content inline, and the
// content may be the value's own memory: it is valid until the value changes. [Decode] reads both back. What is larger than
// MaxFieldBytes is a [*TooLargeError] without a name.
func Encode(from any) (Entry, []byte, error) {
	v := reflect.ValueOf(from)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return Entry{}, nil, fmt.Errorf("encode a %T (pass a pointer)", from)
	}
	c, problems := codecOf(v.Type().Elem())
	if err := problemsError(problems); err != nil {
		return Entry{}, nil, err
	}
	name, content, err := c.encode(v.Elem())
	if large, ok := errors.AsType[*TooLargeError](err); ok {
		return Entry{}, nil, &TooLargeError{Type: c.typeName, Size: large.Size, AtLeast: true, Limit: MaxFieldBytes}
	}
	if err != nil {
		return Entry{}, nil, err
	}
	if len(content) > MaxFieldBytes {
		return Entry{}, nil, &TooLargeError{Type: c.typeName, Size: int64(len(content)), Limit: MaxFieldBytes}
	}
	return Entry{Digest: Sum(content), Size: int64(len(content)), Codec: name, Type: c.typeName}, content, nil
}
