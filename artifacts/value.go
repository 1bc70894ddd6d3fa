package artifacts

import (
	"reflect"
)

// CheckType returns why values of t cannot be encoded, all reasons joined, or nil if they can. A Ref or File is a field's type, not
// a value's.
func CheckType(t reflect.Type) error {
	_, problems := codecOf(t)
	return problemsError(problems)
}

// Encode encodes a value like the content of an artifact of its type. The entry has no content inline; [Decode] reads both back.
func Encode(v any) (Entry, []byte, error) {
	c, problems := codecOf(reflect.TypeOf(v))
	if err := problemsError(problems); err != nil {
		return Entry{}, nil, err
	}
	name, content, err := c.encode(reflect.ValueOf(v))
	if err != nil {
		return Entry{}, nil, err
	}
	return Entry{Digest: Sum(content), Size: int64(len(content)), Codec: name, Type: c.typeName}, content, nil
}
