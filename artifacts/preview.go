package artifacts

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Preview describes the content of an artifact in one line for people, without its Go type, in at most limit bytes. Content that is
// nil is content that was not read: then the preview is its size.
func Preview(e Entry, content []byte, limit int) string {
	p := preview{limit: limit}
	switch v, err := decodeAny(e, content); {
	case e.Codec == fileCodec:
		p.text(fmt.Sprintf("file %s, %s", e.Name, formatBytes(e.Size)))
	case content == nil && e.Size > 0, err != nil:
		p.text(formatBytes(e.Size))
	default:
		p.value(v)
	}
	if p.b.Len() <= limit {
		return p.b.String()
	}
	const more = "…"
	s := p.b.String()[:max(limit-len(more), 0)]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + more
}

// preview writes values in the style of JSON until the limit is passed.
type preview struct {
	b     strings.Builder
	limit int
}

func (p *preview) full() bool { return p.b.Len() > p.limit }

func (p *preview) text(s string) { p.b.WriteString(s) }

func (p *preview) value(v any) {
	switch v := v.(type) {
	case nil:
		p.text("nil")
	case string:
		p.text(strconv.Quote(v[:min(len(v), p.limit+utf8.UTFMax)]))
	case []byte:
		p.text(formatBytes(int64(len(v))))
	case time.Time:
		p.text(v.Format(time.RFC3339Nano))
	case map[string]any:
		p.list("{", "}", len(v), slices.Sorted(maps.Keys(v)), func(_ int, key string) {
			p.text(key + ": ")
			p.value(v[key])
		})
	default:
		r := reflect.ValueOf(v)
		if r.Kind() != reflect.Slice {
			p.text(fmt.Sprint(v))
			return
		}
		p.list("[", "]", r.Len(), nil, func(i int, _ string) { p.value(r.Index(i).Interface()) })
	}
}

func (p *preview) list(open, end string, n int, keys []string, one func(i int, key string)) {
	p.text(open)
	for i := range n {
		if p.full() {
			return
		}
		if i > 0 {
			p.text(", ")
		}
		key := ""
		if keys != nil {
			key = keys[i]
		}
		one(i, key)
	}
	p.text(end)
}
