package isolate

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// collect writes chunks and returns the lines that come out.
func collect(o *Output, chunks ...string) []string {
	var got []string
	o.Each(func(line string) { got = append(got, line) })
	for _, c := range chunks {
		o.write([]byte(c))
	}
	o.finish()
	return got
}

func TestOutputLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"nothing", nil, nil},
		{"lines in parts", []string{"a", "b\nc\n", "\nd"}, []string{"ab", "c", "", "d"}},
		{"a progress bar", []string{"1%\r2%\r", "100%\r\nend\r\n"}, []string{"100%", "end"}},
		{"a long line", []string{strings.Repeat("x", maxLine), "y\n"}, []string{strings.Repeat("x", maxLine), "y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, collect(newOutput(1<<20), c.chunks...))
		})
	}
}

// Whatever is printed, in whatever pieces: what is kept is bounded, it is the beginning and the end, and what is left out is counted.
func TestOutputKeepsBothEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const keep = 4 << 10
		n := rapid.IntRange(0, 600).Draw(t, "lines")
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf("%d %s", i, strings.Repeat("x", rapid.IntRange(0, 40).Draw(t, "length"))))
		}
		text := strings.Join(all, "\n")
		var chunks []string
		for rest := text; rest != ""; {
			k := rapid.IntRange(1, 900).Draw(t, "chunk")
			chunks = append(chunks, rest[:min(k, len(rest))])
			rest = rest[min(k, len(rest)):]
		}
		o := newOutput(keep)
		got := collect(o, chunks...)
		require.EqualValues(t, len(text), o.Total())
		require.LessOrEqual(t, len(strings.Join(got, "\n")), keep+maxLine)
		require.Equal(t, text[max(0, len(text)-100):], o.Tail(100)[max(0, len(o.Tail(100))-len(text)):])
		gap := -1
		for i, line := range got {
			var left int
			if k, _ := fmt.Sscanf(line, "… %d bytes are left out here …", &left); k == 1 {
				gap = i
				kept := len(strings.Join(got[:i], "\n")) + 1 + len(strings.Join(got[i+1:], "\n"))
				require.InDelta(t, len(text)-kept, left, 2)
			}
		}
		if gap < 0 {
			require.Equal(t, text, strings.Join(got, "\n"))
			return
		}
		require.Equal(t, all[:gap], got[:gap])
		tail := got[gap+1:]
		require.NotEmpty(t, tail)
		require.True(t, strings.HasSuffix(text, strings.Join(tail, "\n")))
	})
}

func TestOutputOfMuchIsFastAndSmall(t *testing.T) {
	t.Parallel()
	o := newOutput(1 << 20)
	chunk := bytes.Repeat([]byte("y\n"), 32<<10)
	for range 2000 { // 125 MiB
		o.write(chunk)
	}
	got := collect(o)
	require.Less(t, len(got), 2*(1<<20)/lineCost)
	require.EqualValues(t, 2000*len(chunk), o.Total())
}
