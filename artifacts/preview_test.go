package artifacts

import (
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// encoded returns the entry and content of v, as a field of that type would have them.
func encoded[T any](t require.TestingT, v T) (Entry, []byte) {
	c, problems := codecOf(reflect.TypeFor[T]())
	require.NoError(t, problemsError(problems))
	name, content, err := c.encode(reflect.ValueOf(&v).Elem())
	require.NoError(t, err)
	return Entry{Digest: Sum(content), Size: int64(len(content)), Codec: name, Type: c.typeName}, content
}

func previewOf[T any](t *testing.T, v T, limit int) string {
	t.Helper()
	e, content := encoded(t, v)
	return Preview(e, content, limit)
}

func TestPreview(t *testing.T) {
	t.Parallel()
	type point struct{ X, Y float64 }
	n := 3
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	for _, c := range []struct{ got, want string }{
		{previewOf(t, 42, 80), "42"},
		{previewOf(t, uint64(math.MaxUint64), 80), "18446744073709551615"},
		{previewOf(t, true, 80), "true"},
		{previewOf(t, math.NaN(), 80), "NaN"},
		{previewOf(t, 0.25, 80), "0.25"},
		{previewOf(t, "one\ntwo", 80), `"one\ntwo"`},
		{previewOf(t, "", 80), `""`},
		{previewOf(t, strings.Repeat("é", 50), 20), `"` + strings.Repeat("é", 7) + `…"`},
		{previewOf(t, "\xff", 80), `"\xff"`},
		{previewOf(t, (*int)(nil), 80), "nil"},
		{previewOf(t, &n, 80), "3"},
		{previewOf(t, at, 80), "2026-01-02T03:04:05.000006+01:00"},
		{previewOf(t, []byte("abc"), 80), "[]uint8, 3 bytes"},
		{previewOf(t, []int{1, 2, 3}, 80), "[1, 2, 3]"},
		{previewOf(t, []int(nil), 80), "nil"},
		{previewOf(t, []int{}, 80), "[]"},
		{previewOf(t, make([]float32, 5000), 30), "[0, 0, 0, 0, 0, … 4995 more]"},
		{previewOf(t, []string{"a", "b"}, 80), `["a", "b"]`},
		{previewOf(t, map[string]int{"b": 2, "a": 1, "a key": 3}, 80), `{a: 1, "a key": 3, b: 2}`},
		{previewOf(t, map[int]bool{7: true}, 80), "{7: true}"},
		{previewOf(t, map[[2]int]string{{1, 2}: "x"}, 80), `{"[1 2]": "x"}`},
		{previewOf(t, point{1, 2.5}, 80), "{X: 1, Y: 2.5}"},
		{previewOf(t, []point{{1, 2}, {3, 4}, {5, 6}}, 40), "[{X: 1, Y: 2}, … 2 more]"},
		{previewOf(t, map[string][]int{"numbers": make([]int, 100)}, 40), "{numbers: [0, 0, 0, 0, 0, … 95 more]}"},
		{previewOf(t, url.URL{Host: "h"}, 80), "url.URL, 3 bytes"},
		{Preview(Entry{Codec: fileCodec, Name: "model.bin", Size: 3 << 20}, nil, 80), "file model.bin, 3.0 MiB"},
		{Preview(Entry{Codec: fileCodec, Name: "a\nb", Size: 1}, nil, 80), `file "a\nb", 1 bytes`},
		{Preview(Entry{Codec: cborCodec, Type: "map[string]int", Size: 5000}, nil, 80), "map[string]int, 4.9 KiB"},
		{Preview(Entry{Codec: cborCodec, Type: "int", Size: 1}, []byte{0xff}, 80), "int, 1 bytes"},
		{Preview(Entry{Codec: "acme.shape/v1", Type: "acme.Shape", Size: 2}, []byte("xx"), 80), "acme.Shape, 2 bytes"},
		{previewOf(t, "abc", 0), ""},
		{previewOf(t, "abc", -1), ""},
		{previewOf(t, 1234567, 5), "12…"},
	} {
		require.Equal(t, c.want, c.got)
	}
}

// What is large costs no more than what is shown of it.
func TestPreviewOfLargeContent(t *testing.T) {
	t.Parallel()
	e, content := encoded(t, make([]float64, 4<<20))
	text := Preview(e, content, 60)
	require.Equal(t, "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, … 4194290 more]", text)
	part, _ := previewed(e, content, 60)
	require.Len(t, part, 8*60)

	e, content = encoded(t, make([]string, maxPreviewBytes))
	require.Equal(t, "[]string, 1.0 MiB", Preview(e, content, 60))
}

// Whatever the content, a preview is one line of valid text within the limit.
func TestPreviewFits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := Entry{
			Codec: rapid.SampledFrom([]string{cborCodec, stringCodec, bytesCodec, textCodec, "int64s", "float32s", fileCodec, "x/y"}).Draw(t, "codec"),
			Type:  rapid.String().Draw(t, "type"), Name: rapid.String().Draw(t, "name"), Size: rapid.Int64Range(0, 1<<40).Draw(t, "size"),
		}
		content := rapid.SliceOf(rapid.Byte()).Draw(t, "content")
		if rapid.Bool().Draw(t, "decodable") {
			e, content = encoded(t, richValue().Draw(t, "rich"))
		}
		limit := rapid.IntRange(-1, 300).Draw(t, "limit")
		text := Preview(e, content, limit)
		require.LessOrEqual(t, len(text), max(limit, 0))
		require.True(t, utf8.ValidString(text), "%q", text)
		require.Equal(t, -1, strings.IndexFunc(text, unicode.IsControl), "%q", text)
		if limit >= len("…") {
			require.NotEmpty(t, text)
		}
	})
}
