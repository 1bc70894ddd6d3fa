package artifacts

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Preview describes the content of an artifact in one line for people, without its Go type, in at most limit bytes: values in the
// style of JSON, and "…" with a count for what is left out. Of bytes, files, types with their own binary encoding and what is too
// large to look into it says the type and the size; so it does when content is nil, which stands for content that was not read.
func Preview(e Entry, content []byte, limit int) string {
	if e.Codec == fileCodec {
		return fit(fmt.Sprintf("file %s, %s", bare(e.Name), formatBytes(e.Size)), limit)
	}
	content, opaque := previewed(e, content, limit)
	if !opaque {
		if v, err := decodeAny(e, content); err == nil {
			s, _ := preview{size: e.Size}.value(v, limit)
			return s
		}
	}
	return fit(typeAndSize(e), limit)
}

// Hidden says that the content of e, which is inline, has something in it of which no preview shows more than type and size: bytes,
// within other values, too.
func Hidden(e Entry) bool {
	_, opaque := previewed(e, e.Inline, len(e.Inline))
	if opaque || e.Codec == fileCodec {
		return true
	}
	v, err := decodeAny(e, e.Inline)
	return err != nil || hasBytes(v)
}

func hasBytes(v any) bool {
	switch v := v.(type) {
	case []byte:
		return true
	case []any:
		return slices.ContainsFunc(v, hasBytes)
	case map[string]any:
		for _, one := range v {
			if hasBytes(one) {
				return true
			}
		}
	}
	return false
}

// maxPreviewBytes is the largest content that a preview decodes, so that it costs no more than it shows.
const maxPreviewBytes = 1 << 20

// previewed returns the part of the content that a preview of limit bytes can show, or that it shows none.
func previewed(e Entry, content []byte, limit int) (part []byte, opaque bool) {
	if content == nil && e.Size > 0 {
		return nil, true
	}
	switch e.Codec {
	case cborCodec:
		return content, len(content) > maxPreviewBytes
	case stringCodec, textCodec:
		return content[:min(len(content), max(limit, 0)+utf8.UTFMax)], false
	case bytesCodec:
		return nil, true
	}
	_, numbers := rawNames[e.Codec]
	return content[:min(len(content), 8*max(limit, 0))], !numbers
}

const more = "…"

// fit cuts s to limit bytes.
func fit(s string, limit int) string {
	switch {
	case len(s) <= limit:
		return s
	case limit < len(more):
		return ""
	}
	cut := limit - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// preview writes one decoded value.
type preview struct {
	size int64 // of the whole content, which a slice of numbers may be only the beginning of
}

// value returns v in at most limit bytes, and whether that is all of it.
func (p preview) value(v any, limit int) (s string, whole bool) {
	switch v := v.(type) {
	case nil:
		s = "nil"
	case string:
		return quoted(v, limit)
	case []byte:
		s = formatBytes(int64(len(v)))
	case time.Time:
		s = v.Format(time.RFC3339Nano)
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		return items('{', '}', len(keys), len(keys), limit, func(i, limit int) (string, bool) {
			key := bare(keys[i]) + ": "
			s, whole := p.value(v[keys[i]], limit-len(key))
			return fit(key+s, limit), whole
		})
	case []any:
		return items('[', ']', len(v), len(v), limit, func(i, limit int) (string, bool) { return p.value(v[i], limit) })
	default:
		if r := reflect.ValueOf(v); r.Kind() == reflect.Slice {
			total := int(p.size / int64(r.Type().Elem().Size()))
			return items('[', ']', r.Len(), max(total, r.Len()), limit, func(i, limit int) (string, bool) {
				return p.value(r.Index(i).Interface(), limit)
			})
		}
		s = fmt.Sprint(v) // a number or bool
	}
	return fit(s, limit), len(s) <= limit
}

// quoted returns s in double quotes, escaped to one line.
func quoted(s string, limit int) (text string, whole bool) {
	if len(s) <= limit {
		if q := strconv.Quote(s); len(q) <= limit {
			return q, true
		}
	}
	const end = more + `"`
	b := []byte{'"'}
	for len(s) > 0 {
		_, size := utf8.DecodeRuneInString(s)
		q := strconv.Quote(s[:size])
		if len(b)+len(q)-2+len(end) > limit {
			break
		}
		b, s = append(b, q[1:len(q)-1]...), s[size:]
	}
	return fit(string(b)+end, limit), false
}

// items returns the first of n elements that fit in limit bytes, between open and end, and how many of total it leaves out.
func items(open, end byte, n, total, limit int, element func(i, limit int) (string, bool)) (text string, whole bool) {
	b := []byte{open}
	// stop is the end of the list if i elements have been written.
	stop := func(i int) string {
		left := ""
		if i < total {
			left = fmt.Sprintf("%s %d more", more, total-i)
			if i > 0 {
				left = ", " + left
			}
		}
		return left + string(end)
	}
	i := 0
	for whole = true; i < n && whole; i++ {
		separator := ""
		if i > 0 {
			separator = ", "
		}
		var s string
		s, whole = element(i, limit-len(b)-len(separator)-len(stop(i+1)))
		if !whole && (i > 0 || s == "") {
			break // only a first element is worth being shown in part
		}
		b = append(append(b, separator...), s...)
	}
	text = string(b) + stop(i)
	return fit(text, limit), whole && i == total && len(text) <= limit
}

// bare returns a name as it is, or quoted if it could be mistaken for something else.
func bare(name string) string {
	plain := func(r rune) bool {
		return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-+./@", r)
	}
	if name != "" && strings.IndexFunc(name, func(r rune) bool { return !plain(r) }) < 0 {
		return name
	}
	return strconv.Quote(name)
}

// typeAndSize is all there is to say of content that is not shown.
func typeAndSize(e Entry) string {
	name := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(e.Type, "?"))
	return name + ", " + formatBytes(e.Size)
}
